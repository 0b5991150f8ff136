"""SEED: set by the opener of a root, and carried by every message that follows from it."""

from __future__ import annotations

import json

import orjson
import pytest

from roomgrad import Context, Message
from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.testing import wait_for
from tests.integration.conftest import EchoRun
from tests.integration.dead.dead_letters import newest, raising
from tests.integration.echo import INPUT, OUTPUT, REPLIES, REQUESTS, echo_component, later, numbers
from tests.waiting import until

SEED = 2**63 - 1


def again(message: Message, context: Context) -> Message:
    """Reply by another request at first, and then by the answer."""
    first = message.array[0] > 0
    return message.reply(INPUT if first else OUTPUT, message.array - 1)


def test_it_passes_through_a_chain_of_replies(echo: EchoRun) -> None:
    """Whether it came as an entry field, which older releases ignore, or not at all."""
    echo.start(echo_component(again))
    assert echo.wait_reply(echo.send(1, seed=SEED)).seed == SEED
    assert echo.wait_reply(echo.send(1)).seed is None
    for _, fields in echo.client.xrange(echo.names.stream(*REQUESTS.key), count=2):
        assert fields[b"SEED"] == b"%d" % SEED
        assert "SEED" not in orjson.loads(fields[b"m"])


def test_a_delayed_message_has_it(echo: EchoRun) -> None:
    echo.start(echo_component(later))
    assert echo.wait_reply(echo.send(0.1, seed=5)).seed == 5


def test_a_dead_letter_that_is_requeued_has_it(echo: EchoRun) -> None:
    """Its fields are those of the entry."""
    replica = echo.start(echo_component(raising), max_deliveries=1)
    message = echo.send(1, seed=0)
    until(echo.dead_letters)
    entry = newest(echo)
    assert echo.dead_letters()[0][b"SEED"] == b"0"
    echo.stop(replica)
    echo.start(echo_component())
    letters = DeadLetters(echo.client, echo.names)
    assert letters.requeue(letters.get(entry))
    assert echo.wait_reply(message).seed == 0


def test_a_published_message_may_name_it_in_its_text(echo: EchoRun) -> None:
    """Its entry has the field then."""
    echo.start(echo_component())
    body = {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "DATA": [1], "SEED": 7}
    until(lambda: echo.client.publish(echo.names.channel("input"), json.dumps(body)))
    (_, fields), *_ = until(lambda: echo.client.xrange(echo.names.stream(*REQUESTS.key)))
    assert fields[b"SEED"] == b"7"
    reply = wait_for(echo.client, echo.names, REPLIES, root_id="r", timeout_s=30)
    assert reply.seed == 7


@pytest.mark.parametrize("seed", ["-1", "9223372036854775808", "7.0", "seven", ""])
def test_one_that_cannot_be_read_makes_a_dead_letter(echo: EchoRun, seed: str) -> None:
    """With its value and what was expected; the component goes on."""
    echo.start(echo_component())
    body = {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "DATA": [1]}
    echo.add({"m": json.dumps(body), "SEED": seed})
    until(echo.dead_letters)
    letter = DeadLetters(echo.client, echo.names).get(newest(echo))
    assert "SEED: expected a whole number from 0 to 2**63 - 1" in letter.reason
    assert seed in letter.reason
    assert echo.wait_reply(echo.send(1)).array.tolist() == numbers(2).tolist()
