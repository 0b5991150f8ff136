"""Messages to the fields of a stream entry and back; `docs/protocol.md` shows real ones.

A small array is part of `m` as nested lists, so that a person can read it. A larger one is an entry
field of its own, raw little-endian bytes: 2 us where JSON takes 30 for 100x2 floats.

Every array that is read is a copy of its own, which may be changed in place, whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from roomgrad import dtypes, exact_json
from roomgrad.errors import DecodeError, SchemaError, format_value
from roomgrad.guests import from_text
from roomgrad.messages import MAX_SEED, Message
from roomgrad.rooms import ENVELOPE, Array, MessageType, ModelStatus, Stream

INLINE_VALUES = 16  # arrays of at most so many values are written as lists
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_TEXT_BYTES = 8 * 1024 * 1024  # of `m`: JSON takes some thirty times as much when it is parsed
MAX_FIELDS = 3500  # of an entry: m, ID, ROOT_ID, SEED, its arrays, and fields of the runtime
MAX_ARRAYS = MAX_FIELDS - 10  # in fields of their own
MAX_DEPTH = 1024  # of lists in lists, as orjson limits it
MAX_DIMENSIONS = 8
SEED_DIGITS = len(str(MAX_SEED))
MAX_VALUES = 2**40  # that a shape may announce, counting empty dimensions as 1
HEADER_PREFIX = b'{"ring":1,'  # how a notification of the runtime begins

Body = dict[str, Any]
"""What `m` holds, with its format version under `v`."""


@dataclass(frozen=True)
class Format:
    """A version of the format, by how its bodies differ from those of the code below."""

    read: Callable[[Body], Body] | None = None
    """Convert a body of this version to one of the code below."""

    write: Callable[[Body], Body] | None = None
    """Convert it back."""


@dataclass
class Formats:
    """The versions that this release reads, and the one that it writes.

    Consecutive releases work side by side: a release reads a version before the next one writes it,
    and for as long as the last release that wrote it may run.
    """

    versions: dict[int, Format] = field(default_factory=lambda: {1: Format()})
    current: int = 1


FORMATS = Formats()
"""Those of this release."""

_GRADIENT = MessageType.GRADIENT.value
_STATUS: dict[Any, ModelStatus] = {status.value: status for status in ModelStatus}


# messages -> entries


def encode(message: Message, stream: Stream) -> list[bytes]:
    """Return the fields of the stream entry for `message`: name, value, name, value...

    Raises SchemaError if the message does not fit the stream's schema.
    """
    body: dict[str, Any] = {
        "v": FORMATS.current,
        "ID": message.id,
        "ROOT_ID": message.root_id,
        "TYPE": message.type,
        "TO_ROOM": message.room,
        "SENT_BY": message.sent_by,
        "MODEL_STATUS": int(message.status),
    }
    if message.to:
        body["TO"] = message.to
    raw: list[bytes] = []
    for name, value in _payload(message):
        schema = stream.schema.get(name)
        if schema is not None:
            body[name] = _encoded(name, schema.check(name, value), raw)
        elif stream.schema:
            raise SchemaError(_unknown_field(name, stream))
        elif name in ENVELOPE:
            raise SchemaError(f"{name} belongs to the envelope, choose another name for the field")
        else:
            body[name] = value
    _require(body, stream)
    write = FORMATS.versions[FORMATS.current].write
    text = _dumps(write(body) if write else body, nulls=bool(stream.schema))
    if len(text) > MAX_TEXT_BYTES:
        raise SchemaError(f"everything but arrays may have {MAX_TEXT_BYTES} bytes at most as JSON")
    entry = [b"ID", message.id.encode(), b"ROOT_ID", message.root_id.encode(), b"m", text]
    if message.seed is not None:
        # A field of its own and not a part of `m`, because releases that do not know SEED refuse an
        # unknown name in `m` and ignore an unknown field. So the format version stays.
        entry += [b"SEED", _encoded_seed(message.seed)]
    if message.guest is not None:
        entry += [b"GUEST", message.guest.to_text()]
    entry += raw
    if len(raw) > 2 * MAX_ARRAYS:
        raise SchemaError(
            f"a message may have {MAX_ARRAYS} larger arrays at most, got {len(raw) // 2}: join some"
        )
    if sum(map(len, entry)) > MAX_MESSAGE_BYTES:
        raise SchemaError(f"a message may have {MAX_MESSAGE_BYTES} bytes at most, split the batch")
    return entry


def header(message: Message) -> bytes:
    """Return a message's notification up to the entry id; the server appends that with `"}`."""
    shape = np.shape(message.data) if message.data is not None else ()
    tail = _dumps(
        {
            "ID": message.id,
            "ROOT_ID": message.root_id,
            "TYPE": message.type,
            "SENT_BY": message.sent_by,
            "shape": shape,
        }
    )
    return HEADER_PREFIX + tail[1:-1] + b',"entry":"'


def _payload(message: Message) -> list[tuple[str, Any]]:
    payload = list(message.fields.items())
    if message.data is not None:
        payload.append(("DATA", message.data))
    return payload


def _encoded(name: str, value: NDArray[Any] | str | list[str], raw: list[bytes]) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    array = value
    # Lists cannot say what shape an empty array of two dimensions has.
    if array.size <= INLINE_VALUES and (array.size or array.ndim == 1):
        return array.tolist()
    raw += [name.encode(), array.tobytes()]
    return {"$array": {"field": name, "dtype": dtypes.name_of(array.dtype), "shape": array.shape}}


def _encoded_seed(seed: int) -> bytes:
    if not _is_seed(seed):
        raise SchemaError(_wrong_seed(seed))
    return b"%d" % seed


def _dumps(body: Mapping[str, Any], *, nulls: bool = False) -> bytes:
    try:
        return exact_json.dumps(body, nulls=nulls)
    except TypeError as error:
        raise SchemaError(f"a field cannot be written as JSON: {error}") from error


def _require(body: Mapping[str, Any], stream: Stream) -> None:
    schema = stream.schema
    if stream.required <= body.keys():
        return
    if stream.type == _GRADIENT and not schema.keys() & body.keys():
        return  # an empty gradient, for a sender that has nothing to learn from
    for name, expected in schema.items():
        if not expected.optional and name not in body:
            kind = "of shape " if isinstance(expected, Array) else ""
            raise SchemaError(
                f"{stream.room} {stream.type}: field {name} {kind}{expected.describe()} is missing"
            )


def _unknown_field(name: str, stream: Stream) -> str:
    allowed = ", ".join(stream.schema)
    return f"{stream.room} {stream.type}: unknown field {name[:40]!r}; allowed are {allowed}"


# entries -> messages


def decode(entry: str, fields: Sequence[bytes], stream: Stream) -> Message:
    """Return the message of a stream entry. Raises DecodeError or SchemaError."""
    if len(fields) > 2 * MAX_FIELDS:
        raise DecodeError(
            f"an entry may have {MAX_FIELDS} fields at most, got {len(fields) // 2}: "
            f"m holds everything but arrays"
        )
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    text = pairs.get(b"m")
    if text is None:
        names = ", ".join(name.decode(errors="replace")[:40] for name in list(pairs)[:8])
        raise DecodeError(f"expected a field m with the message as JSON, got the fields {names}")
    if (size := sum(map(len, fields))) > MAX_MESSAGE_BYTES:
        raise DecodeError(f"a message may have {MAX_MESSAGE_BYTES} bytes at most, got {size}")
    return from_body(parse_body(text, exact=not stream.schema), stream, pairs, entry)


def parse_body(text: bytes, *, exact: bool = True) -> dict[str, Any]:
    """Return `m` as a dict. Raises DecodeError if it is not a JSON object, or too long to parse.

    exact: keep numbers that only `exact_json` keeps; a schema allows none of them.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise DecodeError(
            f"the JSON of a message may have {MAX_TEXT_BYTES} bytes at most, got {len(text)}: "
            f"large arrays belong into fields of their own"
        )
    return _parsed(text, exact)


def _parsed(text: bytes, exact: bool = True) -> dict[str, Any]:
    try:
        body = exact_json.loads(text) if exact else orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DecodeError(not_json(error), text) from error
    if not isinstance(body, dict):
        raise DecodeError(f"expected a JSON object, got {type(body).__name__}", text)
    return body


def not_json(error: orjson.JSONDecodeError) -> str:
    """Return why a text is not JSON."""
    if "depth limit" in str(error) or "recursion limit" in str(error):
        return f"not JSON: expected at most {MAX_DEPTH} lists in each other, got more: flatten it"
    return f"not JSON: {error}"


def from_body(
    body: dict[str, Any], stream: Stream, raw: Mapping[bytes, bytes], entry: str = ""
) -> Message:
    """Return the message of a parsed body, checked against the schema of its stream."""
    body = _understood(body)
    type_ = body.get("TYPE")
    if type_ != stream.type:
        type_ = _text(body, "TYPE")
        raise DecodeError(f"TYPE {type_!r} does not belong in the stream of {stream.type}")
    given = body.get("MODEL_STATUS", 1)
    status = _STATUS.get(given) if type(given) is int else None
    if status is None:
        raise DecodeError(
            f"MODEL_STATUS: expected 1 (train), 2 (validate) or 3 (differentiate), got "
            f"{format_value(given)}"
        )
    checked = {}
    for name, value in body.items():
        if name not in ENVELOPE:
            checked[name] = _decoded(name, value, stream, raw)
    _require(checked, stream)
    guest = raw.get(b"GUEST")
    return Message(
        stream.room.name,
        type_,
        _text(body, "ID"),
        _text(body, "ROOT_ID"),
        checked.pop("DATA", None),
        status,
        _text(body, "SENT_BY", optional=True),
        _text(body, "TO", optional=True),
        checked,
        entry,
        seed_in(body, raw),
        None if guest is None else from_text(guest),
    )


def seed_in(body: Body, raw: Mapping[bytes, bytes]) -> int | None:
    """Return SEED: the number in a body, or else the text in an entry field of its own.

    Raises DecodeError if it is not a number from 0 to 2**63 - 1.
    """
    seed = body.get("SEED")
    text = raw.get(b"SEED")
    if seed is None and text is not None:
        seed = int(text) if text.isdigit() and len(text) <= SEED_DIGITS else text
    if seed is not None and not _is_seed(seed):
        raise DecodeError(_wrong_seed(seed))
    return seed


def _is_seed(value: Any) -> bool:
    return (
        isinstance(value, int | np.integer)
        and type(value) is not bool
        and 0 <= int(value) <= MAX_SEED
    )


def _wrong_seed(value: object) -> str:
    return f"SEED: expected a whole number from 0 to 2**63 - 1, got {format_value(value)}"


def _understood(body: Body) -> Body:
    """Return a body of any known version as the code here reads it."""
    version = body.get("v", 1)
    known = FORMATS.versions.get(version) if type(version) is int else None
    if known is None:
        raise DecodeError(
            f"format version {format_value(version)}: this release reads "
            f"{', '.join(map(str, FORMATS.versions))}; update all components to a release that "
            f"reads more, then put the message back by `roomgrad dead requeue`"
        )
    return known.read(body) if known.read else body


def _text(body: Mapping[str, Any], name: str, *, optional: bool = False) -> str:
    value = body.get(name)
    if isinstance(value, str) and 0 < len(value) <= 128:
        return value
    if optional and value in (None, ""):
        return ""
    raise DecodeError(f"{name}: expected a text of 1 to 128 characters, got {format_value(value)}")


def _decoded(name: str, value: Any, stream: Stream, raw: Mapping[bytes, bytes]) -> Any:
    schema = stream.schema.get(name)
    if schema is None:
        if stream.schema:
            raise SchemaError(_unknown_field(name, stream))
        return value
    if isinstance(value, dict) and isinstance(schema, Array):
        value = _raw_array(name, value, raw)
    return schema.check(name, value)


def _raw_array(name: str, value: Mapping[str, Any], raw: Mapping[bytes, bytes]) -> NDArray[Any]:
    spec = value.get("$array")
    if not isinstance(spec, dict):
        raise DecodeError(f"{name}: expected an array, got {format_value(value)}")
    field = spec.get("field", name)
    buffer = raw.get(field.encode()) if isinstance(field, str) else None
    if buffer is None:
        raise DecodeError(f"{name}: the field with its bytes is missing")
    return array_from(name, spec, buffer)


def array_from(name: str, spec: Mapping[str, Any], buffer: bytes | memoryview) -> NDArray[Any]:
    """Return an array of raw little-endian bytes, after every check."""
    dtype, shape, size = _layout(name, spec)
    if size != len(buffer):
        raise DecodeError(
            f"{name}: {dtypes.name_of(dtype)} of shape {tuple(shape)} has {size} bytes, "
            f"got {len(buffer)}"
        )
    if dtype.kind == "b" and any(byte > 1 for byte in set(buffer)):
        raise DecodeError(f"{name}: expected bytes 0 and 1 for {dtype.str}, got {max(buffer)}")
    array: NDArray[Any] = np.ndarray(shape, dtype, buffer)
    return array.copy()


def _layout(name: str, spec: Mapping[str, Any]) -> tuple[dtypes.Dtype, list[int], int]:
    """Return dtype, shape and size in bytes that a spec announces."""
    shape = spec.get("shape")
    dtype = _dtype(name, spec.get("dtype"))
    if isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS:
        size, values = dtype.itemsize, 1
        for length in shape:
            if type(length) is not int or length < 0:
                break
            size *= length
            values *= length or 1
        else:
            if values <= MAX_VALUES:
                return dtype, shape, size
    raise DecodeError(f"{name}: expected a shape, got {format_value(shape)}")


def _dtype(name: str, text: object) -> dtypes.Dtype:
    if isinstance(text, str) and text in dtypes.NAMES:
        return dtypes.from_name(text)
    raise DecodeError(
        f"{name}: expected a dtype among {', '.join(dtypes.NAMES)}, got {format_value(text)}"
    )


# records: the value of one field of a hash


def pack(record: Mapping[str, Any]) -> bytes:
    """Return a record as one value: a line of JSON, then the bytes of its larger arrays."""
    buffers: list[bytes] = []
    at = 0
    body: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, np.ndarray):
            dtype = dtypes.name_of(value.dtype)
            if dtypes.is_masked(value):
                raise SchemaError(f"{name}: expected an array without a mask: fill it by `filled`")
            if dtype not in dtypes.NAMES:
                raise SchemaError(
                    f"{name}: expected a dtype among {', '.join(dtypes.NAMES)}, got {dtype}"
                )
            spec: dict[str, Any] = {"dtype": dtype, "shape": value.shape}
            if value.size <= INLINE_VALUES and dtypes.kind_of(value.dtype) != "f":
                spec["values"] = value.tolist()
            else:
                buffers.append(value.tobytes())
                spec["at"] = at
                at += value.nbytes
            value = {"$array": spec}
        body[name] = value
    return b"\n".join((_dumps(body), b"".join(buffers))) if buffers else _dumps(body)


def head(value: bytes) -> bytes:
    """Return the line of JSON of a value that `pack` made, without its arrays."""
    end = value.find(b"\n")
    return value if end < 0 else value[:end]


def unpack(value: bytes) -> dict[str, Any]:
    """Return the record of a value that `pack` made. Raises DecodeError for anything else."""
    line = head(value)
    raw = memoryview(value)[len(line) + 1 :]
    record = _parsed(line)
    for name, item in record.items():
        if isinstance(item, dict) and isinstance(item.get("$array"), dict):
            record[name] = _packed_array(name, item["$array"], raw)
    return record


def _packed_array(name: str, spec: Mapping[str, Any], raw: memoryview) -> NDArray[Any]:
    if "values" in spec:
        dtype, shape, _ = _layout(name, spec)
        try:
            return np.array(spec["values"], dtype=dtype).reshape(shape)
        except (TypeError, ValueError, OverflowError) as error:
            raise DecodeError(f"{name}: {error}") from error
    at = spec.get("at")
    if type(at) is not int or not 0 <= at <= len(raw):
        raise DecodeError(
            f"{name}: expected an offset into {len(raw)} bytes, got {format_value(at)}"
        )
    _, _, size = _layout(name, spec)
    return array_from(name, spec, raw[at : at + size])
