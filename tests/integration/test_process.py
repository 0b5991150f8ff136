"""A component as a process: signals, exit codes, heartbeat, and how little an idle one asks."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import time

import orjson
import pytest
import structlog

from roomgrad import Context, Message
from roomgrad.runtime import heartbeats
from tests.integration.conftest import Cage, OwnServer
from tests.integration.parrots import HEARD, parrot
from tests.waiting import until

STOP_LIMIT_S = 5.0  # a process is gone so soon after SIGTERM, whatever it does


def beat_of(cage: Cage) -> tuple[bytes, dict[str, object]]:
    """The only heartbeat of the run: its key and what it says."""
    pattern = cage.names.alive("*")
    [key] = until(lambda: cage.client.keys(pattern))
    return key, orjson.loads(cage.client.get(key) or b"{}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_work_in_hand_finish(cage: Cage, number: signal.Signals) -> None:
    """What was begun is committed, the heartbeat is taken away, the exit code is 0."""
    process = cage.spawn("repeat")
    key, _ = beat_of(cage)
    messages = [cage.say(value) for value in range(50)]
    cage.heard(messages[0])
    process.send_signal(number)
    assert process.wait(10) == 0
    assert not cage.client.exists(key)
    assert cage.pending() == 0
    done = cage.counter("heard")
    assert done == cage.said() == cage.client.zcard(cage.names.done("parrot", *HEARD.key))
    cage.start(parrot())  # and whoever comes next does the rest
    cage.heard(messages[-1])
    until(lambda: cage.said() == 50)


def test_a_heartbeat_says_who_lives_and_expires(cage: Cage) -> None:
    """Component, host, process and the last turn of its loop; gone soon after a kill -9."""
    process = cage.spawn("repeat")
    key, beat = beat_of(cage)
    assert beat["component"] == "parrot"
    assert beat["pid"] == process.pid
    assert beat["host"] == socket.gethostname()
    assert beat["handling"] is None
    turn = float(str(beat["turn"]))
    assert abs(turn - time.time()) < 60
    until(lambda: float(orjson.loads(cage.client.get(key) or b"{}")["turn"]) > turn)
    assert 0 < cage.client.pttl(key) <= 500
    process.kill()
    until(lambda: not cage.client.exists(key))


def test_a_heart_beats_in_a_process_that_has_many_files_open(cage: Cage) -> None:
    """More than 1,024 of them, as where many replicas live in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with contextlib.ExitStack() as files:
        for _ in range(1100):
            files.enter_context(open(os.devnull))
        replica = cage.start(parrot())
        beats = cage.names.alive(replica.consumer)
        first = until(lambda: cage.client.get(beats))
        until(lambda: cage.client.get(beats) not in (None, first))
        cage.heard(cage.say(1))


def test_a_heartbeat_of_a_foreign_client_hurts_nobody(cage: Cage) -> None:
    """Whoever looks for heartbeats passes over one that says something else."""
    for number, value in enumerate([b"alive", b"[1]", b'{"component": "parrot"}']):
        cage.client.set(cage.names.alive(f"parrot~{number}"), value)
    assert heartbeats.find(cage.client, cage.names, "parrot") == []


def test_an_idle_replica_asks_at_most_two_commands_a_second(own_cage: Cage) -> None:
    """With the default times: a read that waits, and a heartbeat."""
    defaults = {"heartbeat_interval_s": 1.0, "heartbeat_lives_s": 3.0, "lease_s": 5.0}
    own_cage.start(parrot(), block_s=parrot().settings().block_s, **defaults)
    asked = count_commands(own_cage, beats=4)
    assert asked <= 2.0 * 4 + 1


def count_commands(cage: Cage, beats: int) -> int:
    """Commands that clients send until so many heartbeats have passed."""
    sent = 0
    with cage.client.monitor() as monitor:
        while beats:
            line = monitor.next_command()
            sent += line["client_type"] != "lua"
            beats -= line["client_type"] != "lua" and bool(re.match("EVAL ", line["command"]))
    return sent


def test_wrong_settings_end_the_process_with_2(cage: Cage) -> None:
    """And one sentence with what is allowed."""
    process = cage.spawn("repeat", lease_s=-1)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 2
    lines = error.decode().strip().splitlines()
    assert lines == [
        "parrot: --lease-s (variable LEASE_S) is '-1', allowed is: number, above 0, at most 3600."
    ]


def test_an_address_that_is_none_ends_the_process(cage: Cage) -> None:
    """A server that is away is waited for; a word that is no address is not."""
    process = cage.spawn("repeat", redis_url="hello")
    _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"'hello' is not a server address" in error


def test_a_handler_that_takes_too_long_to_stop_is_handed_back(cage: Cage) -> None:
    """SIGTERM: it exits with 0 in time, and another replica has its message at once, not after
    the lease.
    """
    process = cage.spawn("hang", stop_s=0.5, lease_s=60.0)
    until(lambda: heartbeats.find(cage.client, cage.names, "parrot"))
    message = cage.say(-1)
    until(lambda: cage.pending() == 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_LIMIT_S) == 0
    assert heartbeats.find(cage.client, cage.names, "parrot") == []
    assert cage.pending() == 1
    cage.start(parrot(), lease_s=60.0)
    cage.heard(message)
    assert cage.counter("heard") == 1


def test_a_process_stops_in_time_while_its_server_is_silent(
    own_cage: Cage, own_server: OwnServer
) -> None:
    """SIGTERM while no answer comes: it exits with 0, and the lease ends by itself."""
    process = own_cage.spawn("repeat", stop_s=0.5)
    until(lambda: heartbeats.find(own_cage.client, own_cage.names, "parrot"))
    os.kill(own_server.process.pid, signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_LIMIT_S) == 0
    finally:
        os.kill(own_server.process.pid, signal.SIGCONT)


def test_a_retry_that_waits_is_handed_back(cage: Cage) -> None:
    """A replica that stops does not keep what it would have tried again."""

    def choke(message: Message, context: Context) -> Message:
        raise ValueError("no")

    replica = cage.start(parrot(choke), lease_s=60.0)
    with structlog.testing.capture_logs() as lines:
        message = cage.say(1)
        until(lambda: any("tried again" in line["event"] for line in lines))
        replica.stop()
        until(lambda: not cage.client.exists(cage.names.alive(replica.consumer)))
    cage.start(parrot(), lease_s=60.0)
    cage.heard(message)
