"""The fields of a message as a person reads them, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from roomgrad import codec
from roomgrad.errors import DecodeError

CUT = 400  # characters of one value
VALUES = 6  # of an array
FIELDS = 60  # of a message, and names of a body


def lines(pairs: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """Name and text of each field; `m` is taken apart, and arrays are shown where `m` has them."""
    raw = dict(pairs)
    body = _body(raw.get(b"m"))
    for name, value in pairs[:FIELDS]:
        if name == b"m" and body is not None:
            yield from _body_lines(body, raw)
        elif name.decode(errors="replace") not in _arrays(body):
            yield escaped(name), escaped(value)
    if len(pairs) > FIELDS:
        yield "…", f"{len(pairs) - FIELDS} more fields"


def _body(text: bytes | None) -> dict[str, Any] | None:
    try:
        return None if text is None else codec.parse_body(text)
    except DecodeError:
        return None


def _arrays(body: Mapping[str, Any] | None) -> set[str]:
    """The entry fields that hold the arrays of a body."""
    specs = [_spec(value) for value in (body or {}).values()]
    return {str(spec.get("field")) for spec in specs if spec is not None}


def _body_lines(body: Mapping[str, Any], raw: Mapping[bytes, bytes]) -> Iterator[tuple[str, str]]:
    for name, value in list(body.items())[:FIELDS]:
        yield f"m.{printable(name)}", _value(name, value, raw)
    if len(body) > FIELDS:
        yield "m.…", f"{len(body) - FIELDS} more names"


def _value(name: str, value: Any, raw: Mapping[bytes, bytes]) -> str:
    spec = _spec(value)
    if spec is None:
        return json_text(value)
    buffer = raw.get(str(spec.get("field", name)).encode(errors="replace"))
    if buffer is None:
        return f"{json_text(value)}: the field with its bytes is missing"
    try:
        return described(codec.array_from(name, spec, buffer))
    except DecodeError as error:
        return f"{printable(str(error))}: {escaped(buffer)}"


def _spec(value: Any) -> Mapping[str, Any] | None:
    spec = value.get("$array") if isinstance(value, dict) else None
    return spec if isinstance(spec, dict) else None


def described(array: np.ndarray[Any, Any]) -> str:
    """`<f4 (100, 2): 0.75 42.5 ...`."""
    first = " ".join(str(number) for number in array.flat[:VALUES])
    return f"{array.dtype.str} {array.shape}: {first}{' …' if array.size > VALUES else ''}"


def json_text(value: Any) -> str:
    """A value as JSON, cut."""
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # deeper than orjson writes, though it has read it
        return "nested too deeply to be shown"
    return cut(printable(text), len(text))


def escaped(value: bytes) -> str:
    """Bytes as in a Python literal, cut."""
    return cut(repr(value[:CUT])[2:-1], len(value), "bytes")


def cut(text: str, whole: int, unit: str = "characters") -> str:
    """The beginning of a text, and how much there is."""
    return text if whole <= CUT else f"{text[:CUT]}… ({whole:,} {unit})"


def printable(text: str) -> str:
    """Text that does nothing to a terminal."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text[: CUT * 5])
