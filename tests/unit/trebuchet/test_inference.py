"""Inference: tables of wind and target in, the same with shots out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from roomgrad.errors import NoAnswer, SettingsError
from roomgrad_trebuchet import table
from roomgrad_trebuchet.shoot import Shots, held_out, shots_of, spread


def test_held_out_pairs_are_always_the_same() -> None:
    """Two trainings are compared on the same shots."""
    pairs = held_out()
    assert pairs.shape == (1000, 2)
    assert pairs.dtype == np.float32
    assert np.array_equal(pairs, held_out())
    assert (pairs[:, 1] >= 20).all()
    assert (pairs[:, 1] <= 100).all()


def test_a_spread_of_pairs_covers_near_and_far_targets() -> None:
    """The few shots that are shown are not all of one kind."""
    targets = spread(held_out(), 8)[:, 1]
    assert (np.diff(targets) > 5).all()


def test_an_answer_that_says_too_little_is_refused() -> None:
    """A simulator of another make may answer the distance alone."""
    pairs = held_out(2)
    with pytest.raises(NoAnswer, match="no WEIGHT, STATUS"):
        shots_of(pairs, pairs[:, 1], {"ANGLE": pairs[:, 0]})


def test_a_table_keeps_its_columns_and_gains_the_results(tmp_path: Path) -> None:
    """Whoever brings a table finds his rows again."""
    path = tmp_path / "pairs.csv"
    path.write_text("name,wind,target\nfirst,3,60\nsecond, -1.5,30\n", encoding="utf-8-sig")
    given = table.read(str(path))
    assert given.pairs.tolist() == [[3.0, 60.0], [-1.5, 30.0]]
    column = np.array([1.0, 2.0], dtype=np.float32)
    shots = Shots(
        given.pairs[:, 0], given.pairs[:, 1], column, column, column, np.zeros(2, np.int8)
    )
    out = io.StringIO()
    table.write(given, [shots], out)
    assert out.getvalue().splitlines() == [
        "name,wind,target,angle_deg,weight_kg,distance_m,miss_m,status",
        "first,3,60,1.0,1.0,1.0,59.0,0",
        "second,-1.5,30,2.0,2.0,2.0,28.0,0",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wind,target\n3,60\n1,nan\n", ["line 3", "column target", "'nan'"]),
        ("wind,target\ninf,60\n", ["line 2", "column wind", "'inf'"]),
        ("wind,target\n3,far\n", ["line 2", "column target", "'far'"]),
        ("wind,target\n3\n", ["line 2", "column target", "empty"]),
        ("wind,target\n1e300,60\n", ["line 2", "column wind", "'1e300'"]),
        ("wind,aim\n3,60\n", ["no column target", "wind, aim"]),
        ("wind,target\n", ["no rows"]),
        ("", ["no column wind", "no column target"]),
    ],
)
def test_a_bad_table_is_refused_with_line_and_column(
    text: str, said: list[str], tmp_path: Path
) -> None:
    """Nothing that is not a finite number reaches the rooms."""
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        table.read(str(path))
    assert all(word in str(caught.value) for word in said), caught.value


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    """Bytes of another kind, or no file at all, are an error of the person who typed the name."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(SettingsError, match=r"picture\.png is not a CSV file"):
        table.read(str(path))
    with pytest.raises(SettingsError, match="cannot be read"):
        table.read(str(tmp_path / "nothing.csv"))
