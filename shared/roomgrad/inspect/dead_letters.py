"""The dead letters of a run: list them without their bodies, requeue them, delete them."""

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
from roomgrad.errors import MessageError, NotRequeued, RoomgradError, ServerError, SettingsError
from roomgrad.inspect.keys import StreamKey
from roomgrad.inspect.scripts import ReadScript
from roomgrad.messages import Message
from roomgrad.names import Names, is_client_group
from roomgrad.redis.cluster import publish_command
from roomgrad.rooms import Stream, System
from roomgrad.runtime import runs

PAGE = 100  # dead letters of one call
HEAD_BYTES = 16 * 1024  # of each value in a listing; a history is shorter
WHOLE = 2**40
ENTRY = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(frozen=True)
class DeadLetter:
    """A dead letter. Any program may have written it, so each of its parts may be missing."""

    entry: str
    size: int
    """Bytes of all its fields."""

    pairs: list[tuple[bytes, bytes]]
    """The original fields of the message."""

    history: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, entry: bytes, size: int, fields: Sequence[bytes]) -> DeadLetter:
        """Return a dead letter as `dead_letters.lua` answers it: its history, if any, is first."""
        pairs = list(zip(fields[::2], fields[1::2], strict=False))
        history = _history(pairs[0][1]) if pairs and pairs[0][0] == b"history" else None
        own = pairs if history is None else pairs[1:]
        return cls(entry.decode(), size, own, history or {})

    def _text(self, name: str) -> str:
        value = self.history.get(name)
        return value if isinstance(value, str) else ""

    @property
    def reason(self) -> str:
        """Why it was given up."""
        return self._text("reason") or "unknown: it has no readable history"

    @property
    def component(self) -> str:
        """The component that gave it up; empty if unknown."""
        return self._text("group")

    @property
    def deliveries(self) -> int | None:
        """How often it was delivered; None if unknown."""
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
        except (OverflowError, OSError, ValueError):  # an entry ID that a program chose itself
            return "unknown"
        return at.isoformat(sep=" ", timespec="seconds")

    @property
    def stream(self) -> str:
        """The Redis key of its stream; empty if unknown."""
        return self._text("stream")

    @cached_property
    def stream_key(self) -> StreamKey:
        """The room and TYPE of its stream; both empty if unknown."""
        room, _, type_ = self.stream.partition("}:")[2].rpartition(":")
        return (unquote(room), type_) if room else ("", "")

    def message_field(self, name: bytes) -> str:
        """Return a field of the message as text: ID, ROOT_ID."""
        return dict(self.pairs).get(name, b"").decode(errors="replace")[:128]


def _history(value: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


class DeadLetters:
    """The dead letters of one run."""

    def __init__(self, client: redis.Redis, names: Names, system: System | None = None) -> None:
        self.names = names
        self._client = client
        self._system = system
        self._read = ReadScript(client, "dead_letters")
        self._requeue = client.register_script(scripts.load("requeue"))

    def count(self) -> int:
        """Return how many there are."""
        return int(self._client.xlen(self.names.dead()))

    def newest_first(self, reason: str = "", component: str = "") -> Iterator[DeadLetter]:
        """Yield all, or those whose reason contains a text and that a component gave up.

        Large bodies are cut off; `get` returns the whole.
        """
        start = "+"
        while page := self._page(start, "-", PAGE, HEAD_BYTES):
            for letter in page:
                if reason.casefold() in letter.reason.casefold() and (
                    not component or component == letter.component
                ):
                    yield letter
            start = f"({page[-1].entry}"

    def get(self, entry: str) -> DeadLetter:
        """Return one dead letter, whole.

        Raises SettingsError if `entry` is no entry ID, RoomgradError if there is none of this ID.
        """
        hint = f"`roomgrad dead list --run {self.names.run}` lists those that exist"
        if not ENTRY.fullmatch(entry):
            raise SettingsError(
                f"{entry!r} is no entry ID: expected one like 1795184559856-0; {hint}"
            )
        found = self.find(entry)
        if found is None:
            raise RoomgradError(f"run {self.names.run} has no dead letter {entry}; {hint}")
        return found

    def find(self, entry: str) -> DeadLetter | None:
        """Return one dead letter, whole, or None if it does not exist any more."""
        found = self._page(entry, entry, 1, WHOLE)
        return found[0] if found else None

    def _page(self, start: str, end: str, most: int, cut: int) -> list[DeadLetter]:
        found = self._read(keys=[self.names.dead()], args=[start, end, most, cut])
        return [DeadLetter.parse(*each) for each in found]

    def drop(self, entries: Sequence[str]) -> int:
        """Delete dead letters; return how many still existed."""
        pages = [entries[at : at + 1000] for at in range(0, len(entries), 1000)]
        return sum(int(self._client.xdel(self.names.dead(), *page)) for page in pages)

    def requeue(self, letter: DeadLetter) -> str:
        """Put the message back for the component that gave it up; return the ID of its new entry.

        Returns an empty text if it was requeued or deleted meanwhile.

        Raises NotRequeued if it has to stay, ServerError if the server refuses.
        """
        if obstacle := self.obstacle(letter):
            raise NotRequeued(f"{letter.entry} stays: {obstacle}")
        room, type_ = letter.stream_key
        others = sorted(self._groups(room, type_) - {letter.component})
        done = [self.names.done(g, room, type_) for g in others if not is_client_group(g)]
        keys = [self.names.dead(), letter.stream, *done]
        publish = [publish_command(self._client).decode(), self.names.channel(room)]
        arguments: list[Any] = [letter.entry, letter.component, *publish, self._header(letter)]
        try:
            answer = self._requeue(keys=keys, args=arguments)
        except redis.ResponseError as error:  # out of memory, a function that it lacks...
            raise ServerError(f"{letter.entry} stays, the server refuses: {error}") from error
        if answer[0] == b"refused":
            raise NotRequeued(f"{letter.entry} stays: {answer[1].decode(errors='replace')}")
        return answer[1].decode() if answer[0] == b"ok" else ""

    def obstacle(self, letter: DeadLetter) -> str:
        """Return why a dead letter can never be requeued; empty if it can."""
        room, type_ = letter.stream_key
        if not letter.history:
            return "it has no readable history, so its stream is unknown"
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
        """Return the groups of a stream: those that exist, and those of the contract."""
        key = self.names.stream(room, type_)
        existing: set[str] = set()
        if self._client.type(key) == b"stream":
            existing = {each["name"].decode() for each in self._client.xinfo_groups(key)}
        declared = runs.groups(self._system, self.names) if self._system else ()
        return existing | {group for *place, group in declared if place == [room, type_]}

    def _header(self, letter: DeadLetter) -> bytes:
        return codec.header(
            decode(letter, self._system)
            or Message(
                *letter.stream_key, letter.message_field(b"ID"), letter.message_field(b"ROOT_ID")
            )
        )


def decode(letter: DeadLetter, system: System | None) -> Message | None:
    """Return the message of a dead letter, or None if it cannot be decoded."""
    stream: Stream | None = system.find(*letter.stream_key) if system else None
    if stream is None:
        return None
    try:
        return codec.decode(letter.entry, [part for pair in letter.pairs for part in pair], stream)
    except MessageError:
        return None
