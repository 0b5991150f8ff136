"""Messages that an operator deletes: what is lost is found, and the run goes on without --fresh."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from roomgrad.codec import pack
from roomgrad.inspect import lost
from roomgrad.names import Names
from roomgrad.ops.give_up import give_up
from roomgrad.redis.server import connect
from roomgrad.testing import running, throwaway_server
from roomgrad_trebuchet.contract import FORWARD, GRADIENT, INPUT, MODEL, OUTPUT, TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.simulator.settings import SimulatorSettings
from roomgrad_trebuchet.trainer.handlers import component as trainer
from roomgrad_trebuchet.trainer.settings import TrainerSettings
from tests import roomgrad_command
from tests.integration.doctor.conftest import PROBLEM, WARNING, bad, begin, do, examined, only
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

MANY = 1_000_000
NAMES = Names("trebuchet")
QUICK = {"stop_s": 0.2, "block_s": 0.1, "heartbeat_interval_s": 0.2}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with throwaway_server() as server:
        yield server.url


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(connect(url)) as client:
        client.flushall()
        yield client


class Training:
    """The three components of a training, each of which can be stopped."""

    def __init__(self, url: str) -> None:
        settings = {
            "controlmodel": (controlmodel, ControlModelSettings(train_steps=MANY, **QUICK)),
            "simulator": (simulator, SimulatorSettings(**QUICK)),
            "trainer": (trainer, TrainerSettings(train_steps=MANY, **QUICK)),
        }
        self._settings, self._url = settings, url
        self._running: dict[str, ExitStack] = {}

    def __enter__(self) -> Training:
        for name in self._settings:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.stop(name)

    def start(self, name: str) -> None:
        self._running[name] = ExitStack()
        self._running[name].enter_context(running(*self._settings[name], self._url))

    def stop(self, name: str) -> None:
        self._running.pop(name).close()


def finished(client: redis.Redis) -> int:
    return int(client.hget(NAMES.counters("trainer"), "finished") or 0)


def waiting(client: redis.Redis, key: str, group: str) -> int:
    groups: Any = client.xinfo_groups(key)
    return next(each["lag"] or 0 for each in groups if each["name"].decode() == group)


HOPS = [
    (INPUT, FORWARD, "controlmodel"),
    (MODEL, FORWARD, "simulator"),
    (OUTPUT, FORWARD, "trainer"),
    (OUTPUT, GRADIENT, "simulator"),
    (MODEL, GRADIENT, "controlmodel"),
    (INPUT, GRADIENT, "trainer"),
]


@pytest.mark.parametrize(("room", "type_", "consumer"), HOPS)
def test_a_message_that_was_deleted_in_any_hop_is_found_and_the_run_goes_on(
    client: redis.Redis, url: str, room: Any, type_: Any, consumer: str
) -> None:
    """Its root is lost; when it is given up, the trainer opens the next batch."""
    key = NAMES.stream(room.name, type_.value)
    with Training(url) as training:
        until(lambda: finished(client) > 1)
        while True:  # the consumer is stopped before one of its two hops
            training.stop(consumer)
            time.sleep(0.3)
            if waiting(client, key, consumer):
                break
            training.start(consumer)
            time.sleep(0.2)
        assert lost.find(client, NAMES, TREBUCHET.components, 0.1) == lost.Lost()
        client.xtrim(key, maxlen=0, approximate=False)
        training.start(consumer)
        before = finished(client)

        def found() -> lost.Lost:
            return lost.find(client, NAMES, TREBUCHET.components, 0.5)

        until(lambda: found().roots)
        (root,) = found().roots
        assert "trainer" in root.remembered_by
        give_up(client, NAMES, TREBUCHET, [root.root_id])
        until(lambda: finished(client) > before + 1)
        until(lambda: found() == lost.Lost())
        assert client.hget(NAMES.counters("trainer"), "dead") == b"1"


def test_a_pending_entry_that_was_deleted_is_found(client: redis.Redis, url: str) -> None:
    """In the pending list of a replica that died; the command that the doctor names removes it."""
    begin(client, NAMES)
    key = NAMES.stream(INPUT.name, FORWARD.value)
    entry: Any = client.xadd(key, {"ROOT_ID": "root-7", "m": "{}"})
    client.xreadgroup("controlmodel", "controlmodel~host~1~a", {key: ">"})
    client.xclaim(key, "controlmodel", "controlmodel~host~1~a", 0, [entry], idle=60_000)
    client.xdel(key, entry)
    found = [each for each in bad(examined(url)) if "was deleted" in each.found]
    assert [(each.about, each.level) for each in found] == [("controlmodel", WARNING)]
    assert entry.decode() in found[0].found
    do(client, found[0])
    assert not [each for each in bad(examined(url)) if "was deleted" in each.found]


def old(client: redis.Redis, key: str, age_s: float, fields: dict[str, Any]) -> None:
    client.xadd(key, fields, id=f"{int((time.time() - age_s) * 1000)}-0")


def test_a_component_that_is_away_is_a_problem_if_nothing_goes_on(
    client: redis.Redis, url: str
) -> None:
    """It is named, with how to start it; exit code 1. In a run that is stopped it is a warning."""
    begin(client, NAMES)
    root = {"ROOT_ID": "root-7", "m": "{}"}
    client.hset(NAMES.memory("trainer"), "root-7", pack({"ROOT_ID": "root-7"}))
    old(client, NAMES.stream(MODEL.name, FORWARD.value), 40, root)
    assert only(examined(url)).level is WARNING
    client.set(NAMES.alive("trainer~host~1~a"), "{}")
    finding = only(examined(url))
    assert (finding.about, finding.level) == ("simulator", PROBLEM)
    assert "no replica is alive" in finding.found
    assert "nothing has moved for 4" in finding.found
    assert "python -m roomgrad_trebuchet.simulator --run trebuchet" in finding.do
    ended = roomgrad_command.roomgrad("doctor", environ={"REDIS_URL": url})
    assert ended.returncode == 1
    client.xadd(NAMES.stream(INPUT.name, GRADIENT.value), {"ROOT_ID": "root-8", "m": "{}"})
    assert {each.level for each in bad(examined(url))} == {WARNING}  # something goes on


def test_in_containers_the_remedy_is_a_command_of_compose(client: redis.Redis, url: str) -> None:
    """The service has the name of the component."""
    begin(client, NAMES)
    old(client, NAMES.stream(MODEL.name, FORWARD.value), 40, {"ROOT_ID": "root-7", "m": "{}"})
    beat = {"component": "trainer", "host": "0123456789ab", "pid": 1, "turn": time.time()}
    client.set(NAMES.alive("trainer~0123456789ab~1~a"), json.dumps(beat))
    finding = only(examined(url))
    assert (finding.about, finding.level) == ("simulator", PROBLEM)
    assert "docker compose up -d simulator" in finding.do


def test_a_handler_that_raises_is_named_with_its_exception(client: redis.Redis, url: str) -> None:
    """Its heartbeat tells."""
    begin(client, NAMES)
    beat = {"component": "simulator", "host": "h", "pid": 7, "turn": time.time()}
    client.set(NAMES.alive("simulator~h~7~a"), json.dumps({**beat, "error": "IndexError: 7"}))
    finding = only(examined(url))
    assert (finding.about, finding.level) == ("simulator", WARNING)
    assert "raises IndexError: 7" in finding.found


def test_a_long_handler_is_no_standstill(client: redis.Redis, url: str) -> None:
    """What is at work goes on."""
    begin(client, NAMES)
    key, root = NAMES.stream(INPUT.name, FORWARD.value), {"ROOT_ID": "root-7", "m": "{}"}
    old(client, key, 40, root)
    client.xreadgroup("controlmodel", "controlmodel~h~7~a", {key: ">"})
    now = time.time()
    beat = {"component": "controlmodel", "host": "h", "pid": 7, "turn": now, "handling": now - 39}
    client.set(NAMES.alive("controlmodel~h~7~a"), json.dumps(beat))
    client.hset(NAMES.memory("trainer"), "root-7", pack({"ROOT_ID": "root-7"}))
    assert not bad(examined(url))


def test_a_trimmed_stream_waits_for_no_group(client: redis.Redis, url: str) -> None:
    """Whatever the server counts as its lag."""
    begin(client, NAMES)
    key = NAMES.stream(INPUT.name, FORWARD.value)
    entries: Any = [client.xadd(key, {"m": "x"}) for _ in range(3)]
    client.xreadgroup("controlmodel", "controlmodel~host~1~a", {key: ">"}, count=1)
    client.xack(key, "controlmodel", entries[0])
    client.xdel(key, *entries[1:])
    assert not bad(examined(url))
    client.xtrim(key, maxlen=0, approximate=False)
    assert not bad(examined(url))


def test_lost_roots_are_given_up_by_the_command_that_the_doctor_names(
    client: redis.Redis, url: str
) -> None:
    """It tells each component, and asks which roots if none is named."""
    begin(client, NAMES)
    client.hset(NAMES.memory("trainer"), "root-7", pack({"ROOT_ID": "root-7"}))
    client.set(NAMES.alive("trainer~host~1~a"), "{}")
    finding = only(examined(url))
    assert (finding.about, finding.level) == ("lost", PROBLEM)
    words = finding.do.partition(":")[0].split()
    ended = roomgrad_command.roomgrad(*words[1:], environ={"REDIS_URL": url})
    assert (ended.returncode, "1 root is given up in run trebuchet." in ended.stdout) == (
        0,
        True,
    ), ended.stderr
    for component in TREBUCHET.components:
        ((_, notice),) = client.xrange(NAMES.stream(NAMES.inbox(component), "LOG/ERROR"))
        assert notice[b"ROOT_ID"] == b"root-7"
    ended = roomgrad_command.roomgrad("dead", "give-up", environ={"REDIS_URL": url})
    assert (ended.returncode, "takes ROOT_IDs, or --lost" in ended.stderr) == (2, True)


def test_a_component_that_waits_for_a_repair_says_for_what(client: redis.Redis, url: str) -> None:
    """A problem if nothing else goes on."""
    begin(client, NAMES)
    old(client, NAMES.stream(INPUT.name, FORWARD.value), 40, {"ROOT_ID": "root-7", "m": "{}"})
    beat = {"component": "controlmodel", "host": "h", "pid": 7, "turn": time.time()}
    beat["waits"] = "the server's memory is full"
    client.set(NAMES.alive("controlmodel~h~7~a"), json.dumps(beat))
    finding = only(examined(url))
    assert (finding.about, finding.level) == ("controlmodel", PROBLEM)
    assert "it waits: the server's memory is full; nothing has moved" in finding.found
