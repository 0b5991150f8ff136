"""Vertical learning: three processes train one network, and no one sees another's data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import redis

from roomgrad import Message, exact_json
from roomgrad.inspect import models
from roomgrad.inspect.progress import read
from roomgrad.redis.client import Client
from roomgrad_split.contract import EMBEDDED, HEAD, LEFT, OWNERS, RIGHT, ROWS, SPLIT
from roomgrad_split.progress import progress
from roomgrad_split.table import COLUMNS, batch, batches, features, labels
from tests.forked import Forked
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.graphs.graph_run import killed
from tests.integration.split import one_process
from tests.integration.split.one_process import BATCH, OneProcess
from tests.waiting import LIMIT_S, until

pytestmark = pytest.mark.timeout(240)

EPOCHS = 2


@dataclass
class Split:
    """A run of the system, in processes."""

    echo: EchoRun

    def spawn(self, name: str, die_at: str = "") -> Forked:
        given = {"threads": 1} | ({"epochs": EPOCHS} if name == HEAD else {})
        module, environ = "tests.integration.split.dying", {"DIE_AT": die_at}
        return self.echo.spawn_module(module, name, environ=environ, **given)

    def finish(self) -> None:
        """Wait for the accuracy after the last epoch, when every key of a root is gone."""
        until(lambda: len(self.table("accuracy")) == EPOCHS, timeout_s=2 * LIMIT_S)
        client, names = self.echo.client, self.echo.names
        until(lambda: not any(client.exists(names.memory(each)) for each in SPLIT.components))

    def table(self, name: str) -> list[dict[str, float]]:
        """Return the records of a table, in order."""
        found = self.echo.client.hgetall(self.echo.names.table(name))
        return [exact_json.loads(found[key]) for key in sorted(found, key=int)]

    def weights(self, name: str) -> dict[str, bytes]:
        found = models.stored(self.echo.client, self.echo.names, name, wait_s=LIMIT_S)
        assert found.behind == 0
        return {each.name: each.data for each in found.weights()}

    def check(self, alone: OneProcess) -> None:
        """Require the bits of one process, and each batch learned once."""
        for name in SPLIT.components:
            assert self.weights(name) == alone.weights(name)
            assert self.echo.counter("distinct", name) == EPOCHS * batches(BATCH)
        assert [each["loss"] for each in self.table("losses")] == alone.losses
        assert [each["accuracy"] for each in self.table("accuracy")] == alone.accuracies

    def keys(self) -> dict[str, bytes]:
        """Return what each key of the run holds, as it was written."""
        return {key: held(self.echo.client, key) for key in self.names()}

    def names(self) -> list[str]:
        return [key.decode() for key in self.echo.client.scan_iter(f"*{self.echo.names.run}*")]


def held(client: redis.Redis, key: str) -> bytes:
    """Return every byte of a key of any type."""
    kind = client.type(key)
    if kind == b"string":
        return bytes(client.get(key) or b"")
    if kind == b"hash":
        return b" ".join(part for pair in client.hgetall(key).items() for part in pair)
    if kind == b"stream":
        pairs = [pair for _, fields in client.xrange(key) for pair in fields.items()]
        return b" ".join(part for pair in pairs for part in pair)
    if kind == b"zset":
        return b" ".join(client.zrange(key, 0, -1))
    if kind == b"set":
        return b" ".join(client.smembers(key))
    assert kind == b"list", kind
    return b" ".join(client.lrange(key, 0, -1))


@pytest.fixture
def split(embedded_url: str) -> Iterator[Split]:
    for echo in make_echo_run(embedded_url):
        yield Split(echo)


@pytest.fixture(scope="module")
def alone() -> OneProcess:
    return one_process.train(EPOCHS)


def test_three_processes_learn_the_bits_of_one(split: Split, alone: OneProcess) -> None:
    for name in SPLIT.components:
        split.spawn(name)
    split.finish()
    split.check(alone)
    assert split.echo.dead_letters() == []
    now = progress(split.echo.client, split.echo.names)
    assert now is not None
    assert (now.done, now.total, now.unit) == (EPOCHS, EPOCHS, "epochs")
    assert now.details == (f"held-out accuracy {alone.accuracies[-1]:.1%}",)
    assert alone.accuracies[-1] > 0.85


@pytest.mark.parametrize(
    "name", [HEAD, *(pytest.param(owner, marks=pytest.mark.slow) for owner in (LEFT, RIGHT))]
)
def test_a_component_that_is_killed_changes_no_bit(
    split: Split, alone: OneProcess, name: str
) -> None:
    """Before its commit is sent, and before it is answered."""
    for other in SPLIT.components:
        if other != name:
            split.spawn(other)
    killed(split.spawn(name, "send 11"))
    killed(split.spawn(name, "answer 8"))
    split.spawn(name)
    split.finish()
    split.check(alone)


def test_no_key_holds_features_or_labels(split: Split) -> None:
    """Neither while a root waits for an owner nor afterwards. Row numbers are found."""
    split.spawn(HEAD)
    split.spawn(LEFT)
    first = batch(0, 0, BATCH)
    until(lambda: split.echo.client.exists(split.echo.names.memory(HEAD)))
    until(lambda: split.echo.client.exists(split.echo.names.memory(LEFT)))
    until(lambda: split.echo.client.xlen(split.echo.names.stream(EMBEDDED.name, "DATA/FORWARD")))
    waiting = split.keys()
    split.spawn(RIGHT)
    split.finish()
    after = split.keys()
    forms = list(label_forms())
    rows = split.echo.names.stream(ROWS.name, "DATA/FORWARD")
    assert first.tobytes() in after[rows]
    assert first.tobytes() in waiting[split.echo.names.memory(LEFT)]
    for key, content in [*waiting.items(), *after.items()]:
        assert not holds_features(content), key
        assert not any(form in content for form in forms), key
    assert holds_features(b"any" + features(RIGHT).numpy()[7, 3:5].tobytes())


def holds_features(content: bytes) -> bool:
    """Return whether two neighbors in a row or a column of an owner are anywhere in it."""
    pairs = []
    for name in OWNERS:
        values = features(name).numpy()
        pairs += [np.stack([values[:, :-1], values[:, 1:]], -1)]
        pairs += [np.stack([values[:-1], values[1:]], -1)]
    secrets = np.concatenate([each.reshape(-1, 2).view("<u8").ravel() for each in pairs])
    found = (content[at : at + (len(content) - at) // 8 * 8] for at in range(min(8, len(content))))
    return any(np.isin(np.frombuffer(each, "<u8"), secrets).any() for each in found)


def label_forms() -> Iterator[bytes]:
    """Yield the labels of each batch, in bytes of some dtypes and as JSON."""
    for number in range(EPOCHS * batches(BATCH)):
        own = labels().numpy()[batch(0, number, BATCH)]
        for kind in ("<f4", "<f8", "<i8", "<i4", "|i1"):
            same = own.astype(kind)
            yield same.tobytes()
            yield json.dumps(same.tolist(), separators=(",", ":")).encode()


def test_the_owners_have_different_columns() -> None:
    assert sorted([*COLUMNS[LEFT], *COLUMNS[RIGHT]]) == list(range(30))
    assert [features(name).shape for name in OWNERS] == [(569, 15)] * 2


def test_a_root_of_a_guest_is_no_batch(split: Split, alone: OneProcess) -> None:
    """The head has no labels for it: it becomes a dead letter, and the training goes on."""
    split.spawn(LEFT)
    split.spawn(RIGHT)
    with Client(SPLIT, split.echo.names.run, split.echo.url) as client:
        client.send(Message.open(ROWS, np.arange(3)))
    split.spawn(HEAD)
    split.finish()
    split.check(alone)
    assert len(split.echo.dead_letters()) == 1


def test_what_joins_count_is_among_the_details(split: Split) -> None:
    """Also of a system with a ledger of its own; what else is counted is left out."""
    client, names = split.echo.client, split.echo.names
    client.hset(names.run_info(), f"settings:{HEAD}", exact_json.dumps({"epochs": 3}))
    client.hset(names.run_info(), f"settings:{LEFT}", exact_json.dumps({}))
    client.hset(names.table("accuracy"), "1", exact_json.dumps({"epoch": 1, "accuracy": 0.5}))
    for name, late in ((HEAD, 2), (LEFT, 1)):
        client.hset(names.counters(name), mapping={"late_parts": late, "applied": 7})
    found = read(client, names)
    assert found is not None
    assert found.details == ("held-out accuracy 50.0%", "late_parts 3")
