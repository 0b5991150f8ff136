"""Who sends to whom, as it really is: groups, heartbeats, and what components declare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from roomgrad.inspect.replicas import ReplicaState
from roomgrad.inspect.rooms import senders
from roomgrad.inspect.streams import Flow, Flows
from roomgrad.names import ERRORS, LOGGING
from roomgrad.schema import Declaration


@dataclass(frozen=True)
class Node:
    """A component, or a room."""

    name: str
    kind: str
    """`component` or `room`."""

    alive: int = 0
    """Replicas of a component."""

    waiting: int = 0
    """Messages that wait for a component, or in its hands."""

    rate: float = 0.0
    """Messages a second that a component is given, or a room gets."""

    version: str = ""
    """Of a component's weights."""


@dataclass(frozen=True)
class Edge:
    """One TYPE between a component and a room."""

    sender: str
    to: str
    type: str
    rate: float
    count: int
    """Messages since the look before."""


@dataclass(frozen=True)
class Graph:
    """All of it."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def graph(
    before: Flows,
    now: Flows,
    replicas: Sequence[ReplicaState],
    declared: Mapping[str, Declaration],
) -> Graph:
    """The graph of two looks at a run."""
    rates = now.rates(before)
    counts = _counts(before, now)
    flows = [flow for flow in now.flows if _is_shown(flow)]
    sends = senders(declared)
    edges = [
        Edge(sender, _room(flow), flow.type, rates.get(flow.place, 0.0), counts.get(flow.key, 0))
        for flow in flows
        for sender in sends.get(flow.place, ())
    ]
    for flow in flows:
        for name in _listeners(flow, declared):
            rate, count = rates.get(flow.place, 0.0), counts.get(flow.key, 0)
            edges.append(Edge(_room(flow), name, flow.type, rate, count))
    components = {each.component for each in replicas} | set(declared)
    components |= {name for flow in flows for name in _listeners(flow, declared)}
    nodes = [_component(name, now, edges, replicas) for name in sorted(components)]
    return Graph((*nodes, *_rooms(flows, rates)), tuple(edges))


def _is_shown(flow: Flow) -> bool:
    """Rooms of a contract always; notices and logs only say that something happened."""
    return flow.room not in (ERRORS, LOGGING) and not flow.room.startswith("@")


def _counts(before: Flows, now: Flows) -> dict[str, int]:
    added = {flow.key: flow.added for flow in before.flows}
    return {flow.key: max(0, flow.added - added.get(flow.key, 0)) for flow in now.flows}


def _room(flow: Flow) -> str:
    """The node of a room, which may be called as a component is."""
    return f"room:{flow.room}"


def _listeners(flow: Flow, declared: Mapping[str, Declaration]) -> list[str]:
    """Groups, and who sees everything without one."""
    watchers = [
        name
        for name, said in declared.items()
        if said.everyone and any((each.room, each.type) == flow.place for each in said.handlers)
    ]
    return sorted({*(group.name for group in flow.groups), *watchers})


def _component(
    name: str, now: Flows, edges: Iterable[Edge], replicas: Iterable[ReplicaState]
) -> Node:
    own = [each for each in replicas if each.component == name]
    return Node(
        name,
        "component",
        alive=now.alive(name),
        waiting=sum(flow.behind(name) for flow in now.flows),
        rate=round(sum(each.rate for each in edges if each.to == name), 1),
        version=max((each.version or each.model for each in own), default=""),
    )


def _rooms(flows: Iterable[Flow], rates: Mapping[tuple[str, str], float]) -> list[Node]:
    found: dict[str, float] = {}
    for flow in flows:
        found[flow.room] = found.get(flow.room, 0.0) + rates.get(flow.place, 0.0)
    return [Node(f"room:{name}", "room", rate=round(rate, 1)) for name, rate in found.items()]
