"""JSON that keeps every number: NaN, infinity, and integers of more than 64 bits.

JSON has no NaN and no infinity; they are written as `{"$float": "nan"}`, `"inf"` or `"-inf"`. For
readers that do not know this, `dumps` writes null in their place. Everything else is the work of
orjson.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from roomgrad import dtypes

MARK = "$float"
LEFT = ("64-bit", "endianness")  # in the errors of orjson for what the module `json` can write
_MARKED = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

# Each byte as its kind: what may stand before a number, a digit, or anything else. In these, one
# search finds integers that may have more than 64 bits, which orjson reads as rounded floats. It
# takes a tenth of the time of a regular expression.
_KINDS = bytes(
    b","[0] if each in b"[:,- \t\r\n" else b"0"[0] if each in b"0123456789" else b"x"[0]
    for each in range(256)
)
_LONG = b"," + 19 * b"0"


def dumps(value: Any, *, nulls: bool = False, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return a value as JSON.

    nulls: write null for NaN and infinity. default: converts what has no form in JSON. Arrays of
        numbers are lists, whatever their dtype, byte order and layout in memory.

    Raises TypeError if something has no form in JSON.
    """
    default = _with_arrays(default)
    try:
        text = orjson.dumps(value, default, orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        if not any(reason in str(error) for reason in LEFT):
            raise
        return _dumps_long(_plain(value, nulls), default)
    if nulls or b"null" not in text:  # which orjson writes for None, NaN and infinity
        return text
    return orjson.dumps(_plain(value, nulls), default, orjson.OPT_SERIALIZE_NUMPY)


def loads(text: bytes | str) -> Any:
    """Return the value of a text. Raises orjson.JSONDecodeError, a ValueError."""
    found = orjson.loads(text)
    data = text.encode() if isinstance(text, str) else text
    if _LONG in data.translate(_KINDS):
        found = _loads_long(data)
    return _unmarked(found) if b'"$float"' in data else found


def _with_arrays(default: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Return a `default` that converts the arrays which orjson leaves to it, too."""

    def converted(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic) and dtypes.is_number(value.dtype):
            return value.tolist()
        if default is None:
            of_dtype = f" of {value.dtype}" if isinstance(value, np.ndarray) else ""
            raise TypeError(f"{type(value).__name__}{of_dtype} has no form in JSON")
        return default(value)

    return converted


def _dumps_long(value: Any, default: Callable[[Any], Any]) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=default)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"a text is not valid UTF-8: {error.reason}") from error


def _loads_long(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError as error:
        raise orjson.JSONDecodeError("recursion limit reached", "", 0) from error
    except ValueError as error:  # more digits than Python converts
        raise orjson.JSONDecodeError(str(error), "", 0) from error


def _plain(value: Any, nulls: bool) -> Any:
    """Return a value with NaN and infinity replaced, and without objects of numpy."""
    if isinstance(value, np.ndarray | np.generic) and dtypes.is_number(value.dtype):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None if nulls else {MARK: str(value)}
    if isinstance(value, dict):
        return {_key(name): _plain(item, nulls) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, nulls) for item in value]
    return value


def _key(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name {name!r} of a field is not a text")
    return name


def _unmarked(found: Any) -> Any:
    """Return a value with the numbers that `{"$float": ...}` stands for, however deep it is."""
    root = [found]
    holders: list[Any] = [root]
    while holders:
        holder = holders.pop()
        for at, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(value, dict) and len(value) == 1 and _is_marked(value.get(MARK)):
                holder[at] = _MARKED[value[MARK]]
            elif isinstance(value, dict | list):
                holders.append(value)
    return root[0]


def _is_marked(word: object) -> bool:
    return isinstance(word, str) and word in _MARKED
