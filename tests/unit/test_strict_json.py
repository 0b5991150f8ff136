"""JSON of people: a key that is there twice is an error."""

from __future__ import annotations

import orjson
import pytest

from roomgrad import strict_json
from roomgrad.cli.draft import Draft
from roomgrad.errors import SettingsError
from roomgrad_melody.formats import read
from roomgrad_trebuchet.contract import TREBUCHET


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "\\u0061": 2}}]'])
def test_a_key_that_is_there_twice_is_an_error(text: str) -> None:
    with pytest.raises(orjson.JSONDecodeError, match="the key 'a' is there twice"):
        strict_json.loads(text)


@pytest.mark.parametrize("text", ["NaN", "[1,]", "[" * 2000 + "]" * 2000])
def test_what_is_no_json_is_an_error(text: str) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        strict_json.loads(text)


def test_equal_keys_of_several_objects_are_read() -> None:
    assert strict_json.loads(b'[{"a": 1}, {"a": {"a": 2.5}}]') == [{"a": 1}, {"a": {"a": 2.5}}]


def test_a_typed_message_with_a_field_twice_is_refused() -> None:
    """The first value would be dropped without a word."""
    draft = Draft("input", "", '{"DATA": [[1, 60]], "DATA": [[2, 60]]}', "", "validate")
    with pytest.raises(SettingsError, match="the key 'DATA' is there twice"):
        draft.message(TREBUCHET)


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_labels_with_a_key_twice_are_refused(format: str) -> None:
    text = '{"genome": "01", "rating": 1, "rating": 5}'
    result = read(text.encode() if format == "jsonl" else f"[{text}]".encode(), format)
    assert not result.rows
    assert "the key 'rating' is there twice" in str(result.problems[0])
