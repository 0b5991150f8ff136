"""The graph of a run: an ensemble is one node, and what is handled together is marked."""

from __future__ import annotations

from roomgrad import Array, Ensemble, MessageType, Room, Stream, System
from roomgrad.inspect.graph import Edge, Graph, graph
from roomgrad.inspect.replicas import ReplicaState, merged
from roomgrad.inspect.snapshot import ConsumerGroup, RunSnapshot, StreamState
from roomgrad.names import Names
from roomgrad.schema import Declaration, HandlerDeclaration

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
NUMBERS = {"DATA": Array("<f4", (4,))}
MODELS = Ensemble("model", 12)
ALL, ACT, OUT, STAGE = Room("all"), Room("act"), Room("out"), Room("stage")
ZOO = System(
    "zoo",
    (
        Stream(ALL, FORWARD, NUMBERS, MODELS.names),
        Stream(ALL, GRADIENT, NUMBERS, ("teacher",), senders=MODELS.names),
        *MODELS.streams(Stream(ACT, FORWARD, NUMBERS)),
        Stream(OUT, FORWARD, NUMBERS, ("teacher",)),
        Stream(Room("stage.0"), FORWARD, NUMBERS, ("teacher",)),
        Stream(Room("stage.1"), FORWARD, NUMBERS, ("judge",)),
    ),
    ("teacher", "judge", *MODELS.names),
)
DECLARED = {
    "teacher": Declaration(
        (HandlerDeclaration("vote", OUT.name, FORWARD.value, (), senders=MODELS.names),)
    ),
    **{
        name: Declaration(
            (HandlerDeclaration("act", ALL.name, FORWARD.value, (("out", FORWARD.value),)),)
        )
        for name in MODELS.names
    },
}


def snapshot(seconds: int, added: int, dead: tuple[str, ...] = ()) -> RunSnapshot:
    """A run in which each stream has so many messages, and each reader one that waits."""
    names = Names("zoo")
    streams = [
        StreamState(
            *each.key,
            names.stream(*each.key),
            added=added,
            groups=tuple(ConsumerGroup(n, names.stream(*each.key), 1, 0) for n in each.consumers),
        )
        for each in ZOO.streams
    ]
    alive = {f"{name}~vm~1~0": None for name in ZOO.components if name not in dead}
    return RunSnapshot(names, seconds * 1_000_000, tuple(streams), alive)


def drawn(*dead: str) -> Graph:
    """The graph of two seconds, in which ten messages came into each stream."""
    return graph(snapshot(0, 0), snapshot(2, 10, dead), [], DECLARED, ZOO)


def test_an_ensemble_is_a_node_and_so_are_the_rooms_of_its_members() -> None:
    """Rooms with a number that other components read are none of these."""
    nodes = {each.name: each for each in drawn().nodes}
    rooms = {"room:all", "room:act.0-11", "room:out", "room:stage.0", "room:stage.1"}
    assert nodes.keys() == {"model.0-11", "teacher", "judge"} | rooms
    models = nodes["model.0-11"]
    assert (models.alive, models.missing, models.waiting) == (12, "", 24)
    assert nodes["room:act.0-11"].rate == 12 * 5
    assert nodes["room:all"].rate == 10


def test_members_without_a_replica_are_named() -> None:
    nodes = {each.name: each for each in drawn("model.3", "model.4", "judge").nodes}
    assert (nodes["model.0-11"].alive, nodes["model.0-11"].missing) == (10, "model.3-4")
    assert (nodes["judge"].alive, nodes["judge"].missing) == (0, "judge")


def test_what_is_handled_together_names_its_parts() -> None:
    """A message to all members counts once, and waits for each."""
    edges = {(each.sender, each.to, each.type): each for each in drawn().edges}
    asked = edges["room:all", "model.0-11", FORWARD.value]
    assert asked == Edge("room:all", "model.0-11", FORWARD.value, 5.0, 10, 12, ())
    joined = edges["room:out", "teacher", FORWARD.value]
    added = edges["room:all", "teacher", GRADIENT.value]
    assert joined.parts == added.parts == ("model.0-11",)
    assert edges["room:act.0-11", "model.0-11", FORWARD.value].count == 12 * 10
    answers = edges["model.0-11", "room:out", FORWARD.value]
    assert (answers.count, answers.parts) == (10, ())


def test_replicas_of_an_ensemble_are_one_for_a_person() -> None:
    """At the step of the member that is behind."""
    found = [
        ReplicaState(name, "vm", 7, name, alive=True, version=f"{9 - at % 2}-00ff", pending=1)
        for at, name in enumerate(MODELS.names)
    ]
    [one] = merged(found)
    assert (one.component, one.pending, one.version) == ("model.0-11", 12, "8-00ff")
