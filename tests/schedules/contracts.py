"""What the schedules run: systems, the test's part in them, and the account at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roomgrad import (
    Array,
    Component,
    RuntimeSettings,
    Stream,
    System,
    backprop,
)
from roomgrad.runtime import runs
from roomgrad.runtime.model.log import StepRecord
from roomgrad.snapshots import pointers
from tests.integration.graphs import joins
from tests.integration.guests import squares
from tests.integration.model.learner import BATCH, Squares, Step
from tests.schedules.clients import (
    ENTER,
    FORWARD,
    GRADIENT,
    LEAVE,
    Client,
    Guest,
    Vector,
    batch,
)
from tests.schedules.stepping import NAMES, World

NUMBERS = {"DATA": Array("<f4", (BATCH,))}

LEARNS = System(
    "learns",
    (
        Stream(ENTER, FORWARD, NUMBERS, ("learner",)),
        Stream(ENTER, GRADIENT, NUMBERS),
        Stream(LEAVE, FORWARD, NUMBERS),
        Stream(LEAVE, GRADIENT, NUMBERS, ("learner",)),
    ),
    ("learner",),
)


@dataclass(frozen=True)
class Learner:
    """A component with a model, and where its forward passes and their gradients are."""

    name: str
    outputs: Stream
    gradients: Stream
    inputs: Callable[[Vector], Vector] = field(default=lambda x: x)


@dataclass(frozen=True)
class Contract:
    """A system, its replicas, and how many entries each stream has for one root."""

    name: str
    system: System
    components: Mapping[str, Callable[[], Component]]
    replicas: Sequence[str]
    learners: Sequence[Learner] = ()
    per_root: Mapping[tuple[str, str], int] = field(default_factory=dict)
    counters: Mapping[tuple[str, str], int] = field(default_factory=dict)
    answered: bool = False
    """Whether the test answers outputs by gradients."""

    pace: float = 1.0
    client: type[Client] = Client


def learner() -> Component:
    handlers = backprop.handlers(ENTER, LEAVE)
    return Component("learner", LEARNS, RuntimeSettings, handlers, model=lambda _: Squares())


def _joined(name: str) -> Learner:
    stream = joins.JOINED.stream
    return Learner(
        name,
        stream(joins.EMBEDDED, FORWARD),
        stream(joins.EMBEDDED, GRADIENT),
        lambda x: joins.side(name, x),
    )


_ONE = [Learner("learner", LEARNS.stream(LEAVE, FORWARD), LEARNS.stream(LEAVE, GRADIENT))]
_EACH = dict.fromkeys([("enter", "GRADIENT"), ("leave", "FORWARD"), ("leave", "GRADIENT")], 1)
EACH = {(room, f"DATA/{type_}"): count for (room, type_), count in _EACH.items()}

CONTRACTS = {
    each.name: each
    for each in (
        Contract("chain", LEARNS, {"learner": learner}, ["learner"] * 2, _ONE, EACH, answered=True),
        Contract(
            "grouped",
            LEARNS,
            {"learner": learner},
            ["learner"] * 2,
            _ONE,
            EACH,
            answered=True,
            pace=1 / 8,
        ),
        Contract(
            "join",
            joins.JOINED,
            {"head": joins.head, **{n: lambda n=n: joins.owner(n) for n in joins.OWNERS}},
            ["left", "right", "head", "head"],
            [_joined(name) for name in joins.OWNERS],
            {
                ("embedded", "DATA/FORWARD"): 2,
                ("embedded", "DATA/GRADIENT"): 2,
                ("out", "DATA/FORWARD"): 1,
            },
            {("left", "home"): 1, ("right", "home"): 1, ("head", "joined"): 1},
        ),
        Contract(
            "guest",
            squares.SQUARES,
            {name: lambda name=name: squares.component(name) for name in squares.COMPONENTS},
            ["first", "first", "second", "second"],
            client=Guest,
        ),
    )
}


# the account


def unfinished(world: World, contract: Contract) -> list[str]:
    """Return what some group still owes."""
    found = []
    groups = [*runs.groups(contract.system, NAMES)]
    keys = [NAMES.stream(room, type_).encode() for room, type_, _ in groups]
    replies = world.ask(*([b"XINFO", b"GROUPS", key] for key in keys))
    for key, (_, _, group), reply in zip(keys, groups, replies, strict=True):
        infos = [dict(zip(each[::2], each[1::2], strict=True)) for each in as_list(reply)]
        own = [each for each in infos if each[b"name"] == group.encode()]
        if not own or own[0][b"pending"] or own[0][b"lag"] != 0:
            found.append(f"{group} owes {own} of {key.decode()}")
    return found


def as_list(reply: Any) -> list[Any]:
    """Return a reply, and no item for an error."""
    return reply if isinstance(reply, list) else []


def account(world: World, contract: Contract, client: Client) -> list[str]:
    """Return what is wrong at the end of a schedule, as sentences."""
    wrong = [*world.errors, *unfinished(world, contract), *client.wrong()]
    for key, count in contract.per_root.items():
        found = Counter(each.root_id for each in client.entries(contract.system.stream(*key)))
        wrong += [
            f"root {number} has {found[root]} messages in {key}, expected {count}"
            for root, number in client.opened.items()
            if found[root] != count
        ]
        wrong += [f"{key} has another root: {root}" for root in found.keys() - client.opened.keys()]
    wrong += _of_counters(world, contract, len(client.opened))
    wrong += _left_over(world, contract)
    for each in contract.learners:
        wrong += _of_model(world, each, client)
    return wrong


def _of_counters(world: World, contract: Contract, roots: int) -> list[str]:
    fields = [(NAMES.counters(name).encode(), field.encode()) for name, field in contract.counters]
    values = world.ask(*([b"HGET", *each] for each in fields))
    return [
        f"{field} of {name} is {value} after {roots} roots, {count} for each"
        for ((name, field), count), value in zip(contract.counters.items(), values, strict=True)
        if int(value or 0) != count * roots
    ]


def _left_over(world: World, contract: Contract) -> list[str]:
    keys = [
        key(name).encode()
        for name in contract.components
        for key in (NAMES.memory, NAMES.kept, NAMES.later_bodies)
    ]
    dead, *hashes = world.ask(
        [b"XRANGE", NAMES.dead().encode(), b"-", b"+"], *([b"HKEYS", key] for key in keys)
    )
    found = [f"a dead letter: {fields}" for _, fields in dead]
    for key, fields in zip(keys, hashes, strict=True):
        if left := [each for each in fields if each != b"count"]:
            found.append(f"{key.decode()} still has {left}")
    return found


def _of_model(world: World, learner: Learner, client: Client) -> list[str]:
    """Compare a model with what one process makes of the steps in the order of the log."""
    call = world.server.call
    outputs = {each.id: each for each in client.entries(learner.outputs)}
    upstream = {each.id: each.array for each in client.entries(learner.gradients)}
    model, versions, name = Squares(), {}, learner.name
    now = ""
    seen: set[str] = set()
    for _, fields in call([b"XRANGE", NAMES.steps(name).encode(), b"-", b"+"]):
        record = StepRecord.of(fields)
        now = now or record.before
        versions[now] = model.weight
        if record.before != now or record.key in seen:
            return [f"{name}: step {record.version} follows {record.before}, expected {now}"]
        seen.add(record.key)
        output = outputs[record.key]
        x = learner.inputs(batch(client.opened[output.root_id]))
        made = (w for w in versions.values() if (w * w * x).tobytes() == output.array.tobytes())
        w = next(made, None)
        if w is None:
            return [f"{name}: the output of {record.key} is that of no version"]
        model.apply(Step(2 * w * x * upstream[record.key], 0))
        now = record.version
    applied, distinct = call([b"HMGET", NAMES.counters(name).encode(), b"applied", b"distinct"])
    counts = {len(seen), int(applied or 0), int(distinct or 0)}
    if counts != {len(client.opened)}:
        return [f"{name}: steps, applied, distinct are {counts} after {len(client.opened)} roots"]
    version, snapshots = call([b"HMGET", NAMES.model(name).encode(), b"version", pointers.FIELD])
    if now and version.decode() != now:
        return [f"{name}: the version is {version.decode()}, that of the log {now}"]
    holder = next(each for each in world.living if each.identity.component.name == name)
    if bytes(holder.model.dump()) != bytes(model.dump()):
        return [f"{name}: a replica holds other weights than one process"]
    newest = pointers.from_json(snapshots)[0]
    if newest.version in versions and newest.step:
        stored = call([b"GET", f"{NAMES.snapshot_piece(name, newest.place[6:], 0)}".encode()])
        if not (stored or b"").startswith(versions[newest.version].tobytes()):
            return [f"{name}: the snapshot of {newest.version} has other weights"]
    return []
