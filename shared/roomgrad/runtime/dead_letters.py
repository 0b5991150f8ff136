"""Dead letters: messages that could not be handled, with the reason, and the notices of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from roomgrad import codec
from roomgrad.commit import Commit
from roomgrad.guests import Guest
from roomgrad.messages import Message, new_id
from roomgrad.names import ERRORS, Names
from roomgrad.redis import roots
from roomgrad.rooms import MessageType, Room, Stream
from roomgrad.runtime.consumers import Delivery

ERRORS_KEPT = 1000  # LOG/ERROR messages that stay in room `errors`
REASON_CHARACTERS = 1000  # the text of an error may be of any length
SMALL_LETTER_BYTES = 4096  # messages of at most so many bytes are always kept whole
MOST_FIELDS = 200  # names and values of an entry that are kept
ASK_EVERY_S = 10.0
HEAD_BYTES = 1024  # of each field of a message that is not kept whole
ERROR_STREAM = Stream(Room(ERRORS), MessageType.LOG_ERROR, {})  # without a schema


class Verdict(NamedTuple):
    """Why, by which consumer and when a message is given up."""

    reason: str
    group: str
    """The consumer group."""

    by: str
    """The consumer."""

    at: float
    """Unix time in seconds by the server's clock."""


def dead_letter(
    commit: Commit,
    names: Names,
    delivery: Delivery,
    verdict: Verdict,
    *,
    members: Sequence[str],
    whole: bool,
    guest: Guest | None = None,
) -> None:
    """Stage a dead letter: the entry with its reason, a LOG/ERROR in `errors`, and notices.

    members: the components that give up its root with it; empty if the root goes on. Each gets a
        LOG/ERROR with the ROOT_ID in its inbox and deletes its memory of the root; the one that
        opened the root may open the next.
    whole: keep every byte of the entry, and not only the beginnings of its fields.
    guest: the guest that opened the root, which gets a notice, too.
    """
    room, type_ = delivery.stream.key
    reason = verdict.reason.encode(errors="replace").decode()[:REASON_CHARACTERS]
    history: dict[str, Any] = {
        "reason": reason,
        "stream": names.stream(room, type_),
        "entry": delivery.entry,
        "group": verdict.group,
        "deliveries": delivery.count,
        "root_given_up": bool(members and delivery.root_id()),
        "by": verdict.by,
        "at": verdict.at,
    }
    fields = delivery.fields
    if not whole:
        fields, history["shortened"] = truncate(fields), describe_sizes(fields)
    commit.do(b"XADD", names.dead(), b"*", b"history", orjson.dumps(history), *fields)
    root_id = delivery.root_id()
    notice = Message(
        ERRORS,
        MessageType.LOG_ERROR.value,
        new_id(),
        root_id or "unknown",
        sent_by=verdict.group,
        fields={**history, "TEXT": f"{verdict.group} gave up a message: {reason}"},
    )
    commit.send(
        names.stream(ERRORS, MessageType.LOG_ERROR.value),
        names.channel(ERRORS),
        codec.header(notice),
        codec.encode(notice, ERROR_STREAM),
        ERRORS_KEPT,
    )
    if root_id:
        for member in members:
            roots.notify(commit, names, member, notice)
        if guest is not None:
            roots.notify_guest(commit, names, guest, notice)


class Quota:
    """How much memory dead letters may take, and how much they take.

    The server walks through all of them to tell, so it is asked now and then, and when some were
    deleted. What other replicas add meanwhile is seen the next time.
    """

    def __init__(self, names: Names, limit_mib: float, call: Callable[[list[bytes]], Any]) -> None:
        self._key = names.dead().encode()
        self._limit = limit_mib * 1024 * 1024
        self._call = call
        self._used, self._length = 0, 0
        self._ask_at = 0.0

    def fits(self, delivery: Delivery) -> bool:
        """Return whether a message is kept whole: always if small, else while there is room."""
        size = sum(map(len, delivery.fields))
        if size <= SMALL_LETTER_BYTES and len(delivery.fields) <= MOST_FIELDS:
            return True
        if size > codec.MAX_MESSAGE_BYTES or len(delivery.fields) > MOST_FIELDS:
            return False
        fits = self._usage() + size <= self._limit
        self._used += size if fits else 0
        return fits

    def _usage(self) -> int:
        length: int = self._call([b"XLEN", self._key])
        if length < self._length or time.monotonic() >= self._ask_at:
            usage = self._call([b"MEMORY", b"USAGE", self._key, b"SAMPLES", b"0"])
            self._used, self._ask_at = usage or 0, time.monotonic() + ASK_EVERY_S
        self._length = length
        return self._used


def truncate(fields: list[bytes]) -> list[bytes]:
    """Return the names and values of an entry, each cut short, `MOST_FIELDS` of them at most."""
    return [part[:HEAD_BYTES] for part in fields[:MOST_FIELDS]]


def describe_sizes(fields: list[bytes]) -> dict[str, Any]:
    """Return bytes and fields of an entry, and size and SHA-1 of each large field."""
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    large = [pair for pair in pairs[: MOST_FIELDS // 2] if max(map(len, pair)) > HEAD_BYTES]
    return {
        "bytes": sum(map(len, fields)),
        "fields": len(pairs),
        "large": [
            {
                "field": name[:128].decode(errors="replace"),
                "bytes": len(value),
                "sha1": hashlib.sha1(value, usedforsecurity=False).hexdigest(),
            }
            for name, value in large
        ],
    }
