"""The targets: each takes bytes, and may raise only the errors that it documents."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h11
import numpy as np

from roomgrad import (
    Array,
    Component,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    codec,
    weights,
)
from roomgrad.cli import arrays
from roomgrad.errors import DecodeError, FormatError, MessageError, ServerError, SettingsError
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.rooms import Text
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.notifications import Notifications
from roomgrad.web.changes import Changes
from roomgrad.web.connections import MOST_HEADER_BYTES
from roomgrad.web.guard import Guard
from roomgrad.web.rates import Rates
from roomgrad.web.store import Store
from roomgrad_melody import formats
from roomgrad_melody.labelling.page import Page
from roomgrad_melody.labelling.settings import LabellingSettings
from roomgrad_melody.midi import from_midi
from roomgrad_swergio.gateway import codec as gateway_codec
from roomgrad_swergio.gateway import frames
from roomgrad_swergio.swarm import file as swarm
from roomgrad_trebuchet.contract import TREBUCHET
from tests.fuzz import examples

APART = b"\x1f\x1e"  # separates the fields of an entry, for targets that take one
MOST_FRAME = 64 * 1024


@dataclass(frozen=True)
class Target:
    """One target. share: its part of all inputs; slow readers get fewer."""

    name: str
    read: Callable[[bytes], None]
    allowed: tuple[type[Exception], ...]
    examples: tuple[bytes, ...]
    share: float


ROOM = Room("room")
STREAM = Stream(
    ROOM,
    MessageType.FORWARD,
    {
        "DATA": Array("<f4", ("batch", 2)),
        "FRAMES": Array("<i8", (), optional=True),
        "RATINGS": Array("<f8", ("n",), optional=True, low=0, high=5, nullable=True),
        "BITS": Array("|b1", ("n",), optional=True),
        "WHO": Text(optional=True, many=True),
    },
)
FREE = Stream(ROOM, MessageType.FORWARD, {})
READER = Component("me", System("s", (STREAM,), ()), RuntimeSettings, [])
NOTIFICATIONS = Notifications(Identity(READER, RuntimeSettings(), Names("run"), "me~1"))


def written() -> list[list[bytes]]:
    """Return real entries: inline and raw arrays, texts, nulls."""
    small = Message.open(ROOM, np.ones((2, 2), "<f4"), FRAMES=np.array(3), WHO=["ä", ""])
    large = Message.open(
        ROOM,
        np.arange(40, dtype="<f4").reshape(20, 2),
        RATINGS=np.array([np.nan, 5.0]),
        BITS=np.ones(20, bool),
    )
    return [codec.encode(message, STREAM) for message in (small, large)]


def entries() -> tuple[bytes, ...]:
    """Return the same entries, each as one text."""
    return tuple(map(APART.join, written()))


def entry(data: bytes) -> None:
    """Decode an entry, encode it again without a change, and parse its notification."""
    fields = data.split(APART)
    fields += [b""] * (len(fields) % 2)
    with contextlib.suppress(MessageError):
        free = codec.decode("1-1", fields, FREE)
        codec.encode(free, FREE)
    message = codec.decode("1-1", fields, STREAM)
    again = codec.decode("1-1", codec.encode(message, STREAM), STREAM)
    assert (again.id, again.root_id, again.status) == (message.id, message.root_id, message.status)
    assert again.array.tobytes() == message.array.tobytes()
    notification = gateway_codec.notification_of(codec.header(message) + b'1-1"}')
    assert (notification.type, notification.entry) == (message.type, "1-1")


def record(data: bytes) -> None:
    codec.unpack(data)


def heard(data: bytes) -> None:
    """Read what a channel delivers: a notification, or a message published by hand."""
    with contextlib.suppress(MessageError):
        gateway_codec.notification_of(data)
    try:
        message, stream = NOTIFICATIONS._read("room", codec.parse_body(data))
    except MessageError as error:
        refusal = NOTIFICATIONS._refusal("room", data, error, b"PUBLISH")
        codec.encode(refusal, Stream(Room("errors"), refusal.type, {}))
        return
    codec.encode(message, stream)


LOOP = asyncio.new_event_loop()


async def _bodies(data: bytes) -> list[bytes]:
    reader = asyncio.StreamReader(loop=LOOP)
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while head := await frames.next_header(reader, 10, 1.0):
        length = frames.length_of(head, MOST_FRAME)
        found.append(await frames.rest(reader, length, 1.0))
    return found


def framed(data: bytes) -> None:
    """Read the bytes of a client, encode for the stream, and decode for another client."""
    for text in LOOP.run_until_complete(_bodies(data)):
        said(text, "utf-8")


def messages(data: bytes) -> None:
    """Handle a body in both kinds of encodings that clients may have."""
    with contextlib.suppress(MessageError):
        said(data, "latin-1")
    said(data, "utf-8")


def said(text: bytes, encoding: str) -> None:
    body = gateway_codec.parse(text, encoding)
    type_ = gateway_codec.type_of(body)
    room = gateway_codec.text_field(body, "TO_ROOM")
    gateway_codec.complete(body, "ann")
    gateway_codec.refusal("ann", "no", body)
    stream = gateway_codec.stream_of(TREBUCHET, room, type_)
    pairs = codec.encode(gateway_codec.message_of(body, stream), stream)
    fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
    found = gateway_codec.entry_of(room, type_, "1-0", fields)
    gateway_codec.encode(found.body, encoding)
    gateway_codec.encode(gateway_codec.log_copy(found), encoding)


def labels(format: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        found = formats.read(data, format)
        assert all(str(problem) for problem in found.problems)
        voted = bool(found.pairs)
        written = (formats.write_pairs if voted else formats.write)(
            found.pairs or found.rows, format
        )
        again = formats.read(written, format)
        assert (len(again.rows), len(again.pairs)) == (len(found.rows), len(found.pairs))
        assert not again.problems

    return read


def midi(data: bytes) -> None:
    from_midi(data)


def model(data: bytes) -> None:
    """Read weights, and compare them with others."""
    weights.difference(WEIGHTS, weights.read(data))


WEIGHTS = weights.read(examples.WEIGHTS[0])


def swarm_file(data: bytes) -> None:
    swarm.parse(data, Path("swarm.yaml"))


def array(data: bytes) -> None:
    arrays.parse(data, "--file a.npy")


def _closed() -> Client:
    raise ServerError("there is none here")


PAGE = Page(LabellingSettings(), Store(_closed), Changes(lambda: None), lambda: b"{}", lambda: "")
GUARD = Guard(PAGE.app(), "", local=True)
GUARD._requests = Rates(1e9, 10**9)  # all of them at once


def request(data: bytes) -> None:
    """Read a browser's request until the first command to the server, which is away."""
    wire = h11.Connection(h11.SERVER, MOST_HEADER_BYTES)
    wire.receive_data(data)
    try:
        asked = wire.next_event()
        body = wire.next_event()
    except h11.RemoteProtocolError:
        return
    if not isinstance(asked, h11.Request):
        return
    LOOP.run_until_complete(_asked(asked, body.data if isinstance(body, h11.Data) else b""))


async def _asked(asked: h11.Request, body: bytes) -> None:
    path, _, query = asked.target.partition(b"?")
    scope = {
        "type": "http",
        "method": asked.method.decode(),
        "path": unquote(path.decode()),
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": list(asked.headers),
    }
    found: dict[str, Any] = {}

    left = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()  # the client stays connected
        return left.pop()

    async def send(message: Any) -> None:
        found.update(message)

    await GUARD(scope, receive, send)
    assert found["status"] != 500
    assert not any(b"\n" in value for _, value in found["headers"])


def frames_of(texts: tuple[bytes, ...]) -> tuple[bytes, ...]:
    one = tuple(frames.framed(text, 10) for text in texts)
    return (*one, b"".join(one))


FILE = (FormatError,)
MESSAGE = (MessageError,)

TARGETS = (
    Target("entries of streams", entry, MESSAGE, entries(), 0.23),
    Target("records of hashes", record, (DecodeError, MessageError), examples.RECORDS, 0.10),
    Target("channels", heard, (), examples.PUBLISHED, 0.12),
    Target("frames of clients", framed, MESSAGE, frames_of(examples.PUBLISHED), 0.10),
    Target("messages of clients", messages, MESSAGE, examples.PUBLISHED, 0.10),
    Target("requests of browsers", request, (), examples.REQUESTS, 0.03),
    Target("labels, csv", labels("csv"), FILE, examples.CSV, 0.05),
    Target("labels, jsonl", labels("jsonl"), FILE, examples.JSONL, 0.06),
    Target("labels, json", labels("json"), FILE, examples.LABEL_STUDIO, 0.06),
    Target("melodies, midi", midi, FILE, examples.MIDI, 0.05),
    Target("weights, safetensors", model, (DecodeError,), examples.WEIGHTS, 0.05),
    Target("arrays, npy", array, (SettingsError,), examples.ARRAYS, 0.03),
    Target("swarm files, yaml", swarm_file, (FormatError, SettingsError), examples.SWARMS, 0.02),
)

assert json.dumps([round(sum(target.share for target in TARGETS), 9)]) == "[1.0]"
