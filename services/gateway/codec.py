"""swergio's JSON to messages of a run, and stream entries of a run to swergio's JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from roomgrad import exact_json
from roomgrad.codec import array_from, from_body, not_json, parse_body, seed_in
from roomgrad.display import is_displayable
from roomgrad.errors import DecodeError, format_value
from roomgrad.guests import Guest, from_text
from roomgrad.messages import Message, new_id
from roomgrad.names import ERRORS, LOGGING, TYPE
from roomgrad.rooms import ModelStatus, Room, Stream, System

MAX_NAME_LENGTH = 64
UTF_8 = "utf-8"
ENTRY_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")

# Rooms whose messages wait for no client: only connected clients get them.
LIVE_ROOMS = frozenset({LOGGING, ERRORS})


# from a client


def parse(text: bytes, encoding: str) -> dict[str, Any]:
    """Return a body as a dict. Raises DecodeError if it is not a JSON object."""
    try:
        plain = text if encoding == UTF_8 else text.decode(encoding)
        body = exact_json.loads(plain)
    except UnicodeDecodeError as error:
        raise DecodeError(f"not {encoding}: {error.reason} at byte {error.start}", text) from error
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"{not_json(error)} (NaN and Infinity are not JSON)", text) from error
    if not isinstance(body, dict):
        raise DecodeError(f"expected a JSON object, got {type(body).__name__}", text)
    return body


def text_field(body: Mapping[str, Any], name: str, max_length: int = MAX_NAME_LENGTH) -> str:
    """Return a field that holds a name. Raises DecodeError."""
    value = body.get(name)
    if isinstance(value, str) and len(value) <= max_length and is_displayable(value):
        return value
    raise DecodeError(
        f"{name}: expected a text of 1 to {max_length} characters, got {format_value(value)}"
    )


def type_of(body: Mapping[str, Any]) -> str:
    """Return the TYPE of a body. Raises DecodeError."""
    value = body.get("TYPE")
    if isinstance(value, str) and TYPE.fullmatch(value):
        return value
    raise DecodeError(f"TYPE: expected one like DATA/FORWARD, got {format_value(value)}")


def complete(body: dict[str, Any], sender: str) -> None:
    """Add the fields that swergio omits and roomgrad needs, in place."""
    for name in ("ID", "ROOT_ID"):
        value = body.get(name)
        if type(value) is int:  # written by hand; swergio's own IDs are texts
            body[name] = str(value)
        elif value is None:
            body[name] = new_id()
    if not body.get("SENT_BY"):
        body["SENT_BY"] = sender


def stream_of(system: System | None, room: str, type_: str) -> Stream:
    """Return the contract's stream of a room and TYPE, or one without a schema."""
    found = system.find(room, type_) if system else None
    return found or Stream(Room(room), type_, {})


def message_of(body: dict[str, Any], stream: Stream) -> Message:
    """Return a completed body as a message of a stream. Raises DecodeError or SchemaError."""
    for name in ("v", "m"):
        if name in body:
            raise DecodeError(f"{name}: this name is the protocol's, choose another for the field")
    return from_body(body, stream, {})


# to a client


@dataclass(frozen=True)
class Entry:
    """A stream entry as clients get it."""

    room: str
    type: str
    entry: str
    body: dict[str, Any]
    sender: str = ""
    """ID of the connection that sent it, if it came through the gateway."""
    sender_name: str = ""
    only_for: str = ""
    """The only group to get it, if it is a requeued dead letter."""

    guest: Guest | None = None
    """The guest that opened the root. Clients are not told, and their replies keep it."""

    @property
    def root_id(self) -> str:
        return str(self.body.get("ROOT_ID", ""))

    @property
    def id(self) -> str:
        return str(self.body.get("ID", ""))

    @property
    def written_ms(self) -> int:
        """When it was added, by the server's clock."""
        return int(self.entry.partition("-")[0])


def entry_of(room: str, type_: str, entry: str, fields: Mapping[bytes, bytes]) -> Entry:
    """Return a stream entry for clients. Raises DecodeError if it is not a message."""
    text = fields.get(b"m")
    if text is None:
        raise DecodeError("expected a field m with the message as JSON")
    body = parse_body(text)
    body.pop("v", None)
    for name, value in body.items():
        if isinstance(value, dict) and isinstance(spec := value.get("$array"), dict):
            field = str(spec.get("field", name)).encode()
            if field in fields:  # otherwise $array is a client's own name for something else
                body[name] = array_from(name, spec, fields[field])
    if (seed := seed_in(body, fields)) is not None:
        body["SEED"] = seed
    if room.startswith("@"):  # a direct message has a room only if its sender named one
        body.pop("TO_ROOM", None)
        if named := fields.get(b"room"):
            body["TO_ROOM"] = named.decode()
    sender, _, name = fields.get(b"client", b"").decode(errors="replace").partition(" ")
    only_for = fields.get(b"for", b"").decode(errors="replace")
    guest = from_text(fields[b"GUEST"]) if b"GUEST" in fields else None
    return Entry(room, type_, entry, body, sender, name, only_for, guest)


@dataclass(frozen=True)
class Notification:
    """What a channel says of a new entry."""

    type: str
    entry: str
    client: str


def notification_of(payload: bytes) -> Notification:
    """Parse a notification. Raises DecodeError, as any program may publish something similar."""
    found = parse_body(payload)
    entry, client = found.get("entry"), found.get("client", "")
    if not (isinstance(entry, str) and ENTRY_ID.fullmatch(entry) and isinstance(client, str)):
        raise DecodeError(f"entry: expected one like 1700000000000-0, got {format_value(entry)}")
    return Notification(type_of(found), entry, client)


def encode(body: Mapping[str, Any], encoding: str) -> bytes:
    """Return a body as bytes for clients of this encoding; NaN and infinity are null for them."""
    text = exact_json.dumps(body, nulls=True)
    if encoding == UTF_8:
        return text
    return json.dumps(exact_json.loads(text)).encode(encoding)  # escapes all that is not ASCII


def refusal(sender: str, reason: str, answered: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a LOG/ERROR for one client. swergio's own clients ignore this TYPE."""
    root = (answered or {}).get("ROOT_ID")
    return {
        "ID": new_id(),
        "ROOT_ID": root if isinstance(root, str) and root else new_id(),
        "TYPE": "LOG/ERROR",
        "TO": sender,
        "SENT_BY": "gateway",
        "MODEL_STATUS": int(ModelStatus.TRAIN),
        "TEXT": reason,
    }


def log_copy(entry: Entry) -> dict[str, Any]:
    """Return the copy of a DATA message for room `_logging`."""
    return {
        "ID": new_id(),
        "TO_ROOM": LOGGING,
        "TYPE": "LOG/MESSAGES",
        "SENT_BY": "gateway",
        "MESSAGE": entry.body,
    }
