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
from tests.integration.conftest import QUICK, Cage, OwnServer
from tests.integration.parrots import CAGE, HEARD, PERCH, SAID, numbers, parrot, repeat
from tests.waiting import until


def first_word(context: Context) -> Message:
    """The parrot speaks first: it hears a 1."""
    return Message.open(CAGE, numbers(1))


@contextmanager
def logged(*events: str) -> Iterator[None]:
    """What happens in the block is logged with these words, in the end."""
    with structlog.testing.capture_logs() as lines:
        yield
        for event in events:
            until(lambda event=event: any(event in line["event"] for line in lines))


def test_a_server_that_was_killed_is_found_again(own_server: OwnServer, own_cage: Cage) -> None:
    """kill -9, a long silence, a restart on its append-only file: the replica goes on."""
    own_cage.client.config_set("appendfsync", "always")
    own_cage.start(parrot())
    own_cage.heard(own_cage.say(1))
    with logged("lost the server", "answers again"):
        own_server.kill()
        own_server.turn_away(12)
        own_server.restart()
        assert own_cage.heard(own_cage.say(3)).array.tolist() == [6.0]
    assert own_cage.counter("heard") == 2
    channel = own_cage.names.channel("cage")  # its subscriptions are restored
    until(lambda: own_cage.client.pubsub_numsub(channel)[0][1] == 1)


def test_a_server_that_is_away_from_the_start_is_waited_for(own_server: OwnServer) -> None:
    """A component may start before its server."""
    own_server.kill()
    settings = parrot().settings(run="early", **QUICK)
    with running(parrot(on_start=first_word), settings, own_server.url):
        own_server.turn_away(4)
        own_server.restart()
        with connect(own_server.url) as client:
            assert wait_for(client, Names("early"), SAID).array.tolist() == [2.0]


def test_a_replica_stops_while_its_server_is_away(own_server: OwnServer, own_cage: Cage) -> None:
    """SIGTERM is answered in an outage too."""
    process = own_cage.spawn("repeat")
    own_cage.heard(own_cage.say(1))
    own_server.kill()
    own_server.turn_away(3)
    process.terminate()
    assert process.wait(10) == 0
    own_server.restart()


def test_a_server_that_does_not_let_it_read_is_asked_less_and_less(cage: Cage) -> None:
    """To connect is not enough: the pauses grow, and the log says it once."""
    user, run = f"user-{secrets.token_hex(4)}", f"~{{{cage.names.run}}}:*"
    cage.client.execute_command("ACL", "SETUSER", user, "on", ">secret", "+@all", "&*", run)
    cage.stack.callback(cage.client.execute_command, "ACL", "DELUSER", user)
    with structlog.testing.capture_logs() as lines:
        cage.start(parrot(), url=cage.url.replace("redis://", f"redis://{user}:secret@"))
        cage.client.execute_command("ACL", "SETUSER", user, "-xreadgroup")
        until(lambda: denied(cage, user) >= 4)
        cage.client.execute_command("ACL", "SETUSER", user, "+xreadgroup")
        assert cage.heard(cage.say(1)).array.tolist() == [2.0]
    events = [line["event"] for line in lines]
    assert events.count("lost the server, trying again") == 1


def denied(cage: Cage, user: str) -> int:
    """How often the server has denied XREADGROUP to a user."""
    entries = cage.client.acl_log()
    return sum(int(each["count"]) for each in entries if each["username"] == user)


@pytest.mark.slow
def test_a_frozen_server_is_given_up_and_found_again(own_server: OwnServer, own_cage: Cage) -> None:
    """It says nothing, and does not close the connection: an overdue answer is a lost one."""
    own_cage.start(parrot())
    own_cage.heard(own_cage.say(1))
    with logged("lost the server", "answers again"):
        os.kill(own_server.process.pid, signal.SIGSTOP)
        threading.Timer(8.0, os.kill, (own_server.process.pid, signal.SIGCONT)).start()
        own_cage.heard(own_cage.say(2))
        own_cage.heard(own_cage.say(3))
    assert own_cage.counter("heard") == 3


def test_work_that_an_outage_interrupts_is_done_once(own_server: OwnServer, own_cage: Cage) -> None:
    """The server dies while a handler runs: its message comes again when the server is back."""
    own_cage.client.config_set("appendfsync", "always")
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        inside.set()
        assert release.wait(20)
        return repeat(message, context)

    own_cage.start(parrot(slow))
    message = own_cage.say(4)
    assert inside.wait(10)
    own_server.kill()
    release.set()
    own_server.restart()
    assert own_cage.heard(message).array.tolist() == [8.0]
    until(lambda: own_cage.pending() == 0)
    assert own_cage.counter("heard") == own_cage.said() == 1


def test_a_flushed_script_is_loaded_again(own_cage: Cage) -> None:
    """SCRIPT FLUSH costs one more round trip."""
    own_cage.start(parrot())
    for number in range(3):
        own_cage.heard(own_cage.say(number))
        own_cage.client.script_flush()
    assert own_cage.counter("heard") == 3


def test_a_broken_connection_is_made_again(own_cage: Cage) -> None:
    """CLIENT KILL of each of a replica's connections, again and again: every message once."""
    replica = own_cage.start(parrot())
    for number in range(6):
        message = own_cage.say(number)
        for client in own_cage.client.client_list():
            if client["name"].startswith(replica.consumer):
                own_cage.client.client_kill_filter(_id=client["id"])
        own_cage.heard(message)
    assert own_cage.counter("heard") == own_cage.said() == 6
    assert own_cage.pending() == 0


def test_a_delivery_that_was_lost_on_the_way_is_read_again(own_cage: Cage) -> None:
    """The server has given the message, the replica never got it: it asks for its own."""
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        inside.set()
        assert release.wait(20)
        return repeat(message, context)

    replica = own_cage.start(parrot(slow), lease_s=60.0)
    own_cage.stack.callback(release.set)
    first = own_cage.say(1)
    assert inside.wait(10)
    second = own_cage.say(2)  # as if read by the replica's own consumer, and lost
    key = own_cage.names.stream(*HEARD.key)
    own_cage.client.xreadgroup("parrot", replica.consumer, {key: ">"})
    loop = next(each for each in own_cage.client.client_list() if each["name"].endswith("~loop"))
    own_cage.client.client_kill_filter(_id=loop["id"])
    release.set()
    own_cage.heard(first)
    own_cage.heard(second)
    assert own_cage.counter("heard") == 2


def test_a_destroyed_group_is_created_again_and_redoes_nothing(own_cage: Cage) -> None:
    """XGROUP DESTROY: what is marked as done is skipped, what was not yet done is done."""
    own_cage.start(parrot())
    for number in range(5):
        own_cage.heard(own_cage.say(number))
    own_cage.client.xgroup_destroy(own_cage.names.stream(*HEARD.key), "parrot")
    own_cage.heard(own_cage.say(5))
    own_cage.heard(own_cage.say(6))
    assert own_cage.counter("heard") == own_cage.said() == 7


def test_a_group_destroyed_under_a_handler_loses_nothing(own_cage: Cage) -> None:
    """The commit finds its group gone and has no effect; the message comes again."""
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        inside.set()
        assert release.wait(20)
        return repeat(message, context)

    own_cage.start(parrot(slow))
    done = own_cage.say(1)
    release.set()
    own_cage.heard(done)
    release.clear()
    inside.clear()
    open_ = own_cage.say(2)
    assert inside.wait(10)
    own_cage.client.xgroup_destroy(own_cage.names.stream(*HEARD.key), "parrot")
    release.set()
    own_cage.heard(open_)
    until(lambda: own_cage.pending() == 0)
    assert own_cage.counter("heard") == own_cage.said() == 2


def test_gaps_in_what_was_done_are_filled_after_a_destroyed_group(own_cage: Cage) -> None:
    """An entry that was skipped over by a retry is done, those around it are not done again."""
    healed = threading.Event()

    def moody(message: Message, context: Context) -> Message:
        if message.array[0] == 1 and not healed.is_set():
            raise RuntimeError("not this one")
        return repeat(message, context)

    own_cage.start(parrot(moody), max_deliveries=1000)
    messages = [own_cage.say(number) for number in range(4)]
    for message in (messages[0], *messages[2:]):
        own_cage.heard(message)
    own_cage.client.xgroup_destroy(own_cage.names.stream(*HEARD.key), "parrot")
    healed.set()
    own_cage.heard(messages[1])
    own_cage.heard(own_cage.say(4))
    assert own_cage.counter("heard") == own_cage.said() == 5


def test_an_emptied_server_starts_the_run_again(own_cage: Cage) -> None:
    """FLUSHALL: groups, settings and the first message are made again, with a warning."""
    own_cage.start(parrot(on_start=first_word))
    first = wait_for(own_cage.client, own_cage.names, SAID)
    with logged("the run starts again from step 0"):
        own_cage.client.flushall()
        again = wait_for(own_cage.client, own_cage.names, SAID)
    assert again.root_id != first.root_id
    assert own_cage.counter("heard") == 1


def test_a_server_emptied_under_a_handler_starts_the_run_again(own_cage: Cage) -> None:
    """What was in hand belongs to the run that is gone, and leaves nothing in the new one."""
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        context.memory.put(message.id, array=message.array)
        inside.set()
        assert release.wait(20)
        return message.reply(PERCH, message.array)

    own_cage.start(parrot(slow))
    old = own_cage.say(1)
    assert inside.wait(10)
    own_cage.client.flushall()
    release.set()
    new = until(lambda: own_cage.client.exists(own_cage.names.run_info())) and own_cage.say(2)
    own_cage.heard(new)
    assert old.id.encode() not in own_cage.client.hgetall(own_cage.names.memory("parrot"))
    assert own_cage.said() == 1


def test_two_replicas_speak_first_only_once(own_cage: Cage) -> None:
    """However many start, and however often, the first message is sent once per run."""
    for _ in range(3):
        own_cage.start(parrot(on_start=first_word))
    wait_for(own_cage.client, own_cage.names, SAID)
    own_cage.start(parrot(on_start=first_word))
    own_cage.heard(own_cage.say(2))
    assert own_cage.client.xlen(own_cage.names.stream(*HEARD.key)) == 2


def test_a_full_server_leaves_nothing_half_done(own_cage: Cage) -> None:
    """Beyond maxmemory what was begun is finished in one piece, and nothing new is opened."""
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        context.memory.put(message.id, array=message.array)
        inside.set()
        assert release.wait(20)
        return repeat(message, context)

    own_cage.start(parrot(slow))
    message = own_cage.say(1)
    assert inside.wait(10)
    own_cage.client.config_set("maxmemory", "100kb")
    with pytest.raises(ServerError, match="maxmemory"):
        own_cage.say(2)
    release.set()
    own_cage.heard(message)
    assert own_cage.counter("heard") == own_cage.said() == 1
    assert own_cage.client.hlen(own_cage.names.memory("parrot")) == 1
    own_cage.client.config_set("maxmemory", "0")
    own_cage.heard(own_cage.say(3))
