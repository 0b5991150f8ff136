"""Inference: tables of wind and target in, the same with shots out."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

import numpy as np
import pytest

from roomgrad.errors import NoAnswer, SettingsError
from roomgrad_trebuchet import table
from roomgrad_trebuchet.shoot import TRAINED, Shots, held_out, outside, shots_of, spread
from roomgrad_trebuchet.trainer.batches import TARGETS, batch


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
        ("wind,target\n1_0,60\n", ["line 2", "column wind", "'1_0'"]),
        ("wind,target\n\u0663,60\n", ["line 2", "column wind"]),
        ('wind,target\n"3,5",60\n', ["line 2", "column wind", "'3,5'"]),
        ("wind;target\n3,5;60\n", ["wind;target", "commas between columns"]),
        ("wind\ttarget\n3\t60\n", ["commas between columns"]),
        ("wind,target,distance_m\n3,60,1\n", ["column distance_m", "rename"]),
        ("wind,wind,target\n3,4,60\n", ["two columns wind"]),
        ("wind,target,note\n3,60,a,b\n", ["line 2", "expected 3 cells", "got 4"]),
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("stdin", [True, False])
def test_a_table_as_excel_writes_it(
    encoding: str, stdin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a byte order mark and CR LF, in a file or through a pipe."""
    text = "wind,target,place\r\n3,60,Köln\r\n\r\n-.5,4.5e1,\r\n"
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    path = tmp_path / "pairs.csv"
    path.write_bytes(mark + text.encode(encoding))
    with path.open(encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdin", file)
        found = table.read("-" if stdin else str(path))
    assert found.columns == ["wind", "target", "place"]
    assert found.rows[0]["place"] == "Köln"
    assert found.pairs.tolist() == [[3, 60], [-0.5, 45]]


def test_columns_of_results_are_those_that_are_written() -> None:
    nothing = np.zeros(1, "<f4")
    shots = Shots(nothing, nothing, nothing, nothing, nothing, np.zeros(1, "|i1"))
    assert tuple(shots.row(0)) == table.RESULTS


def test_a_question_far_outside_of_the_training_is_remarked() -> None:
    """Each value by its own range, which holds what the trainer draws."""
    assert outside(3, 60) == outside(-20, 20) == outside(20, 100) == ""
    assert "wind 30 m/s is outside of -20 to 20 m/s and target 600 m is" in outside(30, 600)
    assert outside(0, 19.5).startswith("target 19.5 m is outside of 20 to 100 m")
    pairs = batch(0, 0, 10_000)
    far = [pair for pair in pairs.tolist() if outside(*pair)]
    assert len(far) < 5
    assert TRAINED["target"][:2] == TARGETS


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    """Bytes of another kind, or no file at all, are an error of the person who typed the name."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(SettingsError, match=r"picture\.png is not a CSV file"):
        table.read(str(path))
    with pytest.raises(SettingsError, match="cannot be read"):
        table.read(str(tmp_path / "nothing.csv"))
