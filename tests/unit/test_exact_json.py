"""Numbers that JSON has no form for, and integers that orjson rounds."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomgrad import exact_json
from roomgrad.dtypes import from_name

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("abc$0,1: -", max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(ANY)
def test_what_was_written_is_read(value: Any) -> None:
    """`repr` tells NaN from null, 1 from 1.0, and every digit."""
    assert repr(exact_json.loads(exact_json.dumps(value))) == repr(value)


@given(ANY)
def test_others_read_json(value: Any) -> None:
    """With null for NaN and infinity, and integers of any size."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    json.loads(exact_json.dumps(value, nulls=True), parse_constant=refuse)


@pytest.mark.parametrize("digits", [18, 19, 20, 30, 300])
@pytest.mark.parametrize("text", ["[{}]", '{{"a": {}, "b": 1}}', "[1,-{} ]", "[[1,\n{}\n]]"])
def test_integers_keep_every_digit(digits: int, text: str) -> None:
    text = text.format("9" * digits)
    assert exact_json.loads(text) == json.loads(text)
    assert exact_json.loads(text.encode()) == json.loads(text)


def test_digits_in_a_text_are_no_integer() -> None:
    text = '{"a": "' + 128 * "01" + '", "b": "x,' + 40 * "9" + '"}'
    assert exact_json.loads(text) == json.loads(text)


@pytest.mark.parametrize("kind", ["<f4", "<f8", "<f2", "bfloat16"])
def test_numbers_of_numpy_come_back_as_they_are_printed(kind: str) -> None:
    """Single ones and those in arrays, which are lists afterwards, as they always were."""
    value = {
        "one": from_name(kind).type("nan"),
        "all": np.array([1, np.inf, -np.inf], from_name(kind)),
    }
    found = exact_json.loads(exact_json.dumps(value))
    assert math.isnan(found["one"])
    assert found["all"] == [1.0, math.inf, -math.inf]


@pytest.mark.parametrize(
    "value", [{"a": 2**70, 1: 2}, [2**70, object()], [2**70, "\ud800"], [math.nan, {1: None}]]
)
def test_what_has_no_form_in_json_is_refused(value: Any) -> None:
    """Also beside what orjson does not write."""
    with pytest.raises(TypeError):
        exact_json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "[NaN]",
        "[Infinity]",
        '{"$float": "nan"',
        "[" + 5000 * "9" + "]",
        1000 * "[" + 30 * "9" + 1000 * "]",
        b'"\xff"',
    ],
)
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    """And what Python cannot hold."""
    try:
        exact_json.loads(text)
    except orjson.JSONDecodeError:
        return
    assert text[0] == "["  # deep lists are read, or refused


def test_marks_are_found_at_any_depth() -> None:
    text = 900 * "[" + '{"$float": "-inf"}' + 900 * "]"
    found = exact_json.loads(text)
    for _ in range(900):
        (found,) = found
    assert found == -math.inf


@pytest.mark.parametrize("mark", ["1", [], None, {"$float": "x"}])
def test_other_objects_of_that_name_stay(mark: Any) -> None:
    value = {"$float": mark}
    assert exact_json.loads(json.dumps(value)) == value
