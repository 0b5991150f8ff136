"""A message as it is typed, checked against the contract of a run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from roomgrad import strict_json
from roomgrad.cli import arrays
from roomgrad.errors import SettingsError
from roomgrad.local.plan import hint
from roomgrad.messages import Message
from roomgrad.rooms import ENVELOPE, MessageType, ModelStatus, Stream, System

STATUS = {each.name.lower(): each for each in ModelStatus}


@dataclass(frozen=True)
class Draft:
    """A message as it is typed."""

    room: str
    type: str
    body: str
    file: str
    status: str
    root: str = ""
    to: str = ""
    seed: int | None = None

    def message(self, system: System) -> Message:
        """Return the message.

        Raises SettingsError if it cannot be read, SchemaError if it does not fit the contract.
        """
        stream = find_stream(system, self.room, self.type)
        fields = self._fields()
        for name, value in fields.items():
            schema = stream.schema.get(name)
            fields[name] = schema.check(name, value) if schema else value
        data, status = fields.pop("DATA", None), STATUS[self.status]
        message = Message.open(self.room, data, status=status, seed=self.seed)
        made = replace(message, type=str(stream.type), fields=fields, to=self.to)
        return replace(made, root_id=self.root) if self.root else made

    def _fields(self) -> dict[str, Any]:
        """Return the typed fields: an object has them by name, everything else is DATA."""
        if self.body and self.file:
            raise SettingsError("the message: either as JSON or by --file")
        if self.file.endswith(".npy"):
            return {"DATA": arrays.read(Path(self.file), "--file")}
        text = self._text()
        if not text.strip():
            return {}
        try:
            found = strict_json.loads(text)
        except orjson.JSONDecodeError as error:
            raise SettingsError(
                f"the message is no JSON: {error}; expected DATA, like '[[3, 60]]', or an object "
                f"of fields"
            ) from error
        fields = found if isinstance(found, dict) else {"DATA": found}
        if taken := ENVELOPE & fields.keys():
            raise SettingsError(
                f"{', '.join(sorted(taken))} belongs to the envelope, which the command writes: "
                f"give fields only, and --type, --root, --to, --seed, --status"
            )
        return fields

    def _text(self) -> bytes:
        if "-" in (self.body, self.file):
            return sys.stdin.buffer.read()
        if not self.file:
            return self.body.encode()
        try:
            return Path(self.file).read_bytes()
        except OSError as error:
            raise SettingsError(
                f"--file {self.file}: it cannot be read: {error.strerror}"
            ) from error


def find_stream(system: System, room: str, type_: str = "") -> Stream:
    """Return a room's stream of a TYPE; without one, its forward messages or its only TYPE."""
    types = [str(each.type) for each in system.streams if each.room.name == room]
    if not types:
        raise SettingsError(
            f"system {system.name} has no room {room!r}: {hint(room, list(system.rooms))}"
        )
    if type_ and type_ not in types:
        raise SettingsError(f"room {room} has no TYPE {type_!r}: {hint(type_, types)}")
    forward = MessageType.FORWARD.value
    if not type_ and len(types) > 1 and forward not in types:
        raise SettingsError(f"which TYPE? Room {room} has {', '.join(types)}: name one by --type")
    return system.stream(room, type_ or (types[0] if len(types) == 1 else forward))
