"""`roomgrad doctor`: on real servers in a bad state it says what is wrong, and its remedy helps."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from roomgrad.commands.doctor import report, server, settings
from roomgrad.commands.doctor.findings import Finding, Level
from roomgrad.contracts.trebuchet import FORWARD, INPUT, MODEL, TREBUCHET
from roomgrad.names import Names
from roomgrad.runtime import runs
from roomgrad.server import connect
from roomgrad.testing import running, throwaway_server
from services.controlmodel.handlers import component as controlmodel
from services.controlmodel.settings import ControlModelSettings
from services.simulator.handlers import component as simulator
from services.simulator.settings import SimulatorSettings
from services.trainer.handlers import component as trainer
from services.trainer.settings import TrainerSettings
from tests.integration.conftest import ROOT, answers
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

OK, WARNING, PROBLEM = Level


@contextlib.contextmanager
def redis8(*options: str, disk: str = "") -> Iterator[str]:
    """redis:8 in a container of its own, with options of its configuration."""
    from testcontainers.core.container import DockerContainer

    container = DockerContainer("redis:8").with_exposed_ports(6379)
    if disk:
        container = container.with_tmpfs_mount("/data", disk)
    with container.with_command(shlex.join(["redis-server", *options])) as started:
        url = f"redis://{started.get_container_host_ip()}:{started.get_exposed_port(6379)}/0"
        until(lambda: answers(url), timeout_s=30)
        yield url


def configured() -> list[str]:
    """The options of deploy/redis/redis.conf, without its password."""
    text = (ROOT / "deploy" / "redis" / "redis.conf").read_text()
    lines = [line for line in text.splitlines() if re.match(r"(?!include)[a-z]", line)]
    return [word for line in lines for word in (f"--{line.split()[0]}", *shlex.split(line)[1:])]


@pytest.fixture(scope="module")
def valkey_url() -> Iterator[str]:
    with throwaway_server() as started:
        yield started.url


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with redis8(*configured()) as url:
        yield url


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.docker)])
def own_url(request: pytest.FixtureRequest) -> str:
    """A server as the product starts it: embedded, or as in docker-compose.yml."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def client(own_url: str) -> Iterator[redis.Redis]:
    """Its settings and keys are afterwards what they were before."""
    with contextlib.closing(connect(own_url)) as client:
        before = client.config_get(*settings.NAMES, "maxmemory")
        yield client
        for name, value in before.items():
            client.config_set(name, value)
        client.flushall()


def examined(url: str, run: str = "") -> list[Finding]:
    with contextlib.closing(connect(url)) as client:
        return report.examined(client, url, run)


def bad(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level is not OK]


def only(found: list[Finding]) -> Finding:
    (finding,) = bad(found)
    return finding


def do(client: redis.Redis, finding: Finding) -> None:
    """Runs the command that a finding shows first."""
    words = shlex.split(finding.do.partition(";")[0])
    assert words[:2] == ["redis-cli", "-u"]
    client.execute_command(*words[3:])


def roomgrad(url: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "PYTHONPATH": str(ROOT / "shared"), "REDIS_URL": url, **environ}
    command = [sys.executable, "-m", "roomgrad", "doctor", *words]
    return subprocess.run(command, env=known, capture_output=True, text=True, timeout=60)


# the server


def test_the_servers_of_the_product_are_well(client: redis.Redis, own_url: str) -> None:
    """The embedded one, and Redis as deploy/redis/redis.conf sets it up."""
    found = examined(own_url)
    assert not bad(found)
    assert {"version", "appendonly", "memory", "WAITAOF", "clock"} <= {f.about for f in found}
    ended = roomgrad(own_url)
    assert (ended.returncode, "Nothing to be done." in ended.stdout) == (0, True), ended.stdout


@pytest.mark.parametrize(
    ("name", "value", "level"),
    [
        ("maxmemory-policy", "allkeys-lru", PROBLEM),
        ("maxmemory-policy", "volatile-ttl", PROBLEM),
        ("appendonly", "no", PROBLEM),
        ("appendfsync", "no", WARNING),
        ("no-appendfsync-on-rewrite", "yes", WARNING),
        ("timeout", "30", WARNING),
        ("proto-max-bulk-len", "33554432", PROBLEM),
        ("busy-reply-threshold", "50", WARNING),
        ("client-output-buffer-limit", "normal 1048576 0 0", PROBLEM),
        ("client-output-buffer-limit", "normal 0 1048576 10", PROBLEM),
        ("client-output-buffer-limit", "pubsub 65536 0 0", WARNING),
    ],
)
def test_a_setting_that_loses_data_is_found_and_mended(
    client: redis.Redis, own_url: str, name: str, value: str, level: Level
) -> None:
    """With the value, the reason, what was expected, and a command that makes it good."""
    client.config_set(name, value)
    finding = only(examined(own_url))
    assert (finding.about, finding.level) == (name, level)
    assert value in finding.found
    assert finding.expected
    ended = roomgrad(own_url)
    assert ended.returncode == (1 if level is PROBLEM else 0)
    assert finding.do in ended.stdout
    do(client, finding)
    assert not bad(examined(own_url))


def test_settings_that_are_stricter_are_fine(client: redis.Redis, own_url: str) -> None:
    """What is safe is no finding, though it is not ours."""
    for name, value in {
        "appendfsync": "always",
        "busy-reply-threshold": "0",
        "client-output-buffer-limit": "normal 536870912 268435456 60 pubsub 0 0 0",
    }.items():
        client.config_set(name, value)
    assert not bad(examined(own_url))


@pytest.mark.parametrize(("share", "level"), [(0.5, OK), (0.88, WARNING), (0.99, PROBLEM)])
def test_memory_that_is_nearly_full_is_found(
    client: redis.Redis, own_url: str, share: float, level: Level
) -> None:
    """Before the server refuses commits."""
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] / share))
    (finding,) = [each for each in examined(own_url) if each.about == "memory"]
    assert finding.level is level
    if level is not OK:
        do(client, finding)
        assert not bad(examined(own_url))


@pytest.mark.parametrize(("save", "level"), [("", WARNING), ("3600 1", PROBLEM)])
def test_a_snapshot_that_failed_is_found(save: str, level: Level) -> None:
    """Where snapshots are asked for, the server refuses all writes until one succeeds."""
    with throwaway_server() as started, contextlib.closing(connect(started.url)) as client:
        (started.directory / "dump.rdb" / "in the way").mkdir(parents=True)
        client.config_set("save", save)
        client.set("key", "value")
        client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        finding = only(examined(started.url))
        assert (finding.about, finding.level) == ("snapshot", level)
        if level is PROBLEM:
            with pytest.raises(redis.ResponseError, match="MISCONF"):
                client.set("key", "other")
        (started.directory / "dump.rdb" / "in the way").rmdir()
        (started.directory / "dump.rdb").rmdir()
        do(client, finding)
        until(lambda: not bad(examined(started.url)))


@pytest.mark.docker
def test_a_full_disk_is_found() -> None:
    """The append-only file cannot be written, and the server refuses all commits."""
    with (
        redis8(*configured(), disk="size=3m") as url,
        contextlib.closing(connect(url)) as client,
    ):

        def refused() -> bool:
            try:
                client.set(f"key {time.monotonic()}", os.urandom(100_000))
            except redis.ResponseError:
                return True
            return False

        until(refused, timeout_s=60)
        finding = only(examined(url))
        assert (finding.about, finding.level) == ("append-only file", PROBLEM)
        assert "refuses all commits" in finding.found


def test_a_replica_is_found_and_a_server_with_replicas_is_warned_of() -> None:
    """Commits are refused by the one, and a failover may lose those of the other."""
    with (
        throwaway_server() as first,
        throwaway_server() as second,
        contextlib.closing(connect(first.url)) as master,
        contextlib.closing(connect(second.url)) as replica,
    ):
        replica.replicaof("127.0.0.1", first.port)
        until(lambda: replica.info("replication").get("master_link_status") == "up", 30)
        finding = only(examined(second.url))
        assert (finding.about, finding.level) == ("replication", PROBLEM)
        assert first.url in finding.do
        finding = only(examined(first.url))
        assert (finding.about, finding.level) == ("replication", WARNING)
        assert "min-replicas-to-write is 0" in finding.found
        do(master, finding)
        assert not bad(examined(first.url))


@pytest.mark.parametrize("ahead_s", [-3600.0, -2.5, 0.0, 2.5, 3600.0])
def test_a_clock_that_is_off_is_found(client: redis.Redis, own_url: str, ahead_s: float) -> None:
    """This machine's is shifted; the server's is what it is."""
    asked = server.Server.ask(client, own_url)
    (finding,) = server.clock(asked, now=lambda: time.time() - ahead_s)
    assert finding.level is (WARNING if ahead_s else OK)
    if ahead_s:
        number, where = re.findall(r"([\d.]+) s (ahead of|behind)", finding.found)[0]
        assert abs(float(number) - abs(ahead_s)) < 1
        assert where == ("ahead of" if ahead_s > 0 else "behind")


def user(client: redis.Redis, url: str, *rights: str) -> str:
    """The address for a user with these rights."""
    client.execute_command("ACL", "SETUSER", "guest", "reset", "on", ">secret", *rights)
    return url.replace("//", "//guest:secret@")


@pytest.mark.parametrize(
    ("rights", "about", "level"),
    [
        ("~* &* +@all -config", "CONFIG GET", WARNING),
        ("~* &* +@all -info", "INFO", WARNING),
        ("~* &* +@all -waitaof", "WAITAOF", WARNING),
        ("~* &* +@all -time", "clock", WARNING),
        ("~* &* +@all -@scripting", "permissions", WARNING),
        ("~* &* +@all -xclaim -xack", "permissions", PROBLEM),
        ("~{run-1}:memory:* &* +@all", "run", WARNING),
        ("~* &* +@all -eval", "permissions", PROBLEM),
        ("~* resetchannels +@all", "permissions", PROBLEM),
        ("~* &* -@all +ping", "version", WARNING),
        ("~* &* -@all", "version", WARNING),
        ("~* &* +@all -scan", "runs", WARNING),
    ],
)
def test_a_permission_that_is_missing_is_a_finding(
    client: redis.Redis, own_url: str, rights: str, about: str, level: Level
) -> None:
    """And no crash: what may be asked is looked at all the same."""
    begin(client, Names("run-1"))
    url = user(client, own_url, *rights.split())
    found = bad(examined(url))
    assert (about, level) in {(finding.about, finding.level) for finding in found}
    assert not [finding for finding in found if "secret" in finding.do + finding.found]
    ended = roomgrad(url)
    assert not ended.stderr
    assert ended.returncode == int(any(finding.level is PROBLEM for finding in found))
    if level is PROBLEM:
        (finding,) = [finding for finding in found if finding.about == about]
        do(client, replace(finding, do=finding.do.replace("NAME", "guest")))
        assert not [each for each in bad(examined(url)) if each.about == about]


# a run


def begin(client: redis.Redis, names: Names) -> None:
    """A run of the trebuchet in which nobody has said anything."""
    for component in TREBUCHET.components:
        runs.register(client, names, component, {})
    runs.create_groups(client, TREBUCHET, names)


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
        until(lambda: int(client.hget(counters, "finished") or 0) > 5, timeout_s=60)
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
    finding = only(examined(own_url))
    assert (finding.about, finding.level) == ("oldest pending", WARNING)
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
    assert "1 messages for later are overdue" in finding.found


def test_roots_that_nobody_works_on_are_found(
    client: redis.Redis, own_url: str, names: Names
) -> None:
    """Memory without a message that is under way."""
    client.hset(names.memory("trainer"), "root", "{}")
    client.set(names.alive("controlmodel~host~1~a"), "{}")
    finding = only(examined(own_url))
    assert (finding.about, finding.level) == ("trainer", WARNING)
    assert "remembers 1 open roots" in finding.found
    client.xadd(names.stream(*ASKED), {"m": "x"})
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
    runs.register(client, names, "parrot", {})
    client.xgroup_create(names.stream("cage", "DATA/FORWARD"), "parrot", "0", mkstream=True)
    assert not bad(examined(own_url))
    client.xadd(names.stream("cage", "DATA/FORWARD"), {"m": "x"})
    finding = only(examined(own_url))
    assert (finding.about, finding.run) == ("parrot", names.run)
    client.set(names.alive("parrot~h~1~a"), "{}")
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
    assert (ended.returncode, "roomgrad up trebuchet" in ended.stderr) == (1, True)
    ended = roomgrad("redis://:hidden@127.0.0.1:1/0")
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "hidden" not in ended.stderr
