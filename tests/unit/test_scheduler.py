"""Messages that a handler stages for later, without a server."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from roomgrad import (
    Array,
    Component,
    Context,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    on,
)
from roomgrad.commit import Commit
from roomgrad.errors import ContractError, SchemaError
from roomgrad.names import Names
from roomgrad.runtime.scheduler import Scheduler
from roomgrad.testing import Called, call

CAVE, HILL = Room("cave"), Room("hill")
FORWARD = MessageType.FORWARD
NUMBERS = {"DATA": Array("<f4", ("n",))}
ECHO = System(
    "echo",
    (Stream(CAVE, FORWARD, NUMBERS, ("rock",)), Stream(HILL, FORWARD, NUMBERS)),
    ("rock",),
)


def rock(function: object) -> Component:
    handler = on(CAVE, FORWARD, replies=[(HILL, FORWARD)])(function)  # type: ignore[arg-type]
    return Component("rock", ECHO, RuntimeSettings, [handler])


def shout(function: object) -> Called:
    return call(rock(function), Message.open(CAVE, np.zeros(2, "<f4")))


def test_what_is_delayed_is_sent_and_says_by_how_much() -> None:
    """Beside what is sent at once, and apart from the reply."""

    def echo(message: Message, context: Context) -> Message:
        context.send(message.reply(HILL, message.array, id="late"), after_s=1.5)
        context.send(message.reply(HILL, message.array, id="now"), after_s=0)
        context.send(message.reply(HILL, message.array, id="at once"))
        return message.reply(HILL, message.array, id="reply")

    called = shout(echo)
    assert [message.id for message in called.replies] == ["reply"]
    assert [message.id for message in called.sent] == ["now", "at once", "late"]
    assert [(after_s, message.id) for after_s, message in called.delayed] == [(1.5, "late")]
    assert called.delayed[0][1] is called.sent[-1]


@pytest.mark.parametrize("after_s", [-0.1, math.inf, math.nan])
def test_a_delay_is_some_seconds(after_s: float) -> None:
    """Neither the past nor never."""
    with pytest.raises(ValueError, match="after_s: expected seconds from 0 to 1e"):
        shout(lambda message, context: context.send(message, after_s=after_s))


def test_what_is_delayed_is_checked_at_once() -> None:
    """Where it goes and what it holds: later there would be nobody to tell."""

    def astray(message: Message, context: Context) -> None:
        context.send(message.reply(CAVE, message.array), after_s=1)

    def wide(message: Message, context: Context) -> None:
        context.send(message.reply(HILL, message.array.astype("<f8")), after_s=1)

    with pytest.raises(ContractError, match="replied DATA/FORWARD to cave"):
        shout(astray)
    with pytest.raises(SchemaError, match="expected dtype <f4, got <f8"):
        shout(wide)


def test_the_words_of_a_delayed_message() -> None:
    """Those of SEND behind the two keys and whole milliseconds, rounded up."""
    commit = Commit()
    commit.send("stream", "ring", b"head", [b"m", b"1"])
    commit.delay("dues", "bodies", 0.0121, "stream", "ring", b"head", [b"m", b"2"], 7)
    keys, arguments = commit.parts()
    assert keys == [b"stream", b"dues", b"bodies"]
    assert arguments[3:] == [
        *[b"SEND", b"1", b"ring", b"head", b"", b"2", b"m", b"1"],
        *[b"LATER", b"2", b"3", b"13", b"1", b"ring", b"head", b"7", b"2", b"m", b"2"],
    ]
    assert commit.soonest_s == 0.0121
    assert Commit().soonest_s == math.inf


def test_the_alarm_is_only_ever_set_earlier() -> None:
    """And rings for that alone, so that housekeeping does not wake for nothing."""
    later = Scheduler(Names("run"), rock(lambda message, context: None))
    rings: list[float] = []
    assert later.due == math.inf
    later.expect(4.0)  # nobody listens yet
    later.wake = lambda: rings.append(later.due)
    later.expect(2.0)
    assert 0 < later.due - time.monotonic() <= 2.0
    later.expect(3.0)
    assert rings == [later.due]
    later.expect(1.0)
    assert later.due < rings[0]
    assert rings[1:] == [later.due]
