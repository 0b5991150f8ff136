"""One-shot clients, and tools for tests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from roomgrad import Context, Message, ModelStatus
from roomgrad.errors import NoAnswer, NoServer, SchemaError, ServerError
from roomgrad.redis import heartbeats
from roomgrad.redis.client import BACKLOG_LIMIT, Client
from roomgrad.redis.disk import answers_early
from roomgrad.redis.server import version
from roomgrad.runtime import runs
from roomgrad.testing import throwaway_server, wait_for
from tests.integration.conftest import EchoRun
from tests.integration.doctor.conftest import managed
from tests.integration.echo import ECHO, FORWARD, INPUT, OUTPUT, REPLIES, echo_component, numbers
from tests.waiting import until


def test_a_question_is_answered(echo: EchoRun) -> None:
    """`ask` waits for the answer to its own root, whatever else is said."""
    echo.start(echo_component())
    with Client(ECHO, echo.names.run, echo.url) as client:
        for number in range(5):
            echo.send(100)
            answer = client.ask(INPUT, FORWARD, numbers(number), answer=(OUTPUT, FORWARD))
            assert answer.array.tolist() == [2.0 * number]
            assert answer.status == ModelStatus.VALIDATE
    assert echo.client.client_list()


def test_a_question_that_nobody_answers_says_so(echo: EchoRun) -> None:
    """In time, with what to do."""
    with (
        Client(ECHO, echo.names.run, echo.url) as client,
        pytest.raises(NoAnswer, match=r"no answer in room output .* are its components running"),
    ):
        client.ask(INPUT, FORWARD, numbers(1), answer=(OUTPUT, FORWARD), timeout_s=0.2)


def test_a_question_whose_component_is_away_says_which(echo: EchoRun) -> None:
    """Its message waits for it."""
    runs.create_groups(echo.client, ECHO, echo.names)
    with (
        Client(ECHO, echo.names.run, echo.url) as client,
        pytest.raises(
            NoAnswer,
            match=r"room input has waited [0-9.]+ s for echo, of which no replica is alive",
        ),
    ):
        client.ask(INPUT, FORWARD, numbers(1), answer=(OUTPUT, FORWARD), timeout_s=0.2)


def test_a_question_that_was_given_up_waits_no_longer(echo: EchoRun) -> None:
    """No replica and no `roomgrad doctor` finds it; what waited before goes on waiting."""
    runs.create_groups(echo.client, ECHO, echo.names)
    key = echo.names.stream(str(INPUT), FORWARD)

    def waiting() -> list[int]:
        return [group["lag"] for group in echo.client.xinfo_groups(key)]

    with Client(ECHO, echo.names.run, echo.url) as client:
        for _ in range(2):
            with pytest.raises(NoAnswer):
                client.ask(INPUT, FORWARD, numbers(1), answer=(OUTPUT, FORWARD), timeout_s=0.2)
            assert waiting() == [0]
        client.send(Message.open(INPUT, numbers(2)))
        with pytest.raises(NoAnswer):
            client.ask(INPUT, FORWARD, numbers(3), answer=(OUTPUT, FORWARD), timeout_s=0.2)
        assert waiting() == [2]
        echo.start(echo_component())
        answer = client.ask(INPUT, FORWARD, numbers(4), answer=(OUTPUT, FORWARD))
        assert answer.array.tolist() == [8.0]
    assert echo.counter("received") == 3


def test_a_question_whose_handler_raises_names_the_exception(echo: EchoRun) -> None:
    """While it is tried again, and when it was given up."""

    def fail(message: Message, context: Context) -> Message:
        raise IndexError("list index out of range")

    def says(reason: str) -> re.Match[str] | None:
        with pytest.raises(NoAnswer) as found:
            client.ask(INPUT, FORWARD, numbers(1), answer=(OUTPUT, FORWARD), timeout_s=1)
        return re.search(reason, str(found.value))

    replica = echo.start(echo_component(fail))
    with Client(ECHO, echo.names.run, echo.url) as client:
        until(lambda: says(r"echo raises IndexError: list index out of range"))
        echo.stop(replica)
        echo.start(echo_component(fail), max_deliveries=1)
        until(lambda: says(r"echo gave up a message: IndexError: list index out of range.*dead li"))


def test_a_handler_that_raised_once_is_no_longer_reported(echo: EchoRun) -> None:
    """Its heartbeat names the exception until the message is handled."""
    raised = []

    def recover(message: Message, context: Context) -> Message:
        if len(raised) < 4:
            raised.append(message.id)
            raise KeyError("first")
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(recover))
    root = echo.send(1)
    until(lambda: any(beat.error for beat in heartbeats.find(echo.client, echo.names)))
    echo.wait_reply(root)
    until(lambda: not any(beat.error for beat in heartbeats.find(echo.client, echo.names)))


def test_a_question_that_does_not_fit_its_room_is_not_sent(echo: EchoRun) -> None:
    """The sender is told, the room hears nothing."""
    with (
        Client(ECHO, echo.names.run, echo.url) as client,
        pytest.raises(SchemaError, match=r"expected shape \(n,\), got \(1, 1\)"),
    ):
        client.ask(INPUT, FORWARD, numbers(1).reshape(1, 1), answer=(OUTPUT, FORWARD))
    assert not echo.client.exists(echo.names.stream("input", "DATA/FORWARD"))


def test_validation_is_answered_and_leaves_nothing(echo: EchoRun) -> None:
    """No memory, whatever the handler puts."""

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, kept=message.array)
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(keep))
    with Client(ECHO, echo.names.run, echo.url) as client:
        client.ask(INPUT, FORWARD, numbers(1), answer=(OUTPUT, FORWARD))
    assert not echo.client.exists(echo.names.memory("echo"))
    echo.wait_reply(echo.send(1))
    assert echo.client.hlen(echo.names.memory("echo")) == 1


def test_a_client_without_a_server_says_where_it_looked() -> None:
    """And how to start one."""
    with throwaway_server() as server:
        url = server.url
    with pytest.raises(NoServer, match=r"no server answers at redis://127\.0\.0\.1"):
        Client(ECHO, "run", url)


def test_waiting_for_a_message_ends(echo: EchoRun) -> None:
    """`wait_for` waits for the event, finds it behind others, and gives up in time."""
    echo.start(echo_component())
    messages = [echo.send(number) for number in range(3)]
    last = wait_for(echo.client, echo.names, REPLIES, root_id=messages[2].root_id)
    first = wait_for(echo.client, echo.names, REPLIES)
    assert (first.array[0], last.array[0]) == (0.0, 4.0)
    behind = wait_for(echo.client, echo.names, REPLIES, after=first.entry)
    assert behind.array[0] == 2.0
    with pytest.raises(NoAnswer, match=r"no message came to .* within 0\.1 s"):
        wait_for(echo.client, echo.names, REPLIES, after=last.entry, timeout_s=0.1)


def test_nothing_new_is_opened_while_a_thousand_wait(echo: EchoRun) -> None:
    """It looks now and then only, and does not go beyond for that; others are refused as well."""
    runs.create_groups(echo.client, ECHO, echo.names)
    with Client(ECHO, echo.names.run, echo.url) as client:
        for _ in range(BACKLOG_LIMIT):
            client.send(Message.open(INPUT, numbers(1)))
        with pytest.raises(ServerError, match="echo is 1000 messages behind"):
            client.send(Message.open(INPUT, numbers(1)))
    with pytest.raises(ServerError, match="start it or add replicas"):
        echo.send(1)
    echo.start(echo_component())
    until(lambda: echo.reply_count() == BACKLOG_LIMIT)
    echo.send(1)


def openings(count: int, size: int = 1) -> list[Message]:
    return [Message.open(INPUT, numbers(*size * [number])) for number in range(count)]


def test_messages_are_sent_together_in_their_order(echo: EchoRun) -> None:
    """Each with its entry id; none is no commit."""
    runs.create_groups(echo.client, ECHO, echo.names)
    with Client(ECHO, echo.names.run, echo.url) as client:
        messages = openings(BACKLOG_LIMIT)
        entries = client.send_many(messages)
        assert client.send_many([]) == []
    stored = echo.client.xrange(echo.names.stream(str(INPUT), FORWARD))
    assert [entry.decode() for entry, _ in stored] == entries
    assert [fields[b"ID"].decode() for _, fields in stored] == [each.id for each in messages]


def test_messages_are_sent_together_or_not_at_all(echo: EchoRun) -> None:
    """If one does not fit, if they are too many or too large, or if readers are far behind."""
    runs.create_groups(echo.client, ECHO, echo.names)
    key = echo.names.stream(str(INPUT), FORWARD)
    with Client(ECHO, echo.names.run, echo.url) as client:
        wrong = Message.open(INPUT, numbers(1), NOTE="unknown")
        refused = [[*openings(2), wrong], openings(BACKLOG_LIMIT + 1), openings(17, 2**20)]
        for messages in refused:
            with pytest.raises(SchemaError):
                client.send_many(messages)
        assert echo.client.xlen(key) == 0
        client.send_many(openings(BACKLOG_LIMIT))
        with pytest.raises(ServerError, match=r"^echo is 1000 messages behind"):
            client.send_many(openings(2))
    assert echo.client.xlen(key) == BACKLOG_LIMIT


@pytest.mark.parametrize("on_disk", ["yes", "no"])
def test_a_durable_commit_warns_once_if_the_server_cannot_tell(on_disk: str) -> None:
    """Without an append-only file nothing is on the disk, and nothing claims that it is."""
    with throwaway_server() as server, Client(ECHO, "run", server.url) as client:
        client.redis.config_set("appendonly", on_disk)
        with capture_logs() as lines:
            for _ in range(2):
                client.commit(lambda context: context.table("kept").put("a", b=1), durable=True)
        assert told_of_disk(lines) == (on_disk == "no")


def test_a_durable_commit_warns_if_the_server_answers_early(tmp_path: Path) -> None:
    """A Valkey of another kind than the embedded one; not if it syncs each write by itself."""
    with managed(tmp_path, "--appendonly", "yes", without=()) as url:
        for appendfsync in ("everysec", "always"):
            with Client(ECHO, "run", url) as client, capture_logs() as lines:
                client.redis.config_set("appendfsync", appendfsync)
                client.commit(lambda context: context.table("kept").put("a", b=1), durable=True)
                early = appendfsync == "everysec" and answers_early(version(client.redis))
                assert told_of_disk(lines) == early


def told_of_disk(lines: Sequence[Mapping[str, Any]]) -> int:
    return sum("does not tell what is on its disk" in line["event"] for line in lines)
