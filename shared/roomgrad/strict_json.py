"""JSON that people write: an object that has a key twice is an error."""

from __future__ import annotations

import json
from typing import Any

import orjson

from roomgrad import exact_json


def loads(text: bytes | str) -> Any:
    """Return the value of a text.

    Raises orjson.JSONDecodeError, a ValueError, if it is no JSON or an object has a key twice.
    """
    found = exact_json.loads(text)  # which is strict, and knows no NaN
    try:
        json.loads(text, object_pairs_hook=unique)
    except RecursionError as error:
        raise orjson.JSONDecodeError("it is nested too deeply", "", 0) from error
    return found


def expected(error: json.JSONDecodeError) -> str:
    """Return what was expected where an error is: valid JSON, or that and each key once."""
    return "valid JSON" if error.doc else f"valid JSON ({error.msg})"


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, for `json`. Raises json.JSONDecodeError if it has a key twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise orjson.JSONDecodeError(f"the key {key!r} is there twice", "", 0)
        found[key] = value
    return found
