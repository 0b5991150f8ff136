"""`roomgrad doctor` on servers in a bad state: what is wrong is found, and the remedy helps."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from roomgrad.inspect.doctor import server
from roomgrad.inspect.doctor.findings import Level
from roomgrad.names import Names
from roomgrad.redis.disk import answers_early
from roomgrad.redis.server import connect, version
from roomgrad.testing import throwaway_server
from tests.integration.doctor.conftest import (
    OK,
    PROBLEM,
    WARNING,
    bad,
    begin,
    configured,
    do,
    examined,
    managed,
    only,
    redis8,
    roomgrad,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


def test_the_servers_of_the_product_are_well(client: redis.Redis, own_url: str) -> None:
    """The embedded one, and Redis as deploy/redis/redis.conf sets it up."""
    found = examined(own_url)
    assert not bad(found)
    assert {"version", "appendonly", "memory", "WAITAOF", "clock"} <= {f.about for f in found}
    ended = roomgrad(own_url)
    assert (ended.returncode, "Nothing to do." in ended.stdout) == (0, True), ended.stdout


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

        until(refused)
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
        until(lambda: replica.info("replication").get("master_link_status") == "up")
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


def test_a_managed_server_without_an_append_only_file_is_a_problem(tmp_path: Path) -> None:
    """INFO tells it where CONFIG is refused; no file counts as written, and no command is named
    that the server lacks.
    """
    with managed(tmp_path, "--save", "", "--appendonly", "no") as url:
        found = examined(url)
        by_name = {finding.about: finding for finding in found}
        assert by_name["appendonly"].level is PROBLEM
        assert by_name["maxmemory-policy"].level is OK
        assert by_name["CONFIG GET"].level is WARNING
        assert "unknown" in by_name["CONFIG GET"].found
        assert not {"append-only file", "rewriting the file", "WAITAOF"} & by_name.keys()
        assert not [each for each in found if "CONFIG SET" in each.do or "ACL SETUSER" in each.do]
        assert roomgrad(url).returncode == 1


def test_a_managed_server_that_keeps_its_data_has_no_problem(tmp_path: Path) -> None:
    """What it refuses is unknown, which is a warning, and so is what a Valkey answers early."""
    with managed(tmp_path, "--appendonly", "yes") as url:
        found = examined(url)
        assert {finding.about for finding in bad(found)} - {"WAITAOF"} == {"CONFIG GET"}
        assert not [each for each in found if "CONFIG SET" in each.do]
        assert {"appendonly", "append-only file", "WAITAOF"} <= {each.about for each in found}


@pytest.mark.parametrize("on_disk", ["yes", "no"])
def test_a_server_without_info_has_no_good_facts(tmp_path: Path, on_disk: str) -> None:
    """Neither its memory nor its disk nor its replicas are good; WAITAOF tells of the file."""
    options = ("--appendonly", on_disk)
    with managed(tmp_path, *options, without=("INFO", "CONFIG", "ACL")) as url:
        found = examined(url)
        good = {finding.about for finding in found if finding.level is OK}
        assert good == {"clock"} | ({"WAITAOF"} if on_disk == "yes" else set())
        problems = [finding.about for finding in found if finding.level is PROBLEM]
        assert problems == ([] if on_disk == "yes" else ["appendonly"])


def test_a_policy_that_evicts_is_found_without_config(tmp_path: Path) -> None:
    """INFO tells the policy."""
    options = ("--appendonly", "yes", "--maxmemory-policy", "allkeys-lru")
    with managed(tmp_path, *options) as url:
        assert ("maxmemory-policy", PROBLEM) in {(f.about, f.level) for f in bad(examined(url))}


def test_a_managed_server_without_waitaof_says_so(tmp_path: Path) -> None:
    """A label counts there before it is on disk."""
    with managed(tmp_path, "--appendonly", "yes", without=("WAITAOF", "ACL")) as url:
        finding = only(examined(url))
        assert (finding.about, finding.level) == ("WAITAOF", WARNING)
        assert "ACL" not in finding.do


def test_a_server_that_answers_waitaof_early_is_told_until_it_is_set_up(tmp_path: Path) -> None:
    """Not the embedded one, whose files a client syncs itself."""
    with managed(tmp_path, "--appendonly", "yes", without=()) as url, connect(url) as client:
        found = [each for each in bad(examined(url)) if each.about == "WAITAOF"]
        assert len(found) == answers_early(version(client))
        for each in found:
            assert "up to a second before labels and pointers are on disk" in each.found
            do(client, each)
        assert "WAITAOF" not in {each.about for each in bad(examined(url))}
