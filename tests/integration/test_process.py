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
from roomgrad.redis import heartbeats
from tests.integration.conftest import EchoRun, OwnServer
from tests.integration.echo import REQUESTS, echo_component
from tests.waiting import LIMIT_S, until

STOP_LIMIT_S = 5.0  # a process is gone so soon after SIGTERM, whatever it does


def beat_of(echo: EchoRun) -> tuple[bytes, dict[str, object]]:
    """The only heartbeat of the run: its key and what it says."""
    pattern = echo.names.alive("*")
    [key] = until(lambda: echo.client.keys(pattern))
    return key, orjson.loads(echo.client.get(key) or b"{}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_work_in_hand_finish(echo: EchoRun, number: signal.Signals) -> None:
    """What was begun is committed, the heartbeat is taken away, the exit code is 0.

    What was only received is handed back: the next replica has it at once, not after the lease.
    """
    process = echo.spawn("repeat", lease_s=600.0)
    key, _ = beat_of(echo)
    messages = [echo.send(value) for value in range(50)]
    echo.wait_reply(messages[0])
    process.send_signal(number)
    assert process.wait(60) == 0
    assert not echo.client.exists(key)
    done = echo.counter("received")
    assert done == echo.reply_count() == echo.client.zcard(echo.names.done("echo", *REQUESTS.key))
    echo.start(echo_component(), lease_s=600.0)
    until(lambda: echo.reply_count() == len(messages))


def test_a_heartbeat_says_who_lives_and_expires(echo: EchoRun) -> None:
    """Component, host, process and the last turn of its loop; gone soon after a kill -9."""
    process = echo.spawn("repeat")
    key, beat = beat_of(echo)
    assert beat["component"] == "echo"
    assert beat["pid"] == process.pid
    assert beat["host"] == socket.gethostname()
    assert beat["handling"] is None
    turn = float(str(beat["turn"]))
    assert abs(turn - time.time()) < 60
    until(lambda: float(orjson.loads(echo.client.get(key) or b"{}")["turn"]) > turn)
    assert 0 < echo.client.pttl(key) <= 500
    process.kill()
    until(lambda: not echo.client.exists(key))


def test_a_heart_beats_in_a_process_that_has_many_files_open(echo: EchoRun) -> None:
    """More than 1,024 of them, as where many replicas live in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with contextlib.ExitStack() as files:
        for _ in range(1100):
            files.enter_context(open(os.devnull))
        replica = echo.start(echo_component())
        beats = echo.names.alive(replica.consumer)
        first = until(lambda: echo.client.get(beats))
        until(lambda: echo.client.get(beats) not in (None, first))
        echo.wait_reply(echo.send(1))


def test_a_heartbeat_of_a_foreign_client_hurts_nobody(echo: EchoRun) -> None:
    """Whoever looks for heartbeats passes over one that says something else."""
    for number, value in enumerate([b"alive", b"[1]", b'{"component": "echo"}']):
        echo.client.set(echo.names.alive(f"echo~{number}"), value)
    assert heartbeats.find(echo.client, echo.names, "echo") == []


def test_an_idle_replica_asks_at_most_three_commands_a_second(own_echo: EchoRun) -> None:
    """With the default times: a read that waits, a heartbeat, and a look at the guests."""
    defaults = {"heartbeat_interval_s": 1.0, "heartbeat_lives_s": 3.0, "lease_s": 5.0}
    own_echo.start(echo_component(), block_s=echo_component().settings().block_s, **defaults)
    assert count_commands(own_echo, beats=4) <= 3 * (4 + 1)


def count_commands(echo: EchoRun, beats: int) -> int:
    """Commands that clients send from one heartbeat until so many more have passed."""
    sent, seen = 0, 0
    with echo.client.monitor() as monitor:
        while seen <= beats:
            line = monitor.next_command()
            sent += bool(seen) and line["client_type"] != "lua"
            seen += line["client_type"] != "lua" and bool(re.match("EVAL ", line["command"]))
    return sent


def test_wrong_settings_end_the_process_with_2(echo: EchoRun) -> None:
    """And one sentence with what is allowed."""
    process = echo.spawn("repeat", lease_s=-1)
    assert process.wait(LIMIT_S) == 2
    assert process.log().splitlines() == [
        "echo: --lease-s (variable ROOMGRAD_LEASE_S) is '-1', allowed is: number, above 0, "
        "at most 3600."
    ]


def test_an_address_that_is_none_ends_the_process(echo: EchoRun) -> None:
    """A server that is away is waited for; a word that is no address is not."""
    process = echo.spawn("repeat", redis_url="hello")
    assert process.wait(LIMIT_S) == 1
    assert "'hello' is not a server address" in process.log()


def test_a_handler_that_takes_too_long_to_stop_is_handed_back(echo: EchoRun) -> None:
    """SIGTERM: it exits with 0 in time, and another replica has its message at once, not after
    the lease.
    """
    process = echo.spawn("hang", stop_s=0.5, lease_s=60.0)
    until(lambda: heartbeats.find(echo.client, echo.names, "echo"))
    message = echo.send(-1)
    until(lambda: echo.pending() == 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_LIMIT_S) == 0
    assert heartbeats.find(echo.client, echo.names, "echo") == []
    assert echo.pending() == 1
    echo.start(echo_component(), lease_s=60.0)
    echo.wait_reply(message)
    assert echo.counter("received") == 1


def test_no_heartbeat_follows_its_deletion(echo: EchoRun) -> None:
    """A replica that gives up while its handler runs would seem to live."""
    interval_s = 0.01
    replica = echo.start(echo_component(), heartbeat_interval_s=interval_s)
    replica.give_up()
    for _ in range(20):
        assert heartbeats.find(echo.client, echo.names, "echo") == []
        time.sleep(interval_s)  # the time of another heartbeat


def test_a_process_stops_in_time_while_its_server_is_silent(
    own_echo: EchoRun, own_server: OwnServer
) -> None:
    """SIGTERM while no answer comes: it exits with 0, and the lease ends by itself."""
    process = own_echo.spawn("repeat", stop_s=0.5)
    until(lambda: heartbeats.find(own_echo.client, own_echo.names, "echo"))
    os.kill(own_server.process.pid, signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_LIMIT_S) == 0
    finally:
        os.kill(own_server.process.pid, signal.SIGCONT)


def test_a_retry_that_waits_is_handed_back(echo: EchoRun) -> None:
    """A replica that stops does not keep what it would have tried again."""

    def choke(message: Message, context: Context) -> Message:
        raise ValueError("no")

    replica = echo.start(echo_component(choke), lease_s=60.0)
    with structlog.testing.capture_logs() as lines:
        message = echo.send(1)
        until(lambda: any("tried again" in line["event"] for line in lines))
        replica.stop()
        until(lambda: not echo.client.exists(echo.names.alive(replica.consumer)))
    echo.start(echo_component(), lease_s=60.0)
    echo.wait_reply(message)
