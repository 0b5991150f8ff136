"""Which component sends to which room: by consumer groups, heartbeats and declarations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from roomgrad.inspect.gathered import gathered
from roomgrad.inspect.members import alike, family, spans
from roomgrad.inspect.replicas import ReplicaState
from roomgrad.inspect.rooms import senders
from roomgrad.inspect.snapshot import RunSnapshot, StreamState
from roomgrad.names import ERRORS, LOGGING
from roomgrad.rooms import System
from roomgrad.schema import Declaration


@dataclass(frozen=True)
class Node:
    """A component, or a room; or those of an ensemble."""

    name: str
    kind: str
    """`component` or `room`."""

    alive: int = 0
    """Living replicas of a component."""

    missing: str = ""
    """The component if it has no living replica; of an ensemble the members without one."""

    waiting: int = 0
    """Messages that a component has not committed yet."""

    rate: float = 0.0
    """Messages per second that a component is sent, or that are sent to a room."""

    version: str = ""
    """Version of a component's weights."""


@dataclass(frozen=True)
class Edge:
    """The messages of one TYPE between a component and a room, or those of an ensemble."""

    sender: str
    to: str
    type: str
    rate: float
    """Messages per second."""

    count: int
    """Messages since the snapshot before."""

    waiting: int = 0
    """Messages that the component has not committed yet."""

    parts: tuple[str, ...] = ()
    """The senders, or rooms, whose messages the component handles together."""


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
    system: System | None = None,
) -> Graph:
    """Return the graph of a run, with rates between two snapshots.

    An ensemble is one node, and so are its rooms if their readers are alike.
    """
    rates = now.rates(before)
    # Notices and logs are left out: they tell that something happened, and train nothing.
    flows = [
        f for f in now.streams if f.room not in (ERRORS, LOGGING) and not f.room.startswith("@")
    ]
    edges = [*_edges(before, now, flows, declared, system)]
    components = {each.component for each in replicas} | set(declared)
    components |= {name for flow in flows for name in _consumers(flow, declared)}
    rooms = dict.fromkeys(_room_node(flow.room) for flow in flows)
    labels = _labels(edges, sorted(components), rooms)
    groups = alike(sorted(components), lambda name: labels[name])
    nodes = [_component(each, now, edges, replicas) for each in groups]
    merged = alike(edges, lambda each: (labels[each.sender], labels[each.to], each.type))
    return Graph(
        (*nodes, *_rooms(flows, rates, labels)), tuple(_merged(each, labels) for each in merged)
    )


def _room_node(room: str) -> str:
    """Return the name of a room's node; a component may have the room's name."""
    return f"room:{room}"


def _edges(
    before: RunSnapshot,
    now: RunSnapshot,
    flows: Iterable[StreamState],
    declared: Mapping[str, Declaration],
    system: System | None,
) -> Iterator[Edge]:
    """Yield the edges between single components and rooms."""
    added = {flow.key: flow.added for flow in before.streams}
    rates, sends = now.rates(before), senders(declared)
    parts = {
        (each.component, key): spans(each.parts)
        for each in gathered(system, declared)
        for key in each.streams
    }
    for flow in flows:
        count = max(0, flow.added - added.get(flow.key, 0))
        about = (flow.type, rates.get(flow.stream_key, 0.0), count)
        room = _room_node(flow.room)
        for sender in sends.get(flow.stream_key, ()):
            yield Edge(sender, room, *about)
        for name in _consumers(flow, declared):
            together = parts.get((name, flow.stream_key), ())
            yield Edge(room, name, *about, flow.behind(name), together)


def _labels(
    edges: Iterable[Edge], components: Iterable[str], rooms: Iterable[str]
) -> dict[str, str]:
    """Return the name of the node that shows a component or a room."""
    readers: dict[str, set[tuple[str, str]]] = {room: set() for room in rooms}
    for each in edges:  # senders are known when they have run
        if each.sender in readers:
            readers[each.sender].add((each.type, family(each.to)))
    groups = alike(components, family)
    groups += alike(rooms, lambda room: (family(room), frozenset(readers[room])))
    return {name: spans(each)[0] for each in groups for name in each}


def _merged(edges: Sequence[Edge], labels: Mapping[str, str]) -> Edge:
    """Return one edge for those of an ensemble; messages to several members count once."""
    one = edges[0]
    rooms = {each.sender if one.sender.startswith("room:") else each.to: each for each in edges}
    return Edge(
        labels[one.sender],
        labels[one.to],
        one.type,
        rate=sum(each.rate for each in rooms.values()),
        count=sum(each.count for each in rooms.values()),
        waiting=sum(each.waiting for each in edges),
        parts=one.parts,
    )


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
    names: Sequence[str],
    now: RunSnapshot,
    edges: Iterable[Edge],
    replicas: Iterable[ReplicaState],
) -> Node:
    own = [each for each in replicas if each.component in names]
    alive = {name: now.replicas(name) for name in names}
    missing = spans(name for name, count in alive.items() if not count)
    return Node(
        spans(names)[0],
        "component",
        alive=sum(alive.values()),
        missing=", ".join(missing),
        waiting=sum(flow.behind(name) for flow in now.streams for name in names),
        rate=round(sum(each.rate for each in edges if each.to in names), 1),
        version=max((each.version or each.model for each in own), default=""),
    )


def _rooms(
    flows: Iterable[StreamState],
    rates: Mapping[tuple[str, str], float],
    labels: Mapping[str, str],
) -> list[Node]:
    found: dict[str, float] = {}
    for flow in flows:
        name = labels[_room_node(flow.room)]
        found[name] = found.get(name, 0.0) + rates.get(flow.stream_key, 0.0)
    return [Node(name, "room", rate=round(rate, 1)) for name, rate in found.items()]
