"""One-shot clients, and tools for tests."""

from __future__ import annotations

import pytest

from roomgrad import Context, Message, ModelStatus
from roomgrad.errors import NoAnswer, NoServer, SchemaError, ServerError
from roomgrad.redis.client import BACKLOG_LIMIT, Client
from roomgrad.runtime import runs
from roomgrad.testing import throwaway_server, wait_for
from tests.integration.conftest import Cage
from tests.integration.parrots import CAGE, FORWARD, PARROTS, PERCH, SAID, numbers, parrot
from tests.waiting import until


def test_a_question_is_answered(cage: Cage) -> None:
    """`ask` waits for the answer to its own root, whatever else is said."""
    cage.start(parrot())
    with Client(PARROTS, cage.names.run, cage.url) as client:
        for number in range(5):
            cage.say(100)
            answer = client.ask(CAGE, FORWARD, numbers(number), answer=(PERCH, FORWARD))
            assert answer.array.tolist() == [2.0 * number]
            assert answer.status == ModelStatus.VALIDATE
    assert cage.client.client_list()


def test_a_question_that_nobody_answers_says_so(cage: Cage) -> None:
    """In time, with what to do."""
    with (
        Client(PARROTS, cage.names.run, cage.url) as client,
        pytest.raises(NoAnswer, match=r"no answer in room perch .* are its components running"),
    ):
        client.ask(CAGE, FORWARD, numbers(1), answer=(PERCH, FORWARD), timeout_s=0.2)


def test_a_question_that_does_not_fit_its_room_is_not_sent(cage: Cage) -> None:
    """The sender is told, the room hears nothing."""
    with (
        Client(PARROTS, cage.names.run, cage.url) as client,
        pytest.raises(SchemaError, match=r"expected shape \(n,\), got \(1, 1\)"),
    ):
        client.ask(CAGE, FORWARD, numbers(1).reshape(1, 1), answer=(PERCH, FORWARD))
    assert not cage.client.exists(cage.names.stream("cage", "DATA/FORWARD"))


def test_validation_is_answered_and_leaves_nothing(cage: Cage) -> None:
    """No memory, whatever the handler puts."""

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, kept=message.array)
        return message.reply(PERCH, message.array)

    cage.start(parrot(keep))
    with Client(PARROTS, cage.names.run, cage.url) as client:
        client.ask(CAGE, FORWARD, numbers(1), answer=(PERCH, FORWARD))
    assert not cage.client.exists(cage.names.memory("parrot"))
    cage.heard(cage.say(1))
    assert cage.client.hlen(cage.names.memory("parrot")) == 1


def test_a_client_without_a_server_says_where_it_looked() -> None:
    """And how to start one."""
    with throwaway_server() as server:
        url = server.url
    with pytest.raises(NoServer, match=r"no server answers at redis://127\.0\.0\.1"):
        Client(PARROTS, "run", url)


def test_waiting_for_a_message_ends(cage: Cage) -> None:
    """`wait_for` waits for the event, finds it behind others, and gives up in time."""
    cage.start(parrot())
    messages = [cage.say(number) for number in range(3)]
    last = wait_for(cage.client, cage.names, SAID, root_id=messages[2].root_id)
    first = wait_for(cage.client, cage.names, SAID)
    assert (first.array[0], last.array[0]) == (0.0, 4.0)
    behind = wait_for(cage.client, cage.names, SAID, after=first.entry)
    assert behind.array[0] == 2.0
    with pytest.raises(NoAnswer, match=r"no message came to .* within 0\.1 s"):
        wait_for(cage.client, cage.names, SAID, after=last.entry, timeout_s=0.1)


def test_nothing_new_is_opened_while_a_thousand_wait(cage: Cage) -> None:
    """It looks now and then only, and does not go beyond for that; others are refused as well."""
    runs.create_groups(cage.client, PARROTS, cage.names)
    with Client(PARROTS, cage.names.run, cage.url) as client:
        for _ in range(BACKLOG_LIMIT):
            client.send(Message.open(CAGE, numbers(1)))
        with pytest.raises(ServerError, match="parrot is 1000 messages behind"):
            client.send(Message.open(CAGE, numbers(1)))
    with pytest.raises(ServerError, match="start it or add replicas"):
        cage.say(1)
    cage.start(parrot())
    until(lambda: cage.said() == BACKLOG_LIMIT, timeout_s=30)
    cage.say(1)
