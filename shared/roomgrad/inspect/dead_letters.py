"""The dead letters of a run: read without their bodies, put back, thrown away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import orjson
import redis

from roomgrad import codec, scripts
from roomgrad.errors import MessageError, RoomgradError, ServerError, SettingsError
from roomgrad.inspect.scripts import ReadScript
from roomgrad.messages import Message
from roomgrad.names import Names, is_client_group
from roomgrad.redis.cluster import publish_command
from roomgrad.rooms import Stream, System
from roomgrad.runtime import runs

PAGE = 100  # letters of one call
HEAD_BYTES = 16 * 1024  # of each value, where the body is not wanted: a history is shorter
WHOLE = 2**40
ENTRY = re.compile(r"\d{1,20}-\d{1,20}")


class NotRequeued(RoomgradError):
    """Raised when a letter cannot be put back; it stays where it is."""


@dataclass(frozen=True)
class Letter:
    """A dead letter. Anybody may have written it, so each of its parts may be missing."""

    entry: str
    size: int
    """Bytes of all its fields."""

    pairs: list[tuple[bytes, bytes]]
    """The message's own fields, as they were."""

    history: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, entry: bytes, size: int, fields: Sequence[bytes]) -> Letter:
        """From what `dead_letters.lua` answers: the history comes first, if there is one."""
        pairs = list(zip(fields[::2], fields[1::2], strict=False))
        history = _history(pairs[0][1]) if pairs and pairs[0][0] == b"history" else None
        own = pairs if history is None else pairs[1:]
        return cls(entry.decode(), size, own, history or {})

    def _text(self, name: str) -> str:
        value = self.history.get(name)
        return value if isinstance(value, str) else ""

    @property
    def reason(self) -> str:
        return self._text("reason") or "unknown: it has no readable history"

    @property
    def component(self) -> str:
        """Who gave it up, or nothing."""
        return self._text("group")

    @property
    def deliveries(self) -> int | None:
        value = self.history.get("deliveries")
        return value if type(value) is int else None

    @property
    def root_given_up(self) -> bool:
        """Whether its root was given up with it."""
        return self.history.get("root_given_up") is True

    @property
    def when(self) -> str:
        """When it was given up, by the server's clock and in this machine's time zone."""
        try:
            at = datetime.fromtimestamp(int(self.entry.partition("-")[0]) / 1000)
        except (OverflowError, OSError, ValueError):  # an entry id of somebody's own
            return "unknown"
        return at.isoformat(sep=" ", timespec="seconds")

    @property
    def stream(self) -> str:
        """The key of its stream, or nothing."""
        return self._text("stream")

    @cached_property
    def place(self) -> tuple[str, str]:
        """The room and TYPE of its stream; two empty texts where they are not known."""
        room, _, type_ = self.stream.partition("}:")[2].rpartition(":")
        return (unquote(room), type_) if room else ("", "")

    def own(self, name: bytes) -> str:
        """A field of the message as text: ID, ROOT_ID."""
        return dict(self.pairs).get(name, b"").decode(errors="replace")[:128]


def _history(value: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


class Letters:
    """The dead letters of one run."""

    def __init__(self, client: redis.Redis, names: Names, system: System | None = None) -> None:
        self.names = names
        self._client = client
        self._system = system
        self._read = ReadScript(client, "dead_letters")
        self._requeue = client.register_script(scripts.load("requeue"))

    def count(self) -> int:
        """How many there are."""
        return int(self._client.xlen(self.names.dead()))

    def newest_first(self, reason: str = "", component: str = "") -> Iterator[Letter]:
        """All of them, or those whose reason holds a text and that a component gave up.

        Of large bodies only the beginning; `get` has the whole.
        """
        start = "+"
        while page := self._page(start, "-", PAGE, HEAD_BYTES):
            for letter in page:
                if reason.casefold() in letter.reason.casefold() and (
                    not component or component == letter.component
                ):
                    yield letter
            start = f"({page[-1].entry}"

    def get(self, entry: str) -> Letter:
        """One letter, whole. Raises SettingsError for what is no id, RoomgradError if gone."""
        where = f"`roomgrad dead list --run {self.names.run}` shows those that there are"
        if not ENTRY.fullmatch(entry):
            raise SettingsError(
                f"{entry!r} is no entry id: expected one like 1795184559856-0; {where}"
            )
        found = self.find(entry)
        if found is None:
            raise RoomgradError(f"run {self.names.run} has no dead letter {entry}; {where}")
        return found

    def find(self, entry: str) -> Letter | None:
        """One letter, whole; None where it is not there any more."""
        found = self._page(entry, entry, 1, WHOLE)
        return found[0] if found else None

    def _page(self, start: str, end: str, most: int, cut: int) -> list[Letter]:
        found = self._read(keys=[self.names.dead()], args=[start, end, most, cut])
        return [Letter.read(*each) for each in found]

    def drop(self, entries: Sequence[str]) -> int:
        """Deletes letters; how many were still there."""
        pages = [entries[at : at + 1000] for at in range(0, len(entries), 1000)]
        return sum(int(self._client.xdel(self.names.dead(), *page)) for page in pages)

    def requeue(self, letter: Letter) -> str:
        """Puts the message back for the component that gave it up; the id of its new entry.

        Empty where somebody else has requeued or dropped the letter meanwhile. Raises NotRequeued.
        """
        if obstacle := self.obstacle(letter):
            raise NotRequeued(f"{letter.entry} stays: {obstacle}")
        room, type_ = letter.place
        others = sorted(self._groups(room, type_) - {letter.component})
        done = [self.names.done(g, room, type_) for g in others if not is_client_group(g)]
        keys = [self.names.dead(), letter.stream, *done]
        ring = [publish_command(self._client).decode(), self.names.channel(room)]
        arguments = [letter.entry, letter.component, *ring]
        try:
            answer = self._requeue(keys=keys, args=[*arguments, self._header(letter)])
        except redis.ResponseError as error:  # no memory, a function that it does not know...
            raise ServerError(f"{letter.entry} stays, the server refuses: {error}") from error
        if answer[0] == b"refused":
            raise NotRequeued(f"{letter.entry} stays: {answer[1].decode(errors='replace')}")
        return answer[1].decode() if answer[0] == b"ok" else ""

    def obstacle(self, letter: Letter) -> str:
        """Why a letter can never be put back, or nothing."""
        room, type_ = letter.place
        if not letter.history:
            return "it has no readable history, so nobody knows where it came from"
        if not (room and letter.stream == self.names.stream(room, type_)):
            return (
                f"its history names the stream {letter.stream[:200]!r}, expected one like "
                f"{self.names.stream('ROOM', 'TYPE')}"
            )
        if "shortened" in letter.history:
            return "it was too large to be kept whole, and only its beginning is left"
        if not letter.component:
            return "its history does not say which component gave it up"
        return "" if letter.pairs else "it holds no message"

    def _groups(self, room: str, type_: str) -> set[str]:
        """Those that read a stream, and those that will when they come back."""
        key = self.names.stream(room, type_)
        there: set[str] = set()
        if self._client.type(key) == b"stream":
            there = {each["name"].decode() for each in self._client.xinfo_groups(key)}
        declared = runs.groups(self._system, self.names) if self._system else ()
        return there | {group for *place, group in declared if place == [room, type_]}

    def _header(self, letter: Letter) -> bytes:
        room, type_ = letter.place
        return codec.header(
            decoded(letter, self._system)
            or Message(room, type_, letter.own(b"ID"), letter.own(b"ROOT_ID"))
        )


def decoded(letter: Letter, system: System | None) -> Message | None:
    """The message of a letter where it can be read at all."""
    stream: Stream | None = system.find(*letter.place) if system else None
    if stream is None:
        return None
    try:
        return codec.decode(letter.entry, [part for pair in letter.pairs for part in pair], stream)
    except MessageError:
        return None
