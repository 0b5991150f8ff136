"""Each guard and operation that could not be applied is found before the first write."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
import redis

from roomgrad.commit import Commit
from tests.integration.conftest import EchoRun
from tests.integration.hostile.commit_run import REPLIES, REPORTS, REQUESTS, CommitRun

DONE = "done:echo:input:DATA/FORWARD"
LONG = b"9" * 60 + b"-0"  # too long for an entry ID
Stage = Callable[[Commit, CommitRun], None]


@pytest.fixture
def commit_run(echo: EchoRun) -> CommitRun:
    made = CommitRun(echo.client, echo.names)
    made.set()
    return made


def owing(commit_run: CommitRun, stage: Stage) -> Commit:
    """Return a commit of one entry that writes a record, and then does something else."""
    commit, key = Commit(), commit_run.key
    commit.pending(key(REQUESTS), key(DONE), "echo", commit_run.entries[0])
    commit.do(b"HSET", key("records"), b"f", b"1")
    stage(commit, commit_run)
    return commit


def assert_nothing_happens(
    commit_run: CommitRun, commit: Commit, kind: str, by: redis.Redis | None = None
) -> str:
    before = commit_run.snapshot()
    answer = commit_run.send(*commit.parts(), by)
    assert answer.startswith(kind), answer
    assert commit_run.snapshot() == before
    return answer


def doing(command: bytes, name: str, *arguments: bytes) -> Stage:
    return lambda commit, run: commit.do(command, run.key(name), *arguments)


def delaying(fields: list[bytes], limit: bytes = b"", after_ms: bytes = b"1") -> Stage:
    def stage(commit: Commit, run: CommitRun) -> None:
        dues = (run.key("later:echo"), run.key("later:echo:bodies"))
        commit.delay(*dues, 1.0, run.key(REPLIES), "output", b"{", fields)
        words = commit.sends[-1][0]
        words[3], words[7] = after_ms, limit

    return stage


def sending(fields: list[bytes], limit: bytes = b"", times: int = 1) -> Stage:
    def stage(commit: Commit, run: CommitRun) -> None:
        for number in range(times):
            last = number == times - 1
            commit.send(run.key(REPLIES), "output", b"{", fields if last else [b"m", b""])
        commit.sends[-1][0][4] = limit

    return stage


def marking(entry: str) -> Stage:
    return lambda commit, run: commit.mark(run.key(REQUESTS), run.key(DONE), "echo", entry)


def guarding(*guard: bytes) -> Stage:
    return lambda commit, _: commit.guards.append([*guard])


def pending_twice(commit: Commit, run: CommitRun) -> None:
    commit.pending(run.key(REQUESTS), run.key(DONE), "echo", run.entries[1])


def ledger(commit: Commit, run: CommitRun) -> None:
    commit.ledger(run.key("ledger:echo"), run.key("counters:echo"), "root", 1)
    commit.operations[-1][-1] = b"1.5"


def acknowledging(*entries: bytes) -> Stage:
    return lambda commit, run: commit.acknowledge(run.key(REQUESTS), "echo", *entries)


WRONG: dict[str, Stage] = {
    "a second PENDING": pending_twice,
    "an unknown guard": guarding(b"LATER_RELEASE"),
    "an unknown operation": doing(b"SET", "records", b"x"),
    "XACK of no entry": acknowledging(),
    "XACK of an entry and a text": acknowledging(b"1-0", b"text"),
    "HINCRBY by a text": doing(b"HINCRBY", "counters:echo", b"received", b"many"),
    "HINCRBY by two numbers": doing(b"HINCRBY", "counters:echo", b"received", b"1", b"1"),
    "XADD at an ID": doing(b"XADD", "dead", b"1-0", b"m", b""),
    "XADD of a name": doing(b"XADD", "dead", b"*", b"m"),
    "ZADD of a text": doing(b"ZADD", "sent", b"many", b"m"),
    "ZADD of two members": doing(b"ZADD", "sent", b"1", b"m", b"2"),
    "ZREM of two members": doing(b"ZREM", "sent", b"m", b"n"),
    "ZREM of none": doing(b"ZREM", "sent"),
    "ZREMRANGEBYRANK from a text": doing(b"ZREMRANGEBYRANK", "sent", b"many", b"0"),
    "ZREMRANGEBYRANK to a text": doing(b"ZREMRANGEBYRANK", "sent", b"0", b"many"),
    "XTRIM to a text": doing(b"XTRIM", "dead", b"MINID", b"x"),
    "XTRIM to a long number": doing(b"XTRIM", "dead", b"MINID", LONG),
    "PEXPIRE in a text": doing(b"PEXPIRE", "dead", b"soon"),
    "PERSIST of a text": doing(b"PERSIST", "model:echo:snapshot:new:0", b"x"),
    "HSET of a name": doing(b"HSET", "memory:echo", b"f"),
    "HDEL of nothing": doing(b"HDEL", "memory:echo"),
    "HDEL of very many": doing(b"HDEL", "memory:echo", *[b"f"] * 8001),
    "a first SEND of a name": sending([b"m"]),
    "a first SEND with a limit that is no number": sending([b"m", b""], b"many"),
    "a SEND of a name": sending([b"m"], times=2),
    "a SEND of nothing": sending([], times=2),
    "a SEND with a limit that is no number": sending([b"m", b""], b"many", times=2),
    "LATER of a name": delaying([b"m"]),
    "LATER with a limit that is no number": delaying([b"m", b""], limit=b"many"),
    "LATER after a text": delaying([b"m", b""], after_ms=b"soon"),
    "MARK of a text": marking("text"),
    "LEDGER of a step that is no number": ledger,
}


@pytest.mark.parametrize("what", WRONG)
def test_what_no_server_could_apply_is_wrong(commit_run: CommitRun, what: str) -> None:
    """The replica makes a dead letter of the message; no server would do better."""
    assert_nothing_happens(commit_run, owing(commit_run, WRONG[what]), "wrong")


def test_only_publish_announces(commit_run: CommitRun) -> None:
    """Any other command would be run with a channel and a header."""
    commit = owing(commit_run, sending([b"m", b""]))
    commit.publish_command = b"SET"
    assert_nothing_happens(commit_run, commit, "wrong")


def test_memory_is_checked_with_the_done_marks_of_a_message(commit_run: CommitRun) -> None:
    """Without one there is nothing to try."""
    commit = Commit()
    commit.memory()
    assert_nothing_happens(commit_run, commit, "wrong")


def test_the_entry_of_a_message_has_an_id(commit_run: CommitRun) -> None:
    """Its time is the score of the done mark."""
    commit = Commit()
    commit.pending(commit_run.key(REQUESTS), commit_run.key(DONE), "echo", "1")
    assert_nothing_happens(commit_run, commit, "wrong")


OTHERS: dict[str, tuple[str, Stage]] = {
    "xack": (REPLIES, lambda c, run: c.acknowledge(run.key(REPLIES), "echo", b"1-0")),
    "hincrby": ("counters:echo", doing(b"HINCRBY", "counters:echo", b"received", b"1")),
    "xadd": ("dead", doing(b"XADD", "dead", b"*", b"m", b"")),
    "zadd": ("sent", doing(b"ZADD", "sent", b"1", b"m")),
    "zrem": ("sent", doing(b"ZREM", "sent", b"m")),
    "zremrangebyrank": ("sent", doing(b"ZREMRANGEBYRANK", "sent", b"0", b"-11")),
    "xtrim": ("dead", doing(b"XTRIM", "dead", b"MINID", b"1-0")),
    "pexpire": ("dead", doing(b"PEXPIRE", "dead", b"1000")),
    "persist": ("model:echo:snapshot:new:0", doing(b"PERSIST", "model:echo:snapshot:new:0")),
    "unlink": ("model:echo:snapshot:old:0", doing(b"UNLINK", "model:echo:snapshot:old:0")),
}


@pytest.mark.parametrize("command", OTHERS)
def test_an_operation_on_a_key_of_another_type_is_refused(
    commit_run: CommitRun, command: str
) -> None:
    """One that no handler stages, too; it is applied when the key is mended."""
    name, stage = OTHERS[command]
    key = commit_run.key(name)
    kept = commit_run.client.dump(key)
    commit_run.client.delete(key)
    commit_run.client.sadd(key, "member")
    assert name in assert_nothing_happens(commit_run, owing(commit_run, stage), "refused")
    commit_run.client.delete(key)
    if kept:
        commit_run.client.restore(key, 0, kept)
    assert commit_run.send(*owing(commit_run, stage).parts()).startswith("ok")


@pytest.mark.parametrize("command", OTHERS)
def test_an_operation_without_permission_is_refused(
    commit_run: CommitRun, echo: EchoRun, command: str
) -> None:
    """In a commit that does not acknowledge a message, which needs some of the same."""
    key, (_, stage) = commit_run.key, OTHERS[command]
    user = f"user-{secrets.token_hex(4)}"
    rules = ["reset", "on", ">secret", "+@all", "allkeys", "allchannels", f"-{command}"]
    echo.client.execute_command("ACL", "SETUSER", user, *rules)
    echo.stack.callback(echo.client.execute_command, "ACL", "DELUSER", user)
    commit = Commit()
    commit.do(b"HSET", key("records"), b"f", b"1")
    stage(commit, commit_run)
    with redis.Redis.from_url(echo.url, username=user, password="secret") as limited:
        answer = assert_nothing_happens(commit_run, commit, "refused", limited)
    assert f"no permission for {command.upper()}" in answer


# what each guard is for


def send(commit_run: CommitRun, stage: Stage) -> str:
    commit = Commit()
    stage(commit, commit_run)
    return commit_run.send(*commit.parts())


def test_a_token_is_committed_once(commit_run: CommitRun) -> None:
    """A client that got no answer sends the same commit again."""

    def stage(commit: Commit, run: CommitRun) -> None:
        commit.once(run.key("sent"), "token", 5.0)
        commit.do(b"HINCRBY", run.key("counters:echo"), b"received", b"1")

    assert send(commit_run, stage) == "ok"
    assert send(commit_run, stage) == "stale 1"
    assert commit_run.client.hget(commit_run.key("counters:echo"), "received") == b"2"


def test_a_key_that_expired_is_not_pointed_to(commit_run: CommitRun) -> None:
    """As a piece of a snapshot whose writer was frozen."""
    key = commit_run.key("model:echo:snapshot:new:0")

    def stage(commit: Commit, run: CommitRun) -> None:
        commit.stored(key)
        commit.do(b"HSET", run.key("model:echo"), b"snapshots", b"new")

    commit_run.client.delete(key)
    assert send(commit_run, stage) == "stale 1"
    commit_run.client.set(key, "n")
    assert send(commit_run, stage) == "ok"


def test_a_new_key_has_one_type(commit_run: CommitRun) -> None:
    """The first operation creates it; the second would end the script half done."""

    def stage(commit: Commit, run: CommitRun) -> None:
        commit.do(b"ZADD", run.key("new"), b"1", b"m")
        commit.do(b"HINCRBY", run.key("new"), b"f", b"1")

    assert_nothing_happens(commit_run, owing(commit_run, stage), "refused")


def test_a_skipped_entry_is_marked_in_a_set(commit_run: CommitRun) -> None:
    """Its done marks may be those of another stream than that of the message."""

    def stage(commit: Commit, run: CommitRun) -> None:
        commit.mark(run.key(REQUESTS), run.key("counters:echo"), "echo", run.entries[1])

    assert_nothing_happens(commit_run, owing(commit_run, stage), "refused")


def test_a_delayed_message_can_be_sent(commit_run: CommitRun) -> None:
    """It is refused with its commit, and not when it is due."""
    commit_run.client.delete(commit_run.key(REPLIES))
    commit_run.client.set(commit_run.key(REPLIES), "text")
    commit = owing(commit_run, delaying([b"m", b""]))
    assert REPLIES in assert_nothing_happens(commit_run, commit, "refused")


@pytest.mark.parametrize("guard", ["ABSENT", "ONCE"])
def test_guards_say_why_they_cannot_be_read(commit_run: CommitRun, guard: str) -> None:
    """The replica tries again: an error of the script would end its connection."""
    key = commit_run.key("text")
    commit_run.client.set(key, "text")
    commit = Commit()
    if guard == "ABSENT":
        commit.same(key, b"f", None)
    else:
        commit.never(key, "token")
    answer = assert_nothing_happens(commit_run, commit, "refused")
    assert f"key {key} is a string" in answer


def test_an_id_that_is_too_large_is_not_pending(commit_run: CommitRun) -> None:
    """It has the form of an entry ID, which XACK refuses only when it reads it."""
    commit = owing(commit_run, acknowledging(b"9" * 39 + b"-0"))
    assert commit_run.send(*commit.parts()) == "ok"


def test_a_stream_without_groups_is_limited(commit_run: CommitRun) -> None:
    """XADD trims whole nodes, of a hundred entries."""
    stage = lambda commit, run: commit.send(  # noqa: E731
        run.key(REPORTS), run.key("errors"), b"{", [b"m", b""], 1
    )
    for _ in range(250):
        send(commit_run, stage)
    assert commit_run.client.xlen(commit_run.key(REPORTS)) < 200


def test_weights_are_kept_for_each_open_root(commit_run: CommitRun) -> None:
    """Of two roots, the first that ends deletes nothing."""
    kept = commit_run.key("model:echo:kept")
    commit_run.client.hset(kept, "2-b:open", 2)
    release: Stage = lambda commit, run: commit.release(kept, "2-b")  # noqa: E731
    assert send(commit_run, release) == "ok"
    assert commit_run.client.hget(kept, "2-b") == b"w2"
    assert send(commit_run, release) == "ok"
    assert not commit_run.client.exists(kept)


def test_the_ledger_tells_a_gradient_that_is_applied_twice(commit_run: CommitRun) -> None:
    """Then more were applied than there are roots."""

    def stage(commit: Commit, run: CommitRun) -> None:
        commit.ledger(run.key("ledger:echo"), run.key("counters:echo"), "root", 4)

    assert [send(commit_run, stage) for _ in range(2)] == ["ok", "ok"]
    counters = commit_run.client.hgetall(commit_run.key("counters:echo"))
    assert (counters[b"applied"], counters[b"distinct"]) == (b"5", b"4")


def test_the_ledger_is_bounded(commit_run: CommitRun) -> None:
    """To the newest roots."""
    key = commit_run.key("ledger:echo")
    fill = "for n = 1, 100000 do redis.call('ZADD', KEYS[1], n, n) end"
    commit_run.client.eval(fill, 1, key)
    stage = lambda commit, run: commit.ledger(  # noqa: E731
        key, run.key("counters:echo"), "root", 100_001
    )
    assert send(commit_run, stage) == "ok"
    assert commit_run.client.zcard(key) == 100_000
    assert commit_run.client.zscore(key, "1") is None


def test_ids_of_added_entries_are_returned(commit_run: CommitRun) -> None:
    """The replica remembers up to which entry of the log its model is."""
    commit = Commit()
    commit.do(b"XADD", commit_run.key("model:echo:steps"), b"*", b"m", b"")
    answer = commit_run.send(*commit.parts())
    [(entry, _)] = commit_run.client.xrange(commit_run.key("model:echo:steps"))
    assert answer == f"ok {entry.decode()}"


def test_a_root_waits_while_memory_is_full(own_echo: EchoRun) -> None:
    """The answer says so, so that the replica holds its message; what ends roots goes on."""
    commit_run, client = CommitRun(own_echo.client, own_echo.names), own_echo.client
    commit_run.set()
    opening, ending = (owing(commit_run, sending([b"m", b""])) for _ in range(2))
    opening.memory()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1mb")
    try:
        before = commit_run.snapshot()
        assert commit_run.send(*opening.parts()).startswith("full OOM")
        assert commit_run.snapshot() == before
        assert commit_run.send(*ending.parts()).startswith("ok")
    finally:
        client.config_set("maxmemory", "0")
