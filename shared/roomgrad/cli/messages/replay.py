"""`roomgrad replay`: recorded messages, once more.

Each becomes a new message with a new ID, and each root a new root: under their old IDs nobody would
take them a second time. By default they only VALIDATE, so that a replay changes no model.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from roomgrad.cli import tables, target
from roomgrad.cli.messages.send import STATUS, contract, opened, stream_of
from roomgrad.errors import MessageError, SettingsError
from roomgrad.messages import Message, new_id
from roomgrad.redis.client import Client
from roomgrad.rooms import ENVELOPE, ModelStatus, System

WHERE = frozenset({"entry", "room", "type"})  # beside the message, where it stood


@dataclass
class Renamed:
    """New IDs for old ones: what belonged together still does."""

    ids: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, old: str) -> str:
        return self.ids.setdefault(old, new_id())


def run(
    file: str, into: str, status: str, speed: float, run: str, redis_url: str, *, as_json: bool
) -> None:
    """Send what a file holds, in its pace."""
    with _opened(file) as lines, target.reached(redis_url) as (client, url):
        names = target.chosen(client, run)
        system = contract(client, names)
        renamed = Renamed()
        count = 0
        with opened(client, names, url, system) as sender:
            for message in _paced(_read(lines, file, system, into, renamed), speed):
                message.status = STATUS[status]
                message.entry = _sent(sender, message, f"{file}, line {count + 1}")
                count += 1
                if as_json:
                    sent = {"ID": message.id, "ROOT_ID": message.root_id, "entry": message.entry}
                    tables.say_json({"room": message.room, "type": message.type, **sent})
    if not as_json:
        print(f"{count:,} messages were sent again, into run {names.run}.")


def _opened(file: str) -> IO[bytes]:
    if file == "-":
        return sys.stdin.buffer
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error


def _sent(sender: Client, message: Message, where: str) -> str:
    try:
        return sender.send(message)
    except MessageError as error:
        raise SettingsError(f"{where}: {error}") from error


def _read(
    lines: IO[bytes], file: str, system: System, into: str, renamed: Renamed
) -> Iterator[tuple[float, Message]]:
    """Each message and when it came, in s. Raises SettingsError with the line that is wrong."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _message(line, f"{file}, line {number}", system, into, renamed)


def _message(
    line: bytes, where: str, system: System, into: str, renamed: Renamed
) -> tuple[float, Message]:
    try:
        found = orjson.loads(line)
        at_s = int(found["entry"].partition("-")[0]) / 1000
        room, type_, id_, root = (str(found[name]) for name in ("room", "type", "ID", "ROOT_ID"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{where}: expected a message as `roomgrad echo ROOM --json --full` writes it: {error}"
        ) from error
    stream = stream_of(system, into or room, type_)
    fields = {name: each for name, each in found.items() if name not in ENVELOPE | WHERE}
    try:
        checked = {name: _checked(stream.schema.get(name), name, v) for name, v in fields.items()}
    except MessageError as error:
        raise SettingsError(
            f"{where}: {error}; were its arrays written whole, by --full?"
        ) from error
    data = checked.pop("DATA", None)
    message = Message(
        stream.room.name,
        type_,
        renamed[id_],
        renamed[root],
        data,
        ModelStatus.VALIDATE,
        fields=checked,
    )
    return at_s, message


def _checked(schema: Any, name: str, value: Any) -> Any:
    return value if schema is None else schema.check(name, value)


def _paced(messages: Iterator[tuple[float, Message]], speed: float) -> Iterator[Message]:
    """Each message when its time has come; speed 0: at once."""
    first: float | None = None
    began = time.monotonic()
    for at_s, message in messages:
        first = at_s if first is None else first
        if speed:
            time.sleep(max(0.0, began + (at_s - first) / speed - time.monotonic()))
        yield message
