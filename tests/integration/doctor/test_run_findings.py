"""`roomgrad doctor` on runs that suffer: what stands still, and why."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import redis

from roomgrad.codec import pack
from roomgrad.names import GATEWAY, Names
from roomgrad.runtime import runs
from roomgrad.testing import running
from roomgrad_trebuchet.contract import FORWARD, INPUT, MODEL, TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.simulator.settings import SimulatorSettings
from roomgrad_trebuchet.trainer.handlers import component as trainer
from roomgrad_trebuchet.trainer.settings import TrainerSettings
from tests.integration.doctor.conftest import (
    PROBLEM,
    WARNING,
    bad,
    begin,
    do,
    examined,
    only,
    roomgrad,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def names(client: redis.Redis) -> Names:
    names = Names("run-1")
    begin(client, names)
    return names


ASKED = (INPUT.name, FORWARD.value)


def test_a_run_that_rests_is_well(own_url: str, names: Names) -> None:
    """Nobody lives, and nobody waits."""
    assert not bad(examined(own_url))


def test_a_run_that_trains_is_well(client: redis.Redis, own_url: str) -> None:
    """However often one looks: what is under way is nothing to worry about."""
    many = 1_000_000
    with (
        running(controlmodel, ControlModelSettings(train_steps=many), own_url),
        running(simulator, SimulatorSettings(), own_url),
        running(trainer, TrainerSettings(train_steps=many, window=3), own_url),
    ):
        counters = Names("trebuchet").counters("trainer")
        until(lambda: int(client.hget(counters, "finished") or 0) > 5)
        for _ in range(20):
            assert not bad(examined(own_url))


def test_groups_that_are_missing_are_found(client: redis.Redis, own_url: str, names: Names) -> None:
    """But those that were forgotten on purpose."""
    client.xgroup_destroy(names.stream(*ASKED), "controlmodel")
    finding = only(examined(own_url))
    assert (finding.about, finding.level) == ("groups", WARNING)
    assert "missing: controlmodel in input DATA/FORWARD;" in finding.found
    runs.forget(client, TREBUCHET, names, "controlmodel")
    assert not bad(examined(own_url))


def test_groups_that_nobody_knows_are_found(
    client: redis.Redis, own_url: str, names: Names
) -> None:
    """With the command that ends them."""
    client.xgroup_create(names.stream(*ASKED), "curious", "0")
    finding = only(examined(own_url))
    assert "curious in input DATA/FORWARD is no group of the contract" in finding.found
    do(client, finding)
    assert not bad(examined(own_url))


def test_what_waits_for_clients_of_swergio_is_left_to_the_gateway(
    client: redis.Redis, own_url: str, names: Names
) -> None:
    """Their groups are in no contract, and what they hold is bounded by its settings."""
    group, key = names.client_group("watcher"), names.stream("errors", "LOG/ERROR")
    for stream in (names.stream(*ASKED), key):
        client.xgroup_create(stream, group, "$", mkstream=True)
    runs.register(client, names, GATEWAY, {})
    client.xadd(key, {"m": "x"})
    client.xreadgroup(group, "gateway~host~1~a", {key: ">"})
    assert not bad(examined(own_url))


def test_messages_that_nobody_serves_are_found(
    client: redis.Redis, own_url: str, names: Names
) -> None:
    """Until a replica of the component lives."""
    client.xadd(names.stream(*ASKED), {"m": "x"})
    finding = only(examined(own_url))
    assert (finding.about, finding.level, finding.run) == ("controlmodel", WARNING, "run-1")
    assert "1 in input DATA/FORWARD" in finding.found
    assert "roomgrad forget controlmodel --run run-1" in finding.do
    client.set(names.alive("controlmodel~host~1~a"), "{}")
    assert not bad(examined(own_url))


def hold(client: redis.Redis, names: Names, consumer: str, idle_ms: int) -> None:
    """A message in the hands of a consumer since so long."""
    key = names.stream(*ASKED)
    entry = client.xadd(key, {"m": "x"})
    client.xreadgroup("controlmodel", consumer, {key: ">"})
    client.xclaim(key, "controlmodel", consumer, 0, [entry], idle=idle_ms)


def test_messages_of_the_dead_are_found(client: redis.Redis, own_url: str, names: Names) -> None:
    """A problem where others live and do not take them over."""
    client.set(names.alive("controlmodel~host~2~b"), "{}")
    hold(client, names, "controlmodel~host~1~a", 1000)
    assert not bad(examined(own_url))
    hold(client, names, "controlmodel~host~1~a", 60_000)
    finding = only(examined(own_url))
    assert (finding.about, finding.level) == ("controlmodel", PROBLEM)
    assert "controlmodel~host~1~a is dead and holds 1 messages" in finding.found
    client.delete(names.alive("controlmodel~host~2~b"))
    assert {each.level for each in bad(examined(own_url))} == {WARNING}
    client.set(names.alive("controlmodel~host~1~a"), "{}")
    assert not bad(examined(own_url))


def test_a_message_that_is_never_committed_is_found(
    client: redis.Redis, own_url: str, names: Names
) -> None:
    """By its age."""
    key, old = names.stream(*ASKED), int((time.time() - 3600) * 1000)
    client.set(names.alive("controlmodel~host~1~a"), "{}")
    client.xadd(key, {"m": "x"}, id=f"{old}-0")
    client.xreadgroup("controlmodel", "controlmodel~host~1~a", {key: ">"})
    finding = only(examined(own_url))  # nothing else goes on
    assert (finding.about, finding.level) == ("controlmodel", PROBLEM)
    assert re.search(
        r"does not handle 1 in input .*nothing has moved for 3,[56]\d\d s", finding.found
    )
    client.xadd(names.stream(MODEL.name, FORWARD.value), {"m": "x"})
    finding = next(each for each in bad(examined(own_url)) if each.about == "oldest pending")
    assert finding.level is WARNING
    assert re.search(r"controlmodel in input DATA/FORWARD was given 3[56]\d\d s ago", finding.found)


def test_dead_letters_are_counted(client: redis.Redis, own_url: str, names: Names) -> None:
    """And the command that lists them works."""
    client.xadd(names.dead(), {"m": "x"})
    finding = only(examined(own_url))
    assert (finding.about, finding.found) == ("dead letters", "1")
    assert finding.do == "roomgrad dead list --run run-1"


def test_history_that_is_held_back_is_found(
    client: redis.Redis, own_url: str, names: Names
) -> None:
    """By the group that owes most of it; not where everybody is done."""
    key = names.stream(MODEL.name, FORWARD.value)
    client.set(names.alive("simulator~host~1~a"), "{}")
    with client.pipeline() as pipe:
        for _ in range(2500):
            pipe.xadd(key, {"m": "x"})
        pipe.execute()
    finding = only(examined(own_url))
    assert (finding.about, finding.level) == ("history", WARNING)
    assert "model DATA/FORWARD holds 2,500 messages" in finding.found
    assert "simulator still owes 2,500" in finding.found
    assert "roomgrad forget simulator --run run-1" in finding.do
    client.xgroup_setid(key, "simulator", "$", entries_read=2500)
    assert not bad(examined(own_url))


def test_messages_for_later_that_are_overdue_are_found(
    client: redis.Redis, own_url: str, names: Names
) -> None:
    """Those that are not due yet are fine."""
    now_ms = int(time.time() * 1000)
    client.zadd(names.later("trainer"), {"a": now_ms + 60_000})
    assert not bad(examined(own_url))
    client.zadd(names.later("trainer"), {"b": now_ms - 60_000})
    finding = only(examined(own_url))
    assert (finding.about, finding.level) == ("trainer", WARNING)
    assert "1 delayed messages are overdue" in finding.found


def test_roots_that_nobody_works_on_are_found(
    client: redis.Redis, own_url: str, names: Names
) -> None:
    """Memory without a message that is under way."""
    client.hset(names.memory("trainer"), "root", pack({"ROOT_ID": "root-7"}))
    client.set(names.alive("controlmodel~host~1~a"), "{}")
    finding = only(examined(own_url))
    assert (finding.about, finding.level) == ("lost", WARNING)
    assert "no message is under way of 1 open root remembered by trainer: " in finding.found
    client.set(names.alive("trainer~host~1~a"), "{}")
    assert only(examined(own_url)).level is PROBLEM
    client.xadd(names.stream(*ASKED), {"ROOT_ID": "root-7", "m": "x"})
    assert not bad(examined(own_url))


def test_a_loop_that_stands_still_is_found(client: redis.Redis, own_url: str, names: Names) -> None:
    """Its heart beats all the same."""
    beat = {"component": "trainer", "host": "h", "pid": 7, "turn": time.time(), "handling": None}
    client.set(names.alive("trainer~h~7~a"), json.dumps(beat))
    assert not bad(examined(own_url))
    client.set(names.alive("trainer~h~7~a"), json.dumps({**beat, "turn": time.time() - 99}))
    finding = only(examined(own_url))
    assert (finding.about, finding.level) == ("trainer", WARNING)
    assert "process 7 on h" in finding.found


def test_a_key_of_another_type_is_found(client: redis.Redis, own_url: str, names: Names) -> None:
    """It keeps every commit from its stream, its memory or its letters."""
    for key in (names.memory("trainer"), names.dead(), names.stream(*ASKED)):
        client.rename(key, f"{key}-kept") if client.exists(key) else None
        client.set(key, "a string")
        found = [each for each in bad(examined(own_url)) if each.about == "key"]
        assert [(each.level, key in each.found) for each in found] == [(PROBLEM, True)]
        do(client, found[0])
    assert not [each for each in bad(examined(own_url)) if each.about == "key"]


def test_a_run_of_a_system_that_is_not_known_here_is_looked_at(
    client: redis.Redis, own_url: str
) -> None:
    """By the groups that it has."""
    names = Names("my own: [run]?*")
    runs.register(client, names, "echo", {})
    client.xgroup_create(names.stream("input", "DATA/FORWARD"), "echo", "0", mkstream=True)
    assert not bad(examined(own_url))
    client.xadd(names.stream("input", "DATA/FORWARD"), {"m": "x"})
    finding = only(examined(own_url))
    assert (finding.about, finding.run) == ("echo", names.run)
    client.set(names.alive("echo~h~1~a"), "{}")
    assert not bad(examined(own_url))


# the command


def test_all_runs_are_looked_at_or_one(client: redis.Redis, own_url: str, names: Names) -> None:
    """As one object for programs."""
    begin(client, Names("other"))
    client.xadd(Names("other").dead(), {"m": "x"})
    found = json.loads(roomgrad(own_url, "--json").stdout)
    assert {each["run"] for each in found["findings"]} == {"", "run-1", "other"}
    assert (found["problems"], found["warnings"], found["server"]) == (0, 1, own_url)
    found = json.loads(roomgrad(own_url, "--json", "--run", "run-1").stdout)
    assert {each["run"] for each in found["findings"]} == {"", "run-1"}
    assert found["warnings"] == 0


def test_a_run_that_is_not_there_is_said(client: redis.Redis, own_url: str, names: Names) -> None:
    """With the one that was meant."""
    ended = roomgrad(own_url, "--run", "rum-1")
    assert ended.returncode == 2
    assert ended.stderr.strip().endswith("did you mean run-1?")


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    """In one sentence."""
    ended = roomgrad("", ROOMGRAD_STATE=str(tmp_path))
    assert (ended.returncode, "roomgrad up SYSTEM" in ended.stderr) == (1, True)
    ended = roomgrad("redis://:hidden@127.0.0.1:1/0")
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "hidden" not in ended.stderr
