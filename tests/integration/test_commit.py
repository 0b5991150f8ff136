"""One message, one commit: everything happens or nothing does, and once."""

from __future__ import annotations

import secrets
import threading

import pytest
import structlog

from roomgrad import Context, Message
from roomgrad.runtime.replica import Replica
from tests.integration.conftest import EchoRun
from tests.integration.echo import GRADIENT, OUTPUT, REPLIES, echo_component, numbers, repeat
from tests.waiting import until


def restless(message: Message, context: Context) -> Message:
    """Writes everything that a handler without a model can write."""
    context.counters.add("received")
    context.memory.put(message.id, heard=message.array)
    context.table("records").put("last", text="hello")
    context.report(REQUESTS=1)
    context.send(message.reply(OUTPUT, message.array), after_s=3600)
    return message.reply(OUTPUT, message.array)


def everything(echo: EchoRun) -> dict[str, int]:
    """How much stands in each key that `restless` writes."""
    names, client = echo.names, echo.client
    return {
        "said": client.xlen(names.stream(*REPLIES.key)),
        "memory": client.hlen(names.memory("echo")),
        "table": client.hlen(names.table("records")),
        "reports": client.xlen(names.stream("_logging", "LOG/KPI")),
        "later": client.zcard(names.later("echo")),
        "bodies": client.hlen(names.later_bodies("echo")),
        "done": client.zcard(names.done("echo", "input", "DATA/FORWARD")),
    }


KEYS = ("said", "memory", "table", "reports", "later", "bodies", "done")
NOTHING = dict.fromkeys(KEYS, 0)
ALL = {**dict.fromkeys(KEYS, 1), "bodies": 2}  # a body, and how many there were


def held(replica: Replica) -> bool:
    """Whether the replica holds a message whose commit the server does not allow."""
    return bool(replica.status.refused)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused commit is tried again soon."""
    monkeypatch.setattr("roomgrad.runtime.committer.REFUSED_PAUSE_S", 0.05)


FORBIDDEN = [
    "counters:echo",
    "memory:echo",
    "records",
    "output:DATA/FORWARD",
    "_logging:LOG/KPI",
    "done:echo:input:DATA/FORWARD",
    "later:echo",
    "later:echo:bodies",
]


@pytest.mark.parametrize("forbidden", FORBIDDEN)
def test_a_missing_permission_leaves_nothing_half_done(echo: EchoRun, forbidden: str) -> None:
    """Without the right to write one key nothing is written; with it the message goes through."""
    user, run = f"user-{secrets.token_hex(4)}", f"{{{echo.names.run}}}"
    allowed = [f"~{run}:{key}" for key in ("run", "alive:*", "input:*", "output:*", "@*", "dead")]
    allowed += [f"~{run}:{key}" for key in ("counters:*", "memory:*", "records", "_logging:*")]
    allowed += [f"~{run}:done:*", f"~{run}:errors:*", f"~{run}:later:*"]
    all_keys = [f"~{run}:*"]
    echo.client.execute_command("ACL", "SETUSER", user, "on", ">secret", "+@all", "&*", *all_keys)
    echo.stack.callback(echo.client.execute_command, "ACL", "DELUSER", user)
    url = echo.url.replace("redis://", f"redis://{user}:secret@")
    replica = echo.start(echo_component(restless), url=url)
    # `%R~` on the forbidden key: it may be read, as the handler must, and not be written.
    limits = ["resetkeys", f"%R~{run}:{forbidden}"]
    limits += [rule for rule in allowed if not matches(rule, forbidden)]
    echo.client.execute_command("ACL", "SETUSER", user, *limits)
    message = echo.send(1, 2)
    until(lambda: echo.pending() == 1 and held(replica))
    assert everything(echo) == NOTHING
    echo.client.execute_command("ACL", "SETUSER", user, *all_keys)
    echo.wait_reply(message)
    assert everything(echo) == ALL
    assert echo.counter("received") == 1


def matches(rule: str, key: str) -> bool:
    pattern = rule.split("}:", 1)[1]
    return key.startswith(pattern.rstrip("*")) if pattern.endswith("*") else key == pattern


def test_a_read_of_a_broken_key_waits_until_it_is_mended(echo: EchoRun) -> None:
    """A handler reads a key of the wrong type: its message waits, and is not condemned."""

    def careful(message: Message, context: Context) -> Message:
        context.counters.add("received")
        known = context.memory.get("somebody")
        return message.reply(OUTPUT, numbers(len(known or {})))

    key = echo.names.memory("echo")
    echo.client.set(key, "somebody's own")
    replica = echo.start(echo_component(careful), max_deliveries=1)
    with structlog.testing.capture_logs() as lines:
        message = echo.send(1)
        until(lambda: len([each for each in lines if "refuses" in each["event"]]) > 2)
    assert held(replica)
    assert echo.reply_count() == 0
    echo.client.delete(key)
    assert echo.wait_reply(message).array.tolist() == [0.0]
    assert echo.counter("received") == 1
    assert echo.dead_letters() == []


@pytest.mark.parametrize("broken", FORBIDDEN)
def test_a_key_of_another_type_leaves_nothing_half_done(echo: EchoRun, broken: str) -> None:
    """With one key of the wrong type nothing is written; without it the message goes through."""
    key = f"{{{echo.names.run}}}:{broken}"
    replica = echo.start(echo_component(restless))
    kept = echo.client.dump(key)
    echo.client.set(key, "somebody's own")
    message = echo.send(1)
    until(lambda: echo.pending() == 1 and held(replica))
    if kept is None:
        echo.client.delete(key)
    else:
        echo.client.restore(key, 0, kept, replace=True)
    echo.wait_reply(message)
    assert everything(echo) == ALL
    assert echo.counter("received") == 1


def test_a_counter_that_is_no_number_leaves_nothing_half_done(echo: EchoRun) -> None:
    """Where a counter holds text nothing is written until it is a number again."""
    echo.client.hset(echo.names.counters("echo"), "received", "many")
    replica = echo.start(echo_component(restless))
    message = echo.send(1)
    until(lambda: echo.pending() == 1 and held(replica))
    assert everything(echo) == NOTHING
    echo.client.hset(echo.names.counters("echo"), "received", "41")
    echo.wait_reply(message)
    assert echo.counter("received") == 42
    assert everything(echo) == ALL


def test_the_first_commit_wins(echo: EchoRun) -> None:
    """A replica that was taken for dead comes back with the same message: it has no effect."""
    awake, release = threading.Event(), threading.Event()

    def sleepy(message: Message, context: Context) -> Message:
        awake.set()
        assert release.wait(60)
        return repeat(message, context)

    zombie = echo.start(echo_component(sleepy), heartbeat_interval_s=30.0)
    message = echo.send(3)
    assert awake.wait(60)
    echo.start(echo_component())
    reply = echo.wait_reply(message)
    assert echo.counter("received") == 1
    release.set()
    until(lambda: zombie.status.handling is None)
    assert echo.counter("received") == 1
    assert echo.reply_count() == 1
    assert reply.array.tolist() == [6.0]
    again = echo.send(4)  # and the zombie goes on as a replica among others
    assert echo.wait_reply(again).array.tolist() == [8.0]


def test_many_replicas_handle_each_message_once(echo: EchoRun) -> None:
    """Three replicas share a group: thirty messages, thirty effects."""
    for _ in range(3):
        echo.start(echo_component())
    messages = [echo.send(n) for n in range(30)]
    replies = [echo.wait_reply(message) for message in messages]
    assert [reply.array[0] for reply in replies] == [2.0 * n for n in range(30)]
    assert echo.counter("received") == echo.reply_count() == 30
    assert echo.pending() == 0


def test_a_stale_read_runs_the_handler_again(echo: EchoRun) -> None:
    """What the handler read has changed before its commit: it runs again on what stands now."""
    runs: list[int] = []

    def add(message: Message, context: Context) -> Message:
        table = context.table("sum")
        total = (table.get("all") or {"total": 0})["total"]
        runs.append(total)
        if len(runs) == 1:  # somebody else writes meanwhile
            echo.client.hset(echo.names.table("sum"), "all", '{"total":100}')
        table.put("all", total=total + int(message.array[0]))
        return message.reply(OUTPUT, numbers(total))

    echo.start(echo_component(add))
    message = echo.send(5)
    assert echo.wait_reply(message).array.tolist() == [100.0]
    assert runs == [0, 100]
    assert echo.client.hget(echo.names.table("sum"), "all") == b'{"total":105}'


def test_an_undeclared_reply_is_refused(echo: EchoRun) -> None:
    """A reply to a room that its handler did not declare condemns the message, and names both."""

    def astray(message: Message, context: Context) -> Message:
        context.counters.add("received")
        return message.reply("input", message.array, type=GRADIENT)

    echo.start(echo_component(astray), max_deliveries=1)
    echo.send(1)
    dead = until(echo.dead_letters)
    assert b"replied DATA/GRADIENT to input" in dead[0][b"history"]
    assert b"DATA/FORWARD to output" in dead[0][b"history"]
    assert echo.counter("received") == 0
