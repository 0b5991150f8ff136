"""The JSON of the original to messages of a run, and entries of a run back to that JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from roomgrad import codec
from roomgrad.errors import DecodeError, format_value
from roomgrad.messages import Message, new_id
from roomgrad.names import ERRORS, LOGGING, TYPE
from roomgrad.rooms import ModelStatus, Room, Stream, System

LONGEST_NAME = 64
UTF_8 = "utf-8"
ENTRY = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")

# Rooms in which nothing waits for anybody: they are trimmed by size, and read by who is there.
LIVE_ROOMS = frozenset({LOGGING, ERRORS})


# from a client


def parsed(text: bytes, encoding: str) -> dict[str, Any]:
    """A body as a dict. Raises DecodeError when it is not a JSON object."""
    try:
        plain = text if encoding == UTF_8 else text.decode(encoding)
        body = orjson.loads(plain)
    except UnicodeDecodeError as error:
        raise DecodeError(f"not {encoding}: {error.reason} at byte {error.start}", text) from error
    except orjson.JSONDecodeError as error:
        raise DecodeError(
            f"{codec.not_json(error)} (NaN and Infinity are no JSON)", text
        ) from error
    if not isinstance(body, dict):
        raise DecodeError(f"expected a JSON object, got {type(body).__name__}", text)
    return body


def text_of(body: Mapping[str, Any], name: str, longest: int = LONGEST_NAME) -> str:
    """A field that is a name. Raises DecodeError."""
    value = body.get(name)
    if isinstance(value, str) and 0 < len(value) <= longest and value.isprintable():
        return value
    raise DecodeError(
        f"{name}: expected a text of 1 to {longest} characters, got {format_value(value)}"
    )


def type_of(body: Mapping[str, Any]) -> str:
    """The TYPE of a body. Raises DecodeError."""
    value = body.get("TYPE")
    if isinstance(value, str) and TYPE.fullmatch(value):
        return value
    raise DecodeError(f"TYPE: expected one like DATA/FORWARD, got {format_value(value)}")


def completed(body: dict[str, Any], sender: str) -> None:
    """Fills in what the original leaves away, so that a message can be followed: in place."""
    for name in ("ID", "ROOT_ID"):
        value = body.get(name)
        if type(value) is int:  # by hand, as the original's are texts
            body[name] = str(value)
        elif value is None:
            body[name] = new_id()
    if not body.get("SENT_BY"):
        body["SENT_BY"] = sender


def stream_of(system: System | None, room: str, type_: str) -> Stream:
    """The stream of a room and a TYPE: the contract's, or one that takes any message."""
    found = system.find(room, type_) if system else None
    return found or Stream(Room(room), type_, {})


def message_of(body: dict[str, Any], stream: Stream) -> Message:
    """A completed body as a message of this stream. Raises DecodeError or SchemaError."""
    for name in ("v", "m"):
        if name in body:
            raise DecodeError(f"{name}: this name is the protocol's, choose another for the field")
    return codec.from_body(body, stream, {})


# to a client


@dataclass(frozen=True)
class Entry:
    """An entry of a stream, as clients get it."""

    room: str
    type: str
    entry: str
    body: dict[str, Any]
    sender: str = ""
    """The connection from which it came, if it came through the gateway."""
    sender_name: str = ""
    only_for: str = ""
    """The group that it was put back for, of a dead letter."""

    @property
    def root_id(self) -> str:
        return str(self.body.get("ROOT_ID", ""))

    @property
    def id(self) -> str:
        return str(self.body.get("ID", ""))

    @property
    def written_ms(self) -> int:
        """When it was written, by the clock of the server."""
        return int(self.entry.partition("-")[0])


def entry_of(room: str, type_: str, entry: str, fields: Mapping[bytes, bytes]) -> Entry:
    """An entry read. Raises DecodeError when it is no message."""
    text = fields.get(b"m")
    if text is None:
        raise DecodeError("expected a field m with the message as JSON")
    body = codec.parse_body(text)
    body.pop("v", None)
    for name, value in body.items():
        if isinstance(value, dict) and isinstance(spec := value.get("$array"), dict):
            field = str(spec.get("field", name)).encode()
            if field in fields:  # else it is a client's own affair what it calls so
                body[name] = codec.array_from(name, spec, fields[field])
    if room.startswith("@"):  # a direct message, which has a room only if its sender named one
        body.pop("TO_ROOM", None)
        if named := fields.get(b"room"):
            body["TO_ROOM"] = named.decode()
    sender, _, name = fields.get(b"client", b"").decode(errors="replace").partition(" ")
    only_for = fields.get(b"for", b"").decode(errors="replace")
    return Entry(room, type_, entry, body, sender, name, only_for)


@dataclass(frozen=True)
class Ring:
    """What a channel says of an entry that was written."""

    type: str
    entry: str
    client: str


def ring_of(payload: bytes) -> Ring:
    """What rang. Raises DecodeError: anybody may publish what only looks like it."""
    ring = codec.parse_body(payload)
    entry, client = ring.get("entry"), ring.get("client", "")
    if not (isinstance(entry, str) and ENTRY.fullmatch(entry) and isinstance(client, str)):
        raise DecodeError(f"entry: expected one like 1700000000000-0, got {format_value(entry)}")
    return Ring(type_of(ring), entry, client)


def written(body: Mapping[str, Any], encoding: str) -> bytes:
    """A body as bytes for clients of this encoding."""
    text = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    if encoding == UTF_8:
        return text
    return json.dumps(orjson.loads(text)).encode(encoding)  # escapes whatever is not ASCII


def refusal(sender: str, reason: str, answered: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A LOG/ERROR for one client. The original's ignores it: it knows no such TYPE."""
    of = answered or {}
    root = of.get("ROOT_ID")
    return {
        "ID": new_id(),
        "ROOT_ID": root if isinstance(root, str) and root else new_id(),
        "TYPE": "LOG/ERROR",
        "TO": sender,
        "SENT_BY": "gateway",
        "MODEL_STATUS": int(ModelStatus.TRAIN),
        "TEXT": reason,
    }


def tapped(entry: Entry) -> dict[str, Any]:
    """What room `_logging` gets of a DATA message."""
    return {
        "ID": new_id(),
        "TO_ROOM": LOGGING,
        "TYPE": "LOG/MESSAGES",
        "SENT_BY": "gateway",
        "MESSAGE": entry.body,
    }
