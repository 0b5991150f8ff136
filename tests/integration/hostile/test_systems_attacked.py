"""Both systems get rubbish in every stream while they work, and do all that they should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from roomgrad import Component, Message, Stream, System
from roomgrad.codec import encode
from roomgrad.redis.client import Client
from roomgrad.rooms import Array
from roomgrad.testing import running
from roomgrad_melody.contract import (
    COMMAND,
    CONTROL,
    CUSTOM,
    EVALNET,
    EVOLUTION_ROOM,
    LEARNER,
    MELODY,
    USER,
)
from roomgrad_melody.evalnet.handlers import component as evalnet
from roomgrad_melody.evolution.handlers import component as evolution
from roomgrad_melody.genome import random_genomes
from roomgrad_melody.learner.handlers import component as learner
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.contract import TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.trainer.handlers import component as trainer
from tests.integration.conftest import QUICK, EchoRun
from tests.waiting import until

STEPS = 40
ENDED = "ended-by-rubbish"  # a root that nobody has


def start(echo: EchoRun, component: Component, **settings: Any) -> None:
    made = component.settings(**{"run": echo.names.run, **QUICK, **settings})
    replica = echo.stack.enter_context(running(component, made, echo.url))
    until(lambda: echo.client.exists(echo.names.alive(replica.consumer)))


def rubbish(stream: Stream) -> Iterator[list[bytes]]:
    """Entries that no stream takes, and some that only this one does not take."""
    good = {"ID": "i", "ROOT_ID": ENDED, "TYPE": stream.key[1], "MODEL_STATUS": 1}

    def entry(**changes: Any) -> list[bytes]:
        return [b"ROOT_ID", ENDED.encode(), b"m", orjson.dumps({**good, **changes})]

    yield [b"hello", b"world"]
    yield [b"m", b"\x80\x04\x95"]
    yield entry(EXTRA=1)
    yield entry(ROOT_ID=[])
    yield entry(MODEL_STATUS=True)
    for name, schema in stream.schema.items():
        if not isinstance(schema, Array):
            yield entry(**{name: "x" * 200})
            continue
        spec = {"field": name, "dtype": schema.dtype, "shape": [2**40]}
        yield entry(**{name: {"$array": spec}})
        yield entry(**{name: "text"})
        yield entry(**{name: [[[[[1]]]]]})
        shape = [3 if isinstance(each, str) else each for each in schema.shape]
        bytes_of = np.full(shape, 2, schema.dtype)
        if bytes_of.dtype.kind == "f":
            bytes_of[...] = np.nan
        elif stream.room in (EVOLUTION_ROOM, USER) and name == "GENOMES":
            pass  # 2 is no bit
        else:
            continue
        if not schema.nullable:
            spec = {"field": name, "dtype": schema.dtype, "shape": shape}
            yield [*entry(**{name: {"$array": spec}}), name.encode(), bytes_of.tobytes()]


def throw(echo: EchoRun, system: System) -> list[str]:
    """Everything into every stream; the entries, once for each group that has to bury them."""
    found = []
    for stream in system.streams:
        for fields in rubbish(stream):
            key = echo.names.stream(*stream.key)
            entry = echo.client.execute_command("XADD", key, "*", *fields).decode()
            found += [entry] * len(stream.consumers)
    return found


def buried(echo: EchoRun) -> list[str]:
    return [orjson.loads(letter[b"history"])["entry"] for letter in echo.dead_letters()]


def consumers(system: System) -> list[tuple[Stream, str]]:
    return [(stream, group) for stream in system.streams for group in stream.consumers]


def test_the_trebuchet_learns_on(own_echo: EchoRun) -> None:
    """Every batch once, every letter once, nothing given up and nothing left over."""
    echo = own_echo
    start(echo, simulator, pictures=0)
    start(echo, controlmodel, train_steps=STEPS)
    start(echo, trainer, train_steps=STEPS, batch_size=4)
    thrown = throw(echo, TREBUCHET)
    thrown += throw(echo, TREBUCHET)
    until(lambda: ledger.read(echo.client, echo.names).finished == STEPS)
    until(lambda: sorted(buried(echo)) == sorted(thrown))
    found = ledger.read(echo.client, echo.names)
    assert (found.sent, found.dead, found.open) == (STEPS, 0, 0)
    assert (found.applied, found.distinct, found.lost, found.duplicates) == (STEPS, STEPS, 0, 0)
    for component in TREBUCHET.components:
        until(lambda name=component: not echo.client.exists(echo.names.memory(name)))
        assert not echo.client.exists(echo.names.kept(component))
    for stream, group in consumers(TREBUCHET):
        assert echo.pending(stream, group) == 0


REFUSED = {
    "a rating of 6": ({"FITNESS": [6.0]}, "expected numbers from 0 to 5"),
    "a rating of -1": ({"FITNESS": [-1.0]}, "expected numbers from 0 to 5"),
    "half a rating": ({"FITNESS": [2.5]}, "a rating is 2.5"),
    "two ratings": ({"FITNESS": [1.0, 2.0]}, "1 genomes came with 2 FITNESS"),
    "no ratings": ({"FITNESS": []}, "1 genomes came with 0 FITNESS"),
    "infinite": ({"FITNESS": [np.inf]}, "got infinity"),
    "nobody asked": ({"FITNESS": [3.0]}, "is not part of the question"),
    "taken back": ({"FITNESS": [np.nan]}, "has no rating that could be taken back"),
    "a long name": ({"FITNESS": [3.0], "RATER": "x" * 129}, "RATER: expected"),
    "another conflict": ({"FITNESS": [3.0], "CONFLICT": "drop"}, "CONFLICT: expected keep or"),
    "plays of two": ({"FITNESS": [3.0], "PLAYS": [1, 2]}, "1 genomes came with 2 PLAYS"),
    "a short genome": ({"FITNESS": [3.0], "GENOMES": np.zeros((1, 127), "u1")}, "(n, 128)"),
    "a long genome": ({"FITNESS": [3.0], "GENOMES": np.zeros((1, 129), "u1")}, "(n, 128)"),
    "a flat genome": ({"FITNESS": [3.0], "GENOMES": np.zeros(128, "u1")}, "(n, 128)"),
    "bits of 2": ({"FITNESS": [3.0], "GENOMES": np.full((1, 128), 2, "u1")}, "from 0 to 1"),
    "no genomes": ({"FITNESS": [], "GENOMES": np.zeros((0, 128), "u1")}, "and not empty"),
}  # fmt: skip


def unchecked(room: Any, **fields: Any) -> list[bytes]:
    """An entry as roomgrad would write it if it did not check."""
    free = Stream(room, CUSTOM, {})
    message = Message.open(room, type=CUSTOM)
    entry = encode(message, free)
    text = orjson.loads(entry[5])
    for name, value in fields.items():
        if isinstance(value, str):
            text[name] = value
            continue
        kind = {"GENOMES": "|u1", "PLAYS": "<i8", "PROBS": "<f4", "SCORES": "<f4"}.get(name, "<f8")
        array = np.asarray(value, kind)
        text[name] = {"$array": {"field": name, "dtype": kind, "shape": list(array.shape)}}
        entry += [name.encode(), array.tobytes()]
    entry[5] = orjson.dumps(text)
    return entry


def test_the_melody_maker_goes_on(own_echo: EchoRun) -> None:
    """Nothing wrong is stored, breeding goes on, questions are open and are answered."""
    echo = own_echo
    start(echo, evalnet)
    start(echo, learner, nr_of_unlabeled_data=20, epochs=1)
    start(echo, evolution, population=10, pause_s=0.05, generations_per_label=0)
    thrown = throw(echo, MELODY)
    reasons = {}
    for name, (fields, reason) in REFUSED.items():
        entry = unchecked(USER, **{"GENOMES": random_genomes(9, 9, 1), **fields})
        key = echo.names.stream(USER.name, CUSTOM.value)
        reasons[echo.client.execute_command("XADD", key, "*", *entry).decode()] = (name, reason)
    until(lambda: sorted(buried(echo)) == sorted([*thrown, *reasons]))
    for letter in echo.dead_letters():
        history = orjson.loads(letter[b"history"])
        if history["entry"] in reasons:
            name, reason = reasons[history["entry"]]
            assert reason in history["reason"], name
    assert not echo.client.exists(echo.names.table("labels"))
    before = echo.client.hlen(echo.names.table("generations"))
    until(lambda: echo.client.hlen(echo.names.table("generations")) > before + 2)
    open_ = until(lambda: echo.client.hgetall(echo.names.table("questions")))
    melody, record = next(iter(open_.items()))
    genome = np.frombuffer(melody, "u1").reshape(1, 128) - ord("0")
    fields = {"GENOMES": genome, "FITNESS": np.array([4.0]), "RATER": "me"}
    message = Message.open(USER, type=CUSTOM, **fields)
    message.root_id = orjson.loads(record)["root"]
    with Client(MELODY, echo.names.run, echo.url) as client:
        client.send(message)
        client.send(Message.open(CONTROL, type=COMMAND, CMD="STOP"))
    until(lambda: echo.client.hlen(echo.names.table("labels")) == 1)
    until(lambda: echo.counter("finished", LEARNER) == echo.counter("sent", LEARNER) > 0)
    until(lambda: echo.client.hlen(echo.names.memory(EVALNET)) == 0)


@pytest.mark.parametrize("system", [TREBUCHET, MELODY], ids=["trebuchet", "melody"])
def test_every_stream_has_rubbish_of_its_own(system: System) -> None:
    """None was forgotten."""
    for stream in system.streams:
        assert len(list(rubbish(stream))) > 5
