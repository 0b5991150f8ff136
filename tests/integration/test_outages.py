"""Outages: servers that die, forget or are emptied, connections that break."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from roomgrad import Context, Message
from roomgrad.errors import ServerError
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.testing import running, wait_for
from tests.integration.conftest import QUICK, EchoRun, OwnServer
from tests.integration.echo import INPUT, OUTPUT, REPLIES, REQUESTS, echo_component, numbers, repeat
from tests.waiting import until


def first_word(context: Context) -> Message:
    """The echo component speaks first: it hears a 1."""
    return Message.open(INPUT, numbers(1))


@contextmanager
def logged(*events: str) -> Iterator[None]:
    """What happens in the block is logged with these words, in the end."""
    with structlog.testing.capture_logs() as lines:
        yield
        for event in events:
            until(lambda event=event: any(event in line["event"] for line in lines))


def test_a_server_that_was_killed_is_found_again(own_server: OwnServer, own_echo: EchoRun) -> None:
    """kill -9, a long silence, a restart on its append-only file: the replica goes on."""
    own_echo.client.config_set("appendfsync", "always")
    own_echo.start(echo_component())
    own_echo.wait_reply(own_echo.send(1))
    with logged("lost the server", "answers again"):
        own_server.kill()
        own_server.turn_away(12)
        own_server.restart()
        assert own_echo.wait_reply(own_echo.send(3)).array.tolist() == [6.0]
    assert own_echo.counter("received") == 2
    channel = own_echo.names.channel("input")  # its subscriptions are restored
    until(lambda: own_echo.client.pubsub_numsub(channel)[0][1] == 1)


def test_a_server_that_is_away_from_the_start_is_waited_for(own_server: OwnServer) -> None:
    """A component may start before its server."""
    own_server.kill()
    settings = echo_component().settings(run="early", **QUICK)
    with running(echo_component(on_start=first_word), settings, own_server.url):
        own_server.turn_away(4)
        own_server.restart()
        with connect(own_server.url) as client:
            assert wait_for(client, Names("early"), REPLIES).array.tolist() == [2.0]


def test_a_replica_stops_while_its_server_is_away(own_server: OwnServer, own_echo: EchoRun) -> None:
    """SIGTERM is answered in an outage too."""
    process = own_echo.spawn("repeat")
    own_echo.wait_reply(own_echo.send(1))
    own_server.kill()
    own_server.turn_away(3)
    process.terminate()
    assert process.wait(60) == 0
    own_server.restart()


def test_a_server_that_does_not_let_it_read_is_asked_less_and_less(echo: EchoRun) -> None:
    """To connect is not enough: the pauses grow, and the log says it once."""
    user, run = f"user-{secrets.token_hex(4)}", f"~{{{echo.names.run}}}:*"
    echo.client.execute_command("ACL", "SETUSER", user, "on", ">secret", "+@all", "&*", run)
    echo.stack.callback(echo.client.execute_command, "ACL", "DELUSER", user)
    with structlog.testing.capture_logs() as lines:
        echo.start(echo_component(), url=echo.url.replace("redis://", f"redis://{user}:secret@"))
        echo.client.execute_command("ACL", "SETUSER", user, "-xreadgroup")
        until(lambda: denied(echo, user) >= 4)
        echo.client.execute_command("ACL", "SETUSER", user, "+xreadgroup")
        assert echo.wait_reply(echo.send(1)).array.tolist() == [2.0]
    events = [line["event"] for line in lines]
    assert events.count("lost the server, trying again") == 1


def denied(echo: EchoRun, user: str) -> int:
    """How often the server has denied XREADGROUP to a user."""
    entries = echo.client.acl_log()
    return sum(int(each["count"]) for each in entries if each["username"] == user)


@pytest.mark.slow
def test_a_frozen_server_is_given_up_and_found_again(
    own_server: OwnServer, own_echo: EchoRun
) -> None:
    """It says nothing, and does not close the connection: an overdue answer is a lost one."""
    own_echo.start(echo_component())
    own_echo.wait_reply(own_echo.send(1))
    with logged("lost the server", "answers again"):
        os.kill(own_server.process.pid, signal.SIGSTOP)
        threading.Timer(8.0, os.kill, (own_server.process.pid, signal.SIGCONT)).start()
        own_echo.wait_reply(own_echo.send(2))
        own_echo.wait_reply(own_echo.send(3))
    assert own_echo.counter("received") == 3


def test_work_that_an_outage_interrupts_is_done_once(
    own_server: OwnServer, own_echo: EchoRun
) -> None:
    """The server dies while a handler runs: its message comes again when the server is back."""
    own_echo.client.config_set("appendfsync", "always")
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        inside.set()
        assert release.wait(60)
        return repeat(message, context)

    own_echo.start(echo_component(slow))
    message = own_echo.send(4)
    assert inside.wait(60)
    own_server.kill()
    release.set()
    own_server.restart()
    assert own_echo.wait_reply(message).array.tolist() == [8.0]
    until(lambda: own_echo.pending() == 0)
    assert own_echo.counter("received") == own_echo.reply_count() == 1


def test_a_flushed_script_is_loaded_again(own_echo: EchoRun) -> None:
    """SCRIPT FLUSH costs one more round trip."""
    own_echo.start(echo_component())
    for number in range(3):
        own_echo.wait_reply(own_echo.send(number))
        own_echo.client.script_flush()
    assert own_echo.counter("received") == 3


def test_a_broken_connection_is_made_again(own_echo: EchoRun) -> None:
    """CLIENT KILL of each of a replica's connections, again and again: every message once."""
    replica = own_echo.start(echo_component())
    for number in range(6):
        message = own_echo.send(number)
        for client in own_echo.client.client_list():
            if client["name"].startswith(replica.consumer):
                own_echo.client.client_kill_filter(_id=client["id"])
        own_echo.wait_reply(message)
    assert own_echo.counter("received") == own_echo.reply_count() == 6
    assert own_echo.pending() == 0


def test_a_delivery_that_was_lost_on_the_way_is_read_again(own_echo: EchoRun) -> None:
    """The server has given the message, the replica never got it: it asks for its own."""
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        inside.set()
        assert release.wait(60)
        return repeat(message, context)

    replica = own_echo.start(echo_component(slow), lease_s=60.0)
    own_echo.stack.callback(release.set)
    first = own_echo.send(1)
    assert inside.wait(60)
    second = own_echo.send(2)  # as if read by the replica's own consumer, and lost
    key = own_echo.names.stream(*REQUESTS.key)
    own_echo.client.xreadgroup("echo", replica.consumer, {key: ">"})
    loop = next(each for each in own_echo.client.client_list() if each["name"].endswith("~loop"))
    own_echo.client.client_kill_filter(_id=loop["id"])
    release.set()
    own_echo.wait_reply(first)
    own_echo.wait_reply(second)
    assert own_echo.counter("received") == 2


def test_a_destroyed_group_is_created_again_and_redoes_nothing(own_echo: EchoRun) -> None:
    """XGROUP DESTROY: what is marked as done is skipped, what was not yet done is done."""
    own_echo.start(echo_component())
    for number in range(5):
        own_echo.wait_reply(own_echo.send(number))
    own_echo.client.xgroup_destroy(own_echo.names.stream(*REQUESTS.key), "echo")
    own_echo.wait_reply(own_echo.send(5))
    own_echo.wait_reply(own_echo.send(6))
    assert own_echo.counter("received") == own_echo.reply_count() == 7


def test_a_group_destroyed_under_a_handler_loses_nothing(own_echo: EchoRun) -> None:
    """The commit finds its group gone and has no effect; the message comes again."""
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        inside.set()
        assert release.wait(60)
        return repeat(message, context)

    own_echo.start(echo_component(slow))
    done = own_echo.send(1)
    release.set()
    own_echo.wait_reply(done)
    release.clear()
    inside.clear()
    open_ = own_echo.send(2)
    assert inside.wait(60)
    own_echo.client.xgroup_destroy(own_echo.names.stream(*REQUESTS.key), "echo")
    release.set()
    own_echo.wait_reply(open_)
    until(lambda: own_echo.pending() == 0)
    assert own_echo.counter("received") == own_echo.reply_count() == 2


def test_gaps_in_what_was_done_are_filled_after_a_destroyed_group(own_echo: EchoRun) -> None:
    """An entry that was skipped over by a retry is done, those around it are not done again."""
    healed = threading.Event()

    def moody(message: Message, context: Context) -> Message:
        if message.array[0] == 1 and not healed.is_set():
            raise RuntimeError("not this one")
        return repeat(message, context)

    own_echo.start(echo_component(moody), max_deliveries=1000)
    messages = [own_echo.send(number) for number in range(4)]
    for message in (messages[0], *messages[2:]):
        own_echo.wait_reply(message)
    own_echo.client.xgroup_destroy(own_echo.names.stream(*REQUESTS.key), "echo")
    healed.set()
    own_echo.wait_reply(messages[1])
    own_echo.wait_reply(own_echo.send(4))
    assert own_echo.counter("received") == own_echo.reply_count() == 5


def test_an_emptied_server_starts_the_run_again(own_echo: EchoRun) -> None:
    """FLUSHALL: groups, settings and the first message are made again, with a warning."""
    own_echo.start(echo_component(on_start=first_word))
    first = own_echo.wait_for(REPLIES)
    with logged("the run starts again from step 0"):
        own_echo.client.flushall()
        again = own_echo.wait_for(REPLIES)
    assert again.root_id != first.root_id
    assert own_echo.counter("received") == 1


def test_a_server_emptied_under_a_handler_starts_the_run_again(own_echo: EchoRun) -> None:
    """What was in hand belongs to the run that is gone, and leaves nothing in the new one."""
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        context.memory.put(message.id, array=message.array)
        inside.set()
        assert release.wait(60)
        return message.reply(OUTPUT, message.array)

    own_echo.start(echo_component(slow))
    old = own_echo.send(1)
    assert inside.wait(60)
    own_echo.client.flushall()
    release.set()
    new = until(lambda: own_echo.client.exists(own_echo.names.run_info())) and own_echo.send(2)
    own_echo.wait_reply(new)
    assert old.id.encode() not in own_echo.client.hgetall(own_echo.names.memory("echo"))
    assert own_echo.reply_count() == 1


def test_two_replicas_speak_first_only_once(own_echo: EchoRun) -> None:
    """However many start, and however often, the first message is sent once per run."""
    for _ in range(3):
        own_echo.start(echo_component(on_start=first_word))
    own_echo.wait_for(REPLIES)
    own_echo.start(echo_component(on_start=first_word))
    own_echo.wait_reply(own_echo.send(2))
    assert own_echo.client.xlen(own_echo.names.stream(*REQUESTS.key)) == 2


def test_a_full_server_leaves_nothing_half_done(own_echo: EchoRun) -> None:
    """Beyond maxmemory what was begun is finished in one piece, and nothing new is opened."""
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        context.memory.put(message.id, array=message.array)
        inside.set()
        assert release.wait(60)
        return repeat(message, context)

    own_echo.start(echo_component(slow))
    message = own_echo.send(1)
    assert inside.wait(60)
    own_echo.client.config_set("maxmemory", "100kb")
    with pytest.raises(ServerError, match="maxmemory"):
        own_echo.send(2)
    release.set()
    own_echo.wait_reply(message)
    assert own_echo.counter("received") == own_echo.reply_count() == 1
    assert own_echo.client.hlen(own_echo.names.memory("echo")) == 1
    own_echo.client.config_set("maxmemory", "0")
    own_echo.wait_reply(own_echo.send(3))
