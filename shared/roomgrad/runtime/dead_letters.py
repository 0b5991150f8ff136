"""Dead letters: what could not be handled, with the reason, and who has to know."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from roomgrad import codec
from roomgrad.commit import Commit
from roomgrad.messages import Message, new_id
from roomgrad.names import ERRORS, Names
from roomgrad.rooms import MessageType, Room, Stream
from roomgrad.runtime.consumers import Delivery

ERRORS_KEPT = 1000  # LOG/ERROR messages that stay in room `errors`
REASON_CHARACTERS = 1000  # an error may quote as much as it likes
SMALL_LETTER_BYTES = 4096  # letters of up to so many bytes are always kept whole
MOST_FIELDS = 200  # names and values of an entry that are kept
ASK_EVERY_S = 10.0
HEAD_BYTES = 1024  # kept of each field of a letter that is not kept whole
ERROR_STREAM = Stream(Room(ERRORS), MessageType.LOG_ERROR, {})  # no schema: it is for people


def dead_letter(
    commit: Commit,
    names: Names,
    delivery: Delivery,
    reason: str,
    *,
    group: str,
    members: Sequence[str],
    whole: bool,
    by: str,
) -> None:
    """Stages a dead letter: the entry with its reason, a LOG/ERROR in `errors`, and the notices.

    `whole`: keeps all of it. Otherwise the beginnings of its fields, with their sizes and SHA-1.
    `members`: the components with which its root is given up, none where it is not. Each gets a
    LOG/ERROR with the ROOT_ID in its own room, drops its memory of that root, and the one who
    opened it may open the next.
    """
    room, type_ = delivery.stream.key
    reason = reason.encode(errors="replace").decode()[:REASON_CHARACTERS]
    history: dict[str, Any] = {
        "reason": reason,
        "stream": names.stream(room, type_),
        "entry": delivery.entry,
        "group": group,
        "deliveries": delivery.count,
        "root_given_up": bool(members and delivery.root_id()),
        "by": by,
        "at": time.time(),
    }
    kept = delivery.fields
    if not whole:
        kept, history["shortened"] = beginnings(kept), sizes(kept)
    commit.do(b"XADD", names.dead(), b"*", b"history", orjson.dumps(history), *kept)
    root_id = delivery.root_id()
    notice = Message(
        ERRORS,
        MessageType.LOG_ERROR.value,
        new_id(),
        root_id or "unknown",
        sent_by=group,
        fields={**history, "TEXT": f"{group} gave up a message: {reason}"},
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
            _notify(commit, names, member, notice)


class Quota:
    """Where dead letters stand: how much they take by now, and what still fits.

    The server has to walk through all of them to say what they take, so it is asked now and then,
    and when some were deleted. What other replicas put there meanwhile is seen the next time.
    """

    def __init__(self, names: Names, most_mib: float, call: Callable[[list[bytes]], Any]) -> None:
        self._key = names.dead().encode()
        self._most = most_mib * 1024 * 1024
        self._call = call
        self._taken, self._length = 0, 0
        self._ask_at = 0.0

    def takes(self, delivery: Delivery) -> bool:
        """Whether a letter is kept whole: small ones always, large ones while there is room."""
        size = sum(map(len, delivery.fields))
        if size <= SMALL_LETTER_BYTES and len(delivery.fields) <= MOST_FIELDS:
            return True
        if size > codec.MAX_MESSAGE_BYTES or len(delivery.fields) > MOST_FIELDS:
            return False
        fits = self._now() + size <= self._most
        self._taken += size if fits else 0
        return fits

    def _now(self) -> int:
        length: int = self._call([b"XLEN", self._key])
        if length < self._length or time.monotonic() >= self._ask_at:
            usage = self._call([b"MEMORY", b"USAGE", self._key, b"SAMPLES", b"0"])
            self._taken, self._ask_at = usage or 0, time.monotonic() + ASK_EVERY_S
        self._length = length
        return self._taken


def beginnings(fields: list[bytes]) -> list[bytes]:
    """Names and values of an entry, each cut short, and not more than `MOST_FIELDS` of them."""
    return [part[:HEAD_BYTES] for part in fields[:MOST_FIELDS]]


def sizes(fields: list[bytes]) -> dict[str, Any]:
    """What the beginnings do not say: all bytes and fields, and of large fields size and SHA-1."""
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


def _notify(commit: Commit, names: Names, member: str, notice: Message) -> None:
    inbox = inbox_stream(names, member)
    message = Message(
        inbox.room.name,
        notice.type,
        notice.id,
        notice.root_id,
        sent_by=notice.sent_by,
        to=member,
        fields={"TEXT": notice.fields["TEXT"]},
    )
    commit.send(
        names.stream(*inbox.key),
        names.channel(inbox.room.name),
        codec.header(message),
        codec.encode(message, inbox),
    )


def inbox_stream(names: Names, component: str) -> Stream:
    """The stream in which a component learns that a root was given up."""
    return Stream(Room(names.inbox(component)), MessageType.LOG_ERROR, {}, (component,))
