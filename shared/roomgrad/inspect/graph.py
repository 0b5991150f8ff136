"""Which component sends to which room: by consumer groups, heartbeats and declarations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from roomgrad.inspect.replicas import ReplicaState
from roomgrad.inspect.rooms import senders
from roomgrad.inspect.snapshot import RunSnapshot, StreamState
from roomgrad.names import ERRORS, LOGGING
from roomgrad.schema import Declaration


@dataclass(frozen=True)
class Node:
    """A component, or a room."""

    name: str
    kind: str
    """`component` or `room`."""

    alive: int = 0
    """Living replicas of a component."""

    waiting: int = 0
    """Messages that a component has not committed yet."""

    rate: float = 0.0
    """Messages per second that a component is sent, or that are sent to a room."""

    version: str = ""
    """Version of a component's weights."""


@dataclass(frozen=True)
class Edge:
    """The messages of one TYPE between a component and a room."""

    sender: str
    to: str
    type: str
    rate: float
    """Messages per second."""

    count: int
    """Messages since the snapshot before."""


@dataclass(frozen=True)
class Graph:
    """All nodes and edges of a run."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def graph(
    before: RunSnapshot,
    now: RunSnapshot,
    replicas: Sequence[ReplicaState],
    declared: Mapping[str, Declaration],
) -> Graph:
    """Return the graph of a run, with rates between two snapshots."""
    rates = now.rates(before)
    added = {flow.key: flow.added for flow in before.streams}
    # Notices and logs are left out: they tell that something happened, and train nothing.
    flows = [
        f for f in now.streams if f.room not in (ERRORS, LOGGING) and not f.room.startswith("@")
    ]
    sends = senders(declared)
    edges: list[Edge] = []
    for flow in flows:
        count = max(0, flow.added - added.get(flow.key, 0))
        about = (flow.type, rates.get(flow.stream_key, 0.0), count)
        room = _room_node(flow.room)
        edges += [Edge(sender, room, *about) for sender in sends.get(flow.stream_key, ())]
        edges += [Edge(room, name, *about) for name in _consumers(flow, declared)]
    components = {each.component for each in replicas} | set(declared)
    components |= {name for flow in flows for name in _consumers(flow, declared)}
    nodes = [_component(name, now, edges, replicas) for name in sorted(components)]
    return Graph((*nodes, *_rooms(flows, rates)), tuple(edges))


def _room_node(room: str) -> str:
    """Return the name of a room's node; a component may have the room's name."""
    return f"room:{room}"


def _consumers(flow: StreamState, declared: Mapping[str, Declaration]) -> list[str]:
    """Return the groups of a stream, and the components that read all of it without a group."""
    everyone = [
        name
        for name, said in declared.items()
        if said.everyone
        and any((each.room, each.type) == flow.stream_key for each in said.handlers)
    ]
    return sorted({*(group.name for group in flow.groups), *everyone})


def _component(
    name: str, now: RunSnapshot, edges: Iterable[Edge], replicas: Iterable[ReplicaState]
) -> Node:
    own = [each for each in replicas if each.component == name]
    return Node(
        name,
        "component",
        alive=now.replicas(name),
        waiting=sum(flow.behind(name) for flow in now.streams),
        rate=round(sum(each.rate for each in edges if each.to == name), 1),
        version=max((each.version or each.model for each in own), default=""),
    )


def _rooms(flows: Iterable[StreamState], rates: Mapping[tuple[str, str], float]) -> list[Node]:
    found: dict[str, float] = {}
    for flow in flows:
        found[flow.room] = found.get(flow.room, 0.0) + rates.get(flow.stream_key, 0.0)
    return [Node(_room_node(name), "room", rate=round(rate, 1)) for name, rate in found.items()]
