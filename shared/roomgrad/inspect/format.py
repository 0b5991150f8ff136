"""The fields of a message as text for people, whatever they contain."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from roomgrad import codec, display, dtypes
from roomgrad.errors import DecodeError

LONGEST = 400  # characters of one value
VALUES = 6  # of an array
FIELDS = 60  # of a message, and names of a body


def format_fields(pairs: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each field. `m` is split into its names, with arrays in place."""
    raw = dict(pairs)
    body = _body(raw.get(b"m"))
    for name, value in pairs[:FIELDS]:
        if name == b"m" and body is not None:
            yield from _body_lines(body, raw)
        elif name.decode(errors="replace") not in _array_fields(body):
            yield escape_bytes(name), escape_bytes(value)
    if len(pairs) > FIELDS:
        yield "…", f"{len(pairs) - FIELDS} more fields"


def _body(text: bytes | None) -> dict[str, Any] | None:
    try:
        return None if text is None else codec.parse_body(text)
    except DecodeError:
        return None


def _array_fields(body: Mapping[str, Any] | None) -> set[str]:
    """Return the fields of the entry that hold the arrays of a body."""
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
        return format_json(value)
    buffer = raw.get(str(spec.get("field", name)).encode(errors="replace"))
    if buffer is None:
        return f"{format_json(value)}: the field with its bytes is missing"
    try:
        return format_array(codec.array_from(name, spec, buffer))
    except DecodeError as error:
        return f"{printable(str(error))}: {escape_bytes(buffer)}"


def _spec(value: Any) -> Mapping[str, Any] | None:
    spec = value.get("$array") if isinstance(value, dict) else None
    return spec if isinstance(spec, dict) else None


def format_array(array: np.ndarray[Any, Any]) -> str:
    """Return dtype, shape and first values: `<f4 (100, 2): 0.75 42.5 ...`."""
    first = " ".join(str(number) for number in array.flat[:VALUES])
    return (
        f"{dtypes.name_of(array.dtype)} {array.shape}: {first}{' …' if array.size > VALUES else ''}"
    )


def format_json(value: Any) -> str:
    """Return a value as JSON, cut off; NaN and infinity as Python writes them."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return "nested too deeply to be shown"
    return truncate(printable(text), len(text))


def escape_bytes(value: bytes) -> str:
    """Return bytes as in a Python literal, cut off."""
    return truncate(repr(value[:LONGEST])[2:-1], len(value), "bytes")


def truncate(text: str, whole: int, unit: str = "characters") -> str:
    """Return the beginning of a text, and its whole length if it is longer."""
    return text if whole <= LONGEST else f"{text[:LONGEST]}… ({whole:,} {unit})"


def printable(text: str) -> str:
    """Return the beginning of a text, without anything that controls a terminal."""
    return display.printable(text[:2000])


def format_time(us: float) -> str:
    """Return a Unix time in microseconds in this machine's time zone."""
    try:
        return datetime.fromtimestamp(us / 1e6).isoformat(sep=" ", timespec="milliseconds")
    except (OverflowError, OSError, ValueError):  # an entry ID that a program chose itself
        return "an unknown time"
