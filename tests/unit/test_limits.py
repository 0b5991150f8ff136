"""Each limit on what comes from outside: what is beyond it is refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from safetensors.numpy import save

from roomgrad import Array, Message, MessageType, Room, Stream, codec, memory, weights
from roomgrad.cli import arrays
from roomgrad.errors import MessageError, RoomgradError, SchemaError
from roomgrad.memory import Memory
from roomgrad_melody import formats, midi, rows
from roomgrad_swergio.gateway import codec as gateway_codec
from roomgrad_swergio.gateway import frames
from roomgrad_swergio.gateway.settings import GatewaySettings
from roomgrad_swergio.swarm import file as swarm

ROOM = Room("room")
FREE = Stream(ROOM, MessageType.FORWARD, {})
STREAM = Stream(ROOM, MessageType.FORWARD, {"DATA": Array("<f4", ("n",))})
BODY = {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD"}


def entry(text: bytes = b"{}", *more: bytes) -> Any:
    return codec.decode("1-1", [b"m", text, *more], FREE)


def body(**changed: Any) -> Any:
    return codec.from_body({**BODY, **changed}, FREE, {})


def array(shape: list[int]) -> Any:
    return codec.array_from("DATA", {"dtype": "<f4", "shape": shape}, b"1234")


def nested(depth: int) -> bytes:
    return b'{"DATA":' + b"[" * depth + b"]" * depth + b"}"


def swarm_file(size: int) -> Any:
    return swarm.parse(b"#" * size, Path("s.yaml"))


def header(announced: int) -> Any:
    return frames.length_of(b"%-10d" % announced, GatewaySettings().max_bytes)


def tensor(**changed: Any) -> bytes:
    """A file of one tensor with a header of its own."""
    spec = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changed}
    text = orjson.dumps({"x": spec})
    return len(text).to_bytes(8, "little") + text + b"1234"


LIMITS: dict[str, tuple[Callable[[], Any], str]] = {
    "bytes of a message": (
        lambda: entry(b"{}", b"DATA", b" " * codec.MAX_MESSAGE_BYTES),
        "67108864 bytes at most",
    ),
    "bytes of its JSON": (
        lambda: entry(b" " * (codec.MAX_TEXT_BYTES + 1)),
        "8388608 bytes at most",
    ),
    "fields of an entry": (
        lambda: entry(b"{}", *[b"f", b""] * codec.MAX_FIELDS),
        "3500 fields at most, got 3501",
    ),
    "nesting": (lambda: entry(nested(codec.MAX_DEPTH)), "at most 1024 lists in each other"),
    "length of an ID": (lambda: body(ID="i" * 129), "ID: expected a text of 1 to 128"),
    "length of a ROOT_ID": (
        lambda: body(ROOT_ID="r" * 129),
        "ROOT_ID: expected a text of 1 to 128",
    ),
    "length of a name": (lambda: body(SENT_BY="s" * 129), "SENT_BY: expected a text of 1 to 128"),
    "dimensions": (lambda: array([1] * 9), "expected a shape, got"),
    "a product that overflows": (lambda: array([2**32, 2**32, 2**32]), "expected a shape"),
    "a product hidden behind a zero": (lambda: array([0, 2**62, 2**62]), "expected a shape"),
    "bytes of a label file": (
        lambda: formats.read(b" " * (formats.MAX_BYTES + 1), "csv"),
        "at most 64 MiB of labels: split the file",
    ),
    "values of a label file": (
        lambda: formats.read(b"[" * 4_000_001, "json"),
        "at most 4,000,000 values",
    ),
    "bytes of a MIDI file": (
        lambda: midi.from_midi(b"MThd" * (midi.MAX_BYTES // 4 + 1)),
        "at most 16777216 bytes, got 16777220",
    ),
    "bytes of a swarm file": (
        lambda: swarm_file(swarm.MAX_BYTES + 1),
        "at most 65536 bytes of YAML",
    ),
    "header of a model file": (
        lambda: weights.read((2**62).to_bytes(8, "little") + b"{}"),
        "not a safetensors file",
    ),
    "dimensions of a tensor": (
        lambda: weights.read(tensor(shape=[1] * 17)),
        "at most 16 dimensions",
    ),
    "a frame of a client": (lambda: header(8 * 2**20 + 1), "allowed are 8388608"),
    "a name of a client": (
        lambda: gateway_codec.text_field({"NAME": "n" * 65}, "NAME"),
        "a text of 1 to 64 characters",
    ),
    "nesting of a client's message": (
        lambda: gateway_codec.parse(nested(codec.MAX_DEPTH), "utf-8"),
        "at most 1024 lists in each other",
    ),
}


@pytest.mark.parametrize("what", LIMITS)
def test_what_is_beyond_a_limit_is_refused_with_a_sentence(what: str) -> None:
    attempt, sentence = LIMITS[what]
    with pytest.raises(RoomgradError, match=sentence):
        attempt()


def test_what_is_just_within_them_is_taken() -> None:
    """The limits are where they are said to be."""
    text = orjson.dumps({**BODY, "DATA": "x"})
    fields = [b"f%d" % number for number in range(2 * (codec.MAX_FIELDS - 1))]
    assert entry(text, *fields).id == "i"
    assert body(ID="i" * 128, ROOT_ID="r" * 128).root_id == "r" * 128
    assert array([1] * codec.MAX_DIMENSIONS).shape == (1,) * codec.MAX_DIMENSIONS
    assert codec.parse_body(nested(codec.MAX_DEPTH - 1))
    assert weights.read(tensor())[0].shape == (1,)
    assert header(8 * 2**20) == 8 * 2**20


def test_what_cannot_be_read_cannot_be_sent_either() -> None:
    many = {f"F{number}": np.zeros(17, "<f4") for number in range(codec.MAX_ARRAYS + 1)}
    schema = {name: Array("<f4", ("n",)) for name in many}
    with pytest.raises(SchemaError, match="3490 larger arrays at most, got 3491"):
        codec.encode(Message.open(ROOM, **many), Stream(ROOM, MessageType.FORWARD, schema))
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(SchemaError, match="cannot be written as JSON"):
        codec.encode(Message.open(ROOM, DEEP=deep), FREE)
    large = np.zeros(codec.MAX_MESSAGE_BYTES // 4 + 1, "<f4")
    with pytest.raises(SchemaError, match="67108864 bytes at most"):
        codec.encode(Message.open(ROOM, large), STREAM)


def test_a_file_has_so_many_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """In each format."""
    monkeypatch.setattr(rows, "MAX_ROWS", 2)
    row = rows.Row(np.zeros(128, "|u1"), 3)
    for format in formats.FORMATS:
        assert len(formats.read(formats.write([row] * 2, format), format).rows) == 2
        with pytest.raises(RoomgradError, match="at most 2 labels in a file, got more: split it"):
            formats.read(formats.write([row] * 3, format), format)


@pytest.mark.parametrize(
    "stored",
    [
        tensor(shape=["1"]),
        tensor(shape=[True]),
        tensor(shape=[-1]),
        tensor(shape=[2**62, 2**62]),
        tensor(data_offsets=[0, 8]),
        tensor(data_offsets=[4, 0]),
        tensor(data_offsets=[0]),
        tensor(dtype="F128"),
        tensor() + b"more",
        save({"x": np.ones(2, "<f4")})[:-1],
    ],
)
def test_a_model_file_that_does_not_hold_what_it_says_is_refused(stored: bytes) -> None:
    with pytest.raises(MessageError, match="header of this safetensors file is broken"):
        weights.read(stored)


def test_tensors_cannot_share_their_bytes() -> None:
    """Else a small file would be a large model."""
    spec = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    text = orjson.dumps({f"x{number}": spec for number in range(1000)})
    with pytest.raises(MessageError, match="invalid offset for tensor"):
        weights.read(len(text).to_bytes(8, "little") + text + b"1234")


def test_a_model_file_is_read_by_name() -> None:
    first, second = weights.read(save({"b": np.ones((2, 3), "<f4"), "a": np.zeros(1, "<i8")}))
    assert first == weights.Tensor("a", "I64", (1,), bytes(8))
    assert second == weights.Tensor("b", "F32", (2, 3), np.ones((2, 3), "<f4").tobytes())


@pytest.mark.parametrize(
    "text",
    [
        "components: {a: {filepath: !!bool x}}",
        "components: {a: {filepath: !!timestamp x}}",
        "components: {a: {filepath: !!int ''}}",
        "components: {a: {filepath: !!float x}}",
        "components: {a: {filepath: !!python/object/apply:os.system [ls]}}",
        "components: " + "[" * 90,
        "components: " + "[" * 3000,
        "components: " + "{a: " * 3000,
        "components:\n" + "- " * 3000,
    ],
)
def test_yaml_that_says_what_it_is_not_is_a_sentence(text: str) -> None:
    with pytest.raises(RoomgradError, match=r"s\.yaml is not YAML .*: correct it"):
        swarm.parse(text.encode(), Path("s.yaml"))


def test_yaml_cannot_grow_by_its_aliases() -> None:
    """Ten times ten times ten..., of which nobody makes a copy."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(RoomgradError, match="components is missing"):
        swarm.parse("\n".join(lines).encode(), Path("s.yaml"))


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"no array",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O'}\n",
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
        b"PK\x03\x04 and so on",
    ],
)
def test_an_array_file_that_is_none_is_a_sentence(stored: bytes) -> None:
    with pytest.raises(RoomgradError, match=r"--file a\.npy: this is no array in numpy's format"):
        arrays.parse(stored, "--file a.npy")


def test_an_array_of_anything_but_numbers_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.array(["a"]))
    with pytest.raises(RoomgradError, match="expected one array of numbers"):
        arrays.read(file, "--file")
    np.savez(tmp_path / "b.npz", np.ones(3))
    with pytest.raises(RoomgradError, match="expected one array of numbers"):
        arrays.read(tmp_path / "b.npz", "--file")


class One:
    """A hash of one record."""

    def hget(self, key: str, field: bytes) -> bytes | None:
        return codec.pack({"ROOT_ID": "r"}) if field == b"old" else None

    def hmget(self, key: str, fields: list[bytes]) -> list[bytes | None]:
        return [self.hget(key, field) for field in fields]

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        return {}


def test_a_component_remembers_so_many_roots() -> None:
    """Whoever closes one may open the next."""
    full = Memory("memory", One(), "r", True, memory.MAX_OPEN_ROOTS)
    with pytest.raises(MessageError, match="holds 200000 open roots, expected fewer than 200000"):
        full.put("new")
    full.pop("old")
    full.put("new")
    Memory("memory", One(), "r", True, memory.MAX_OPEN_ROOTS - 1).put("new")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"ring":1,',
        b'{"ring":1,"TYPE":"DATA/FORWARD"}',
        b'{"ring":1,"TYPE":"DATA/FORWARD","entry":"+"}',
        b'{"ring":1,"TYPE":"DATA/FORWARD","entry":"1-1","client":[]}',
        b'{"ring":1,"TYPE":"a:b:c","entry":"1-1"}',
        b'{"ring":1,"entry":"1-1"}',
        b'{"ring":1,"TYPE":7,"entry":"1-1"}',
    ],
)
def test_what_only_looks_like_a_ring_is_none(payload: bytes) -> None:
    with pytest.raises(MessageError):
        gateway_codec.notification_of(payload)


def test_a_ring_says_what_came() -> None:
    message = Message.open(ROOM, np.ones(2, "<f4"))
    notification = gateway_codec.notification_of(codec.header(message) + b'1700000000000-0"}')
    assert (notification.type, notification.entry, notification.client) == (
        "DATA/FORWARD",
        "1700000000000-0",
        "",
    )
    assert json.loads(codec.header(message) + b'"}')["ID"] == message.id
