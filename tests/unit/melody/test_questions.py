"""What a rater may be called, rate and name, before any server is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomgrad.errors import Rejected
from roomgrad_melody.questions import checked_melody, checked_name, checked_rating


@pytest.mark.parametrize("name", ["A", "Ada Lovelace", "Ø" * 40, "名前", "O'Neil-2"])
def test_names_of_people_are_names(name: str) -> None:
    assert checked_name(name) == name


def test_a_name_is_the_same_however_it_was_typed() -> None:
    """Spaces around it do not count, and an accent is one character."""
    assert checked_name("  Zoe\u0308 ") == "Zo\u00eb"


@pytest.mark.parametrize("name", ["", "  ", "x" * 41, "a\nb", "a\x00", "\u202eabc", None, 5, ["x"]])
def test_other_things_are_no_names(name: Any) -> None:
    with pytest.raises(Rejected, match="1 to 40 printable characters, got"):
        checked_name(name)


@pytest.mark.parametrize("rating", [0, 1, 5, None])
def test_ratings_are_whole_numbers_or_null(rating: int | None) -> None:
    assert checked_rating(rating) == rating


@pytest.mark.parametrize("rating", [-1, 6, 2.0, 2.5, True, "3", float("nan"), [1]])
def test_other_ratings_are_refused(rating: Any) -> None:
    """A bool and a float of whole value are no ratings either."""
    with pytest.raises(Rejected, match="whole number from 0 to 5, or null"):
        checked_rating(rating)


@given(st.text(alphabet="01", min_size=128, max_size=128))
def test_a_melody_is_128_characters(melody: str) -> None:
    assert checked_melody(melody) == melody


@pytest.mark.parametrize("melody", ["", "01" * 63, "01" * 65, "2" * 128, "é" * 128, None, 7])
def test_other_melodies_are_refused(melody: Any) -> None:
    with pytest.raises(Rejected, match="expected 128"):
        checked_melody(melody)
