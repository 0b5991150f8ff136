"""One message, one commit: everything happens or nothing does, and once."""

from __future__ import annotations

import secrets
import threading

import pytest
import structlog

from roomgrad import Context, Message
from roomgrad.runtime.replica import Replica
from tests.integration.conftest import Cage
from tests.integration.parrots import GRADIENT, PERCH, SAID, numbers, parrot, repeat
from tests.waiting import until


def restless(message: Message, context: Context) -> Message:
    """Writes everything that a handler without a model can write."""
    context.counters.add("heard")
    context.memory.put(message.id, heard=message.array)
    context.table("sayings").put("last", text="hello")
    context.report(HEARD=1)
    context.send(message.reply(PERCH, message.array), after_s=3600)
    return message.reply(PERCH, message.array)


def everything(cage: Cage) -> dict[str, int]:
    """How much stands in each key that `restless` writes."""
    names, client = cage.names, cage.client
    return {
        "said": client.xlen(names.stream(*SAID.key)),
        "memory": client.hlen(names.memory("parrot")),
        "table": client.hlen(names.table("sayings")),
        "reports": client.xlen(names.stream("_logging", "LOG/KPI")),
        "later": client.zcard(names.later("parrot")),
        "bodies": client.hlen(names.later_bodies("parrot")),
        "done": client.zcard(names.done("parrot", "cage", "DATA/FORWARD")),
    }


KEYS = ("said", "memory", "table", "reports", "later", "bodies", "done")
NOTHING = dict.fromkeys(KEYS, 0)
ALL = {**dict.fromkeys(KEYS, 1), "bodies": 2}  # a body, and how many there were


def held(replica: Replica) -> bool:
    """Whether the replica holds a message whose commit the server does not allow."""
    return replica.status.handling is not None


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused commit is tried again soon."""
    monkeypatch.setattr("roomgrad.runtime.committer.REFUSED_PAUSE_S", 0.05)


FORBIDDEN = [
    "counters:parrot",
    "memory:parrot",
    "sayings",
    "perch:DATA/FORWARD",
    "_logging:LOG/KPI",
    "done:parrot:cage:DATA/FORWARD",
    "later:parrot",
    "later:parrot:bodies",
]


@pytest.mark.parametrize("forbidden", FORBIDDEN)
def test_a_missing_permission_leaves_nothing_half_done(cage: Cage, forbidden: str) -> None:
    """Without the right to write one key nothing is written; with it the message goes through."""
    user, run = f"user-{secrets.token_hex(4)}", f"{{{cage.names.run}}}"
    allowed = [f"~{run}:{key}" for key in ("run", "alive:*", "cage:*", "perch:*", "@*", "dead")]
    allowed += [f"~{run}:{key}" for key in ("counters:*", "memory:*", "sayings", "_logging:*")]
    allowed += [f"~{run}:done:*", f"~{run}:errors:*", f"~{run}:later:*"]
    all_keys = [f"~{run}:*"]
    cage.client.execute_command("ACL", "SETUSER", user, "on", ">secret", "+@all", "&*", *all_keys)
    cage.stack.callback(cage.client.execute_command, "ACL", "DELUSER", user)
    url = cage.url.replace("redis://", f"redis://{user}:secret@")
    replica = cage.start(parrot(restless), url=url)
    # `%R~` on the forbidden key: it may be read, as the handler must, and not be written.
    limits = ["resetkeys", f"%R~{run}:{forbidden}"]
    limits += [rule for rule in allowed if not matches(rule, forbidden)]
    cage.client.execute_command("ACL", "SETUSER", user, *limits)
    message = cage.say(1, 2)
    until(lambda: cage.pending() == 1 and held(replica))
    assert everything(cage) == NOTHING
    cage.client.execute_command("ACL", "SETUSER", user, *all_keys)
    cage.heard(message)
    assert everything(cage) == ALL
    assert cage.counter("heard") == 1


def matches(rule: str, key: str) -> bool:
    pattern = rule.split("}:", 1)[1]
    return key.startswith(pattern.rstrip("*")) if pattern.endswith("*") else key == pattern


def test_a_read_of_a_broken_key_waits_until_it_is_mended(cage: Cage) -> None:
    """A handler reads a key of the wrong type: its message waits, and is not condemned."""

    def careful(message: Message, context: Context) -> Message:
        context.counters.add("heard")
        known = context.memory.get("somebody")
        return message.reply(PERCH, numbers(len(known or {})))

    key = cage.names.memory("parrot")
    cage.client.set(key, "somebody's own")
    replica = cage.start(parrot(careful), max_deliveries=1)
    with structlog.testing.capture_logs() as lines:
        message = cage.say(1)
        until(lambda: len([each for each in lines if "refuses" in each["event"]]) > 2)
    assert held(replica)
    assert cage.said() == 0
    cage.client.delete(key)
    assert cage.heard(message).array.tolist() == [0.0]
    assert cage.counter("heard") == 1
    assert cage.dead() == []


@pytest.mark.parametrize("broken", FORBIDDEN)
def test_a_key_of_another_type_leaves_nothing_half_done(cage: Cage, broken: str) -> None:
    """With one key of the wrong type nothing is written; without it the message goes through."""
    key = f"{{{cage.names.run}}}:{broken}"
    replica = cage.start(parrot(restless))
    kept = cage.client.dump(key)
    cage.client.set(key, "somebody's own")
    message = cage.say(1)
    until(lambda: cage.pending() == 1 and held(replica))
    if kept is None:
        cage.client.delete(key)
    else:
        cage.client.restore(key, 0, kept, replace=True)
    cage.heard(message)
    assert everything(cage) == ALL
    assert cage.counter("heard") == 1


def test_a_counter_that_is_no_number_leaves_nothing_half_done(cage: Cage) -> None:
    """Where a counter holds text nothing is written until it is a number again."""
    cage.client.hset(cage.names.counters("parrot"), "heard", "many")
    replica = cage.start(parrot(restless))
    message = cage.say(1)
    until(lambda: cage.pending() == 1 and held(replica))
    assert everything(cage) == NOTHING
    cage.client.hset(cage.names.counters("parrot"), "heard", "41")
    cage.heard(message)
    assert cage.counter("heard") == 42
    assert everything(cage) == ALL


def test_the_first_commit_wins(cage: Cage) -> None:
    """A replica that was taken for dead comes back with the same message: it has no effect."""
    awake, release = threading.Event(), threading.Event()

    def sleepy(message: Message, context: Context) -> Message:
        awake.set()
        assert release.wait(20)
        return repeat(message, context)

    zombie = cage.start(parrot(sleepy), heartbeat_interval_s=30.0)
    message = cage.say(3)
    assert awake.wait(10)
    cage.start(parrot())
    reply = cage.heard(message)
    assert cage.counter("heard") == 1
    release.set()
    until(lambda: zombie.status.handling is None)
    assert cage.counter("heard") == 1
    assert cage.said() == 1
    assert reply.array.tolist() == [6.0]
    again = cage.say(4)  # and the zombie goes on as a replica among others
    assert cage.heard(again).array.tolist() == [8.0]


def test_many_replicas_handle_each_message_once(cage: Cage) -> None:
    """Three replicas share a group: thirty messages, thirty effects."""
    for _ in range(3):
        cage.start(parrot())
    messages = [cage.say(n) for n in range(30)]
    replies = [cage.heard(message) for message in messages]
    assert [reply.array[0] for reply in replies] == [2.0 * n for n in range(30)]
    assert cage.counter("heard") == cage.said() == 30
    assert cage.pending() == 0


def test_a_stale_read_runs_the_handler_again(cage: Cage) -> None:
    """What the handler read has changed before its commit: it runs again on what stands now."""
    runs: list[int] = []

    def add(message: Message, context: Context) -> Message:
        table = context.table("sum")
        total = (table.get("all") or {"total": 0})["total"]
        runs.append(total)
        if len(runs) == 1:  # somebody else writes meanwhile
            cage.client.hset(cage.names.table("sum"), "all", '{"total":100}')
        table.put("all", total=total + int(message.array[0]))
        return message.reply(PERCH, numbers(total))

    cage.start(parrot(add))
    message = cage.say(5)
    assert cage.heard(message).array.tolist() == [100.0]
    assert runs == [0, 100]
    assert cage.client.hget(cage.names.table("sum"), "all") == b'{"total":105}'


def test_an_undeclared_reply_is_refused(cage: Cage) -> None:
    """A reply to a room that its handler did not declare condemns the message, and names both."""

    def astray(message: Message, context: Context) -> Message:
        context.counters.add("heard")
        return message.reply("cage", message.array, type=GRADIENT)

    cage.start(parrot(astray), max_deliveries=1)
    cage.say(1)
    dead = until(cage.dead)
    assert b"replied DATA/GRADIENT to cage" in dead[0][b"history"]
    assert b"DATA/FORWARD to perch" in dead[0][b"history"]
    assert cage.counter("heard") == 0
