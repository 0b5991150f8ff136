"""Parts of the melody maker's commands that need no server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from roomgrad_melody.commands import evaluation, exporting, importing
from roomgrad_melody.commands.keys import Key, Lines, Terminal
from roomgrad_melody.commands.roll import roll
from roomgrad_melody.formats import Row, as_given
from roomgrad_melody.genome import from_text, random_genomes, text

GENOMES = random_genomes(7, 0, 3)


def test_scores_of_ratings_that_are_always_right() -> None:
    """Sure of them, too."""
    scores = evaluation.scores(np.eye(6), np.arange(6))
    assert (scores.accuracy, scores.mae, scores.ece) == (1.0, 0.0, 0.0)


def test_scores_by_hand() -> None:
    """Two bins: 0.6 with one of two right, 0.9 with none of one; each weighs by its melodies."""
    probs = np.array([[0.6, 0.4, 0, 0, 0, 0], [0.6, 0, 0.4, 0, 0, 0], [0, 0, 0, 0, 0.1, 0.9]])
    scores = evaluation.scores(probs, np.array([0, 2, 4]))
    assert scores.accuracy == pytest.approx(1 / 3)
    assert scores.mae == pytest.approx((0.4 + 1.2 + 0.9) / 3)
    assert scores.ece == pytest.approx(0.1 * 2 / 3 + 0.9 / 3)


def test_the_melodies_of_the_evaluation_are_always_the_same() -> None:
    """Whatever the seed of the run."""
    melodies = evaluation.melodies()
    assert melodies.shape == (2000, 128)
    assert np.array_equal(melodies, evaluation.melodies())


def revision(number: int, rating: int | None) -> dict[str, object]:
    genome = GENOMES[number]
    entry = {"melody": text(genome), "genome": as_given(genome), "rating": rating}
    return {**entry, "rater": "anna", "at": 5.0}


def ratings(rows: list[Row]) -> list[tuple[int, int]]:
    known = [as_given(genome) for genome in GENOMES]
    return [(known.index(as_given(row.genome)), row.rating) for row in rows]


def test_revisions_are_exported_in_their_order() -> None:
    """All of them."""
    log = [revision(0, 3), revision(1, 2), revision(0, 4)]
    assert ratings(exporting.rows(log)) == [(0, 3), (1, 2), (0, 4)]
    assert ratings(exporting.rows(log, latest=True)) == [(1, 2), (0, 4)]


def test_what_was_taken_back_is_not_exported() -> None:
    """Else an import would bring it back."""
    log = [revision(0, 3), revision(1, 2), revision(0, 4), revision(0, None)]
    assert ratings(exporting.rows(log)) == [(1, 2)]
    assert ratings(exporting.rows([*log, revision(0, 5)])) == [(1, 2), (0, 5)]


def test_the_rows_of_an_import_are_sorted_by_what_they_meet() -> None:
    """Of a melody with several rows the last one decides about all."""
    rows = [Row(GENOMES[0], 3), Row(GENOMES[1], 2), Row(GENOMES[0], 4), Row(GENOMES[2], 1)]
    standing = {text(GENOMES[0]): {"rating": 4}, text(GENOMES[2]): {"rating": 0}}
    found = importing.sort(rows, standing, importing.RATINGS)
    assert ratings(found.same) == [(0, 3), (0, 4)]
    assert ratings(found.new) == [(1, 2)]
    assert ratings(found.other) == [(2, 1)]
    assert ratings(importing.chosen_of(rows, found, "keep")) == [(1, 2)]
    assert ratings(importing.chosen_of(rows, found, "replace")) == [(1, 2), (2, 1)]


def test_a_melody_is_drawn_as_a_piano_roll() -> None:
    """Degree 1 at the bottom; a note that goes on is drawn lighter."""
    first = "0000" + "0000" + "1110" + "0001"  # 0, held, 7, rest
    drawn = roll(from_text(first + "0001" * 28)).splitlines()
    assert len(drawn) == 8
    assert drawn[0].startswith("8 │ · ·██ ·│")
    assert drawn[7].startswith("1 │██▓▓ · ·│")
    assert len({len(line) for line in drawn}) == 1


@pytest.fixture
def pipe() -> Iterator[tuple[Lines, int]]:
    reading, writing = os.pipe()
    yield Lines(reading), writing
    os.close(reading)


def test_lines_are_as_good_as_keys(pipe: tuple[Lines, int]) -> None:
    """Blank ones are not looked at, and the end quits."""
    lines, writing = pipe
    assert lines.next(0.0) is None
    os.write(writing, b"3\n\n s \nu")
    assert [lines.next(0.0), lines.next(0.0), lines.next(0.0)] == [Key("3"), Key("s"), None]
    os.close(writing)
    assert lines.next(0.0) == Key("u")
    assert lines.next(0.0) is not None
    assert lines.next(0.0).quits  # type: ignore[union-attr]


def test_a_line_that_comes_too_early_waits_for_its_question(pipe: tuple[Lines, int]) -> None:
    """While nothing is asked, only what needs no question is read."""
    lines, writing = pipe
    os.write(writing, b"u\n4\nq\n")
    assert lines.next_of("u", 0.0) == Key("u")
    assert lines.next_of("u", 0.0) is None
    assert lines.next_of("u", 0.0) is None
    assert lines.next(0.0) == Key("4")
    assert lines.next_of("u", 0.0) == Key("q")
    os.close(writing)


@pytest.mark.parametrize("digit", ["4", "٤", "۴", "४", "４"])
def test_a_digit_of_any_script_rates(pipe: tuple[Lines, int], digit: str) -> None:
    lines, writing = pipe
    os.write(writing, f"{digit}\n".encode())
    assert lines.next(0.0) == Key("4")


def test_keys_of_a_terminal_count_one_by_one() -> None:
    """However fast they are pressed; an arrow is one key, and none that quits."""
    reading, writing = os.pipe()
    keys = Terminal(reading)
    os.write(writing, "3U٤".encode())
    assert [keys.next(0.0) for _ in range(4)] == [Key("3"), Key("u"), Key("4"), None]
    os.write(writing, b"\x1b[A")
    arrow = keys.next(0.0)
    assert arrow is not None
    assert not arrow.quits
    os.write(writing, b"\x1b")
    assert keys.next_of("u", 0.0) == Key("\x1b")
    os.close(writing)
    assert keys.next(0.0) == Key("q")
    os.close(reading)
