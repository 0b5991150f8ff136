"""`roomgrad pub` and `request`: messages by hand, held to the contract of the run."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import redis
from rich.console import Console
from rich.text import Text

from roomgrad import codec
from roomgrad.cli import arrays, tables, target
from roomgrad.cli.messages import echo
from roomgrad.errors import SettingsError
from roomgrad.inspect.tail import Seen
from roomgrad.local.plan import hint
from roomgrad.local.session import password_file
from roomgrad.messages import Message, new_id
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.redis.client import Client
from roomgrad.rooms import ENVELOPE, MessageType, ModelStatus, Room, Stream, System
from roomgrad.schema import Declaration

STATUS = {"train": ModelStatus.TRAIN, "validate": ModelStatus.VALIDATE}
FORWARD = MessageType.FORWARD


@dataclass(frozen=True)
class Draft:
    """A message as it was typed."""

    room: str
    type: str
    body: str
    file: str
    status: str
    root: str = ""
    to: str = ""

    def message(self, system: System) -> Message:
        """The message. Raises SettingsError for what cannot be read, SchemaError if it misfits."""
        stream = stream_of(system, self.room, self.type)
        fields = self.fields()
        for name, value in fields.items():
            schema = stream.schema.get(name)
            fields[name] = schema.check(name, value) if schema else value
        message = Message.open(self.room, fields.pop("DATA", None), status=STATUS[self.status])
        made = replace(message, type=str(stream.type), fields=fields, to=self.to)
        return replace(made, root_id=self.root) if self.root else made

    def fields(self) -> dict[str, Any]:
        """The fields that were given: an object has them by name, everything else is DATA."""
        if bool(self.body) and bool(self.file):
            raise SettingsError("the message: either as JSON or by --file")
        if self.file.endswith(".npy"):
            return {"DATA": arrays.read(Path(self.file), "--file")}
        text = _text(self.file, self.body)
        if not text.strip():
            return {}
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise SettingsError(
                f"the message is no JSON: {error}; expected DATA, like '[[3, 60]]', or an object "
                f"of fields"
            ) from error
        fields = found if isinstance(found, dict) else {"DATA": found}
        if taken := ENVELOPE & fields.keys():
            raise SettingsError(
                f"{', '.join(sorted(taken))} belongs to the envelope, which the command writes: "
                f"give fields only, and --type, --root, --to, --status"
            )
        return fields


def _text(file: str, body: str) -> bytes:
    if body == "-" or file == "-":
        return sys.stdin.buffer.read()
    return _read(file) if file else body.encode()


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"--file {file}: it cannot be read: {error.strerror}") from error


def stream_of(system: System, room: str, type_: str = "") -> Stream:
    """The stream that is meant: of a TYPE, or the room's forward messages, or its only TYPE."""
    types = [str(each.type) for each in system.streams if each.room.name == room]
    if not types:
        raise SettingsError(
            f"system {system.name} has no room {room!r}: {hint(room, list(system.rooms))}"
        )
    if type_ and type_ not in types:
        raise SettingsError(f"room {room} has no TYPE {type_!r}: {hint(type_, types)}")
    if not type_ and len(types) > 1 and FORWARD not in types:
        raise SettingsError(f"which TYPE? Room {room} has {', '.join(types)}: name one by --type")
    return system.stream(room, type_ or (types[0] if len(types) == 1 else FORWARD.value))


def contract(client: redis.Redis, names: Names) -> System:
    """What the rooms of a run carry. Raises SettingsError where nobody has said it."""
    system = registry.system_of_run(client, names)
    if system is None:
        raise SettingsError(
            f"nobody has said what the rooms of run {names.run} carry: start one of its components"
        )
    return system


def opened(client: redis.Redis, names: Names, url: str, system: System) -> closing[Client]:
    """A client of a run."""
    return closing(Client(system, names.run, url, password_file(), name="roomgrad"))


# pub


def pub(draft: Draft, times: int, rate: float, run: str, redis_url: str, *, as_json: bool) -> None:
    """Send a message so often, each time as a new one."""
    with target.reached(redis_url) as (client, url):
        names = target.chosen(client, run)
        system = contract(client, names)
        message = draft.message(system)
        began = time.monotonic()
        with opened(client, names, url, system) as sender:
            for number in range(times):
                if number:
                    message = _again(message, draft)
                if rate:
                    time.sleep(max(0.0, began + number / rate - time.monotonic()))
                message.entry = sender.send(message)
                if times == 1 or as_json:
                    _say_sent(names, message, as_json=as_json)
    if times > 1 and not as_json:
        print(f"{times:,} messages were sent to {draft.room}.")


def _again(message: Message, draft: Draft) -> Message:
    return replace(message, id=new_id(), root_id=draft.root or new_id())


def _say_sent(names: Names, message: Message, *, as_json: bool) -> None:
    if as_json:
        where = {"run": names.run, "room": message.room, "type": message.type}
        sent = {"ID": message.id, "ROOT_ID": message.root_id, "entry": message.entry}
        tables.say_json({**where, **sent})
    else:
        print(
            f"{message.type} {message.entry} to {message.room}, root {message.root_id}: "
            f"`roomgrad trace {message.root_id} --run {names.run}` follows it."
        )


# request


def request(
    draft: Draft,
    answer: str,
    timeout_s: float,
    run: str,
    redis_url: str,
    *,
    full: bool,
    as_json: bool,
) -> None:
    """Send a forward message and show what comes back."""
    with target.reached(redis_url) as (client, url):
        names = target.chosen(client, run)
        system = contract(client, names)
        message = replace(draft, type=FORWARD.value).message(system)
        room = answer or answered_in(system, registry.declared_in(client, names), message)
        answers = stream_of(system, room, FORWARD.value)
        with opened(client, names, url, system) as sender:
            began = time.perf_counter()
            found = sender.ask(
                Room(message.room),
                FORWARD,
                message.data,
                answer=(answers.room, FORWARD),
                status=message.status,
                timeout_s=timeout_s,
                fields=message.fields,
            )
            took_s = time.perf_counter() - began
    seen = Seen(found.entry, found.room, found.type, _pairs(codec.encode(found, answers)))
    if as_json:
        tables.say_json({**echo.as_object(seen, full=full), "seconds": round(took_s, 6)})
        return
    echo.show(seen, full=full, as_json=False)
    Console(highlight=False).print(Text(f"answered after {took_s * 1000:,.1f} ms", "dim"))


def _pairs(fields: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(fields[::2], fields[1::2], strict=True))


def answered_in(system: System, declared: Mapping[str, Declaration], message: Message) -> str:
    """The room to which the components hand a forward message on, until nobody does.

    Raises SettingsError where there is none, or several.
    """
    ends: set[str] = set()
    seen: set[str] = set()
    todo = [message.room]
    while todo:
        room = todo.pop()
        if room in seen:
            continue
        seen.add(room)
        onward = [
            to
            for component, said in declared.items()
            for handler in said.handlers
            if (handler.room, handler.type) == (room, message.type)
            and component in system.stream(room, message.type).consumers
            for to, type_ in handler.replies
            if type_ == message.type
        ]
        todo += onward
        if not onward and room != message.room:
            ends.add(room)
    if len(ends) != 1:
        found = f"{', '.join(sorted(ends))} could be" if ends else "no component has said"
        raise SettingsError(
            f"in which room does the answer to {message.room} come? {found}: name it by --answer"
        )
    return ends.pop()
