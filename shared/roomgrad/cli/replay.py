"""`roomgrad replay`: send recorded messages again.

Each becomes a new message with a new ID, and each root a new root: components drop IDs that they
have handled already. It keeps its SEED. By default the messages VALIDATE, so that a replay changes
no model.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

from typer import Argument, Option

from roomgrad import strict_json
from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.cli.draft import STATUS, find_stream
from roomgrad.codec import seed_in
from roomgrad.errors import MessageError, SettingsError
from roomgrad.messages import Message, new_id
from roomgrad.redis.client import Client
from roomgrad.rooms import ENVELOPE, ModelStatus, System

WHERE = frozenset({"entry", "room", "type"})  # what `echo` writes beside the message


def replay(
    file: Annotated[
        str,
        Argument(help="What `roomgrad echo ROOM --json --full` wrote; - reads standard input."),
    ],
    into: Annotated[str, Option(help="Into this room instead of their own.", metavar="ROOM")] = "",
    status: typed.Status = "validate",
    speed: Annotated[
        float, Option(help="So many times as fast as recorded; 0: at once.", min=0, max=1e6)
    ] = 1.0,
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    with _open(file) as lines, target.opened(run, redis) as (client, names, url):
        recording = _Recording(file, target.contract_of(client, names), into)
        count = 0
        with target.sender(names, url, recording.system) as sender:
            for message in _paced(recording.messages(lines), speed):
                message.status = STATUS[status]
                message.entry = _send(sender, message, f"{file}, line {count + 1}")
                count += 1
                if as_json:
                    sent = {"ID": message.id, "ROOT_ID": message.root_id, "entry": message.entry}
                    output.print_json({"room": message.room, "type": message.type, **sent})
    if not as_json:
        output.say(f"{count:,} messages were sent again, into run {names.run}.")


def _open(file: str) -> IO[bytes]:
    if file == "-":
        return sys.stdin.buffer
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error


def _send(sender: Client, message: Message, where: str) -> str:
    try:
        return sender.send(message)
    except MessageError as error:
        raise SettingsError(f"{where}: {error}") from error


def _paced(messages: Iterator[tuple[float, Message]], speed: float) -> Iterator[Message]:
    """Yield each message when its time has come; at once if the speed is 0."""
    first: float | None = None
    began = time.monotonic()
    for at_s, message in messages:
        first = at_s if first is None else first
        if speed:
            time.sleep(max(0.0, began + (at_s - first) / speed - time.monotonic()))
        yield message


@dataclass(frozen=True)
class _Recording:
    """A file of recorded messages."""

    file: str
    system: System
    into: str
    new_ids: dict[str, str] = field(default_factory=dict)
    """New IDs by old ones, so that messages of one root stay together."""

    def messages(self, lines: IO[bytes]) -> Iterator[tuple[float, Message]]:
        """Yield the recorded time in s and the message of each line.

        Raises SettingsError with the line that is wrong.
        """
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield self._message(line, f"{self.file}, line {number}")

    def _message(self, line: bytes, where: str) -> tuple[float, Message]:
        try:
            found = strict_json.loads(line)
            at_s = int(found["entry"].partition("-")[0]) / 1000
            room, type_, id_, root = (
                str(found[each]) for each in ("room", "type", "ID", "ROOT_ID")
            )
            seed = seed_in(found, {})
        except (MessageError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise SettingsError(
                f"{where}: expected a message as `roomgrad echo ROOM --json --full` writes it: "
                f"{error}"
            ) from error
        stream = find_stream(self.system, self.into or room, type_)
        fields = {name: each for name, each in found.items() if name not in ENVELOPE | WHERE}
        try:
            checked = {n: _checked(stream.schema.get(n), n, value) for n, value in fields.items()}
        except MessageError as error:
            raise SettingsError(
                f"{where}: {error}; were its arrays written whole, by --full?"
            ) from error
        data, ids = checked.pop("DATA", None), (self._new_id(id_), self._new_id(root))
        status = ModelStatus.VALIDATE
        message = Message(stream.room.name, type_, *ids, data, status, fields=checked, seed=seed)
        return at_s, message

    def _new_id(self, old: str) -> str:
        return self.new_ids.setdefault(old, new_id())


def _checked(schema: Any, name: str, value: Any) -> Any:
    return value if schema is None else schema.check(name, value)
