"""Files of labels: what they hold comes back to the byte, and what is wrong becomes a sentence."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roomgrad.errors import FormatError, RoomgradError
from roomgrad_melody import formats, label_studio, rows
from roomgrad_melody.formats import FORMATS, Result, Row, as_given, read, write

ZEROS = "0" * 128
GENOME = "0011" + "01" * 62  # beginning with a rest, of which the silent bits are 001
BITS = tuple(map(int, GENOME))


def row(text: str = GENOME, rating: int = 3, rater: str = "", at: float | None = None) -> Row:
    return Row(np.array(list(text), dtype=np.uint8), rating, rater, at)


def told(result: Result) -> list[tuple[str, int, str, float | None]]:
    return [(as_given(each.genome), each.rating, each.rater, each.at) for each in result.rows]


def sentences(result: Result) -> list[str]:
    return [str(problem) for problem in result.problems]


def tutorial(*labels: tuple[tuple[int, ...], int]) -> str:
    """A file as the tutorial writes it."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(labels)
    return file.getvalue()


genomes = st.lists(st.sampled_from("01"), min_size=128, max_size=128).map("".join)
some_rows = st.lists(
    st.builds(
        row,
        genomes,
        st.integers(0, 5),
        st.sampled_from(["", "anna", "7", "007", "a@b.org", "9" * 128, "٣", "é 😀"]),
        st.none() | st.floats(0, 1e11),
    ),
    max_size=5,
)


# back and forth


@given(st.lists(st.tuples(genomes, st.integers(0, 5)), max_size=5))
def test_csv_of_the_tutorial_comes_back_to_the_byte(labels: list[tuple[str, int]]) -> None:
    text = tutorial(*((tuple(map(int, genome)), rating) for genome, rating in labels))
    result = read(text, "csv")
    assert not result.problems
    assert [(as_given(each.genome), each.rating) for each in result.rows] == labels
    assert write(result.rows, "csv") == text


@pytest.mark.parametrize("format", ["jsonl", "json"])
@given(some_rows)
def test_json_comes_back_to_the_byte(format: str, given_rows: list[Row]) -> None:
    text = write(given_rows, format)
    result = read(text, format)
    assert not result.problems
    assert write(result.rows, format) == text
    for before, after in zip(given_rows, result.rows, strict=True):
        assert (before.genome == after.genome).all()
        assert (before.rating, before.rater) == (after.rating, after.rater)
        if format == "jsonl" or before.at is None or after.at is None:
            assert before.at == after.at
        else:
            assert before.at == pytest.approx(after.at, abs=2e-5)  # doubles of 1e11 are so coarse


@pytest.mark.parametrize("format", FORMATS)
def test_revisions_stay_in_order(format: str) -> None:
    """Also where the same sound was given with other silent bits."""
    sounds_the_same = "1101" + GENOME[4:]
    given_rows = [row(rating=1), row(rating=5), row(sounds_the_same, 2), row(rating=0)]
    result = read(write(given_rows, format), format)
    assert [each.rating for each in result.rows] == [1, 5, 2, 0]
    assert [as_given(each.genome) for each in result.rows] == [
        GENOME,
        GENOME,
        sounds_the_same,
        GENOME,
    ]


def test_rows_say_their_lines() -> None:
    text = tutorial((BITS, 3), (BITS, 4))
    assert [each.line for each in read("\n" + text, "csv").rows] == [2, 3]
    tasks = write([row(ZEROS), row(), row(rating=4)], "json")
    assert [each.line for each in read(tasks, "json").rows] == [2, 3, 3]
    indented = json.dumps(json.loads(tasks), indent=2)
    lines = [each.line for each in read(indented, "json").rows]
    assert [indented.split("\n")[line - 1].strip() for line in lines] == ["{", "{", "{"]
    assert lines[0] == 2 < lines[1] == lines[2]


@pytest.mark.parametrize("format", FORMATS)
def test_other_ends_of_lines_and_a_mark_are_read(format: str) -> None:
    plain = write([row(), row(ZEROS, 5)], format)
    for text in (
        plain.replace("\n", "\r\n"),
        plain.removesuffix("\n"),
        "\ufeff" + plain,
        plain + "\n \n",
    ):
        result = read(text, format)
        assert not result.problems
        assert write(result.rows, format) == plain


@pytest.mark.parametrize("format", FORMATS)
def test_no_labels(format: str) -> None:
    text = write([], format)
    assert read(text, format) == Result()
    assert text == ("[]\n" if format == "json" else "")


def test_what_csv_has_no_room_for_is_left_out() -> None:
    assert write([row(rater="anna", at=5.0)], "csv") == tutorial((BITS, 3))


# files


@pytest.mark.parametrize("name", ["labels.csv", "labels.JSONL", "a.csv.json"])
def test_the_name_says_the_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(write([row()], name.rpartition(".")[2].lower()))
    assert told(read(path)) == told(read(path.read_bytes(), formats.format_of(path)))
    assert len(read(path).rows) == 1


@pytest.mark.parametrize("name", ["labels.txt", "labels", ".csv", "labels.csv.gz"])
def test_a_name_that_says_no_format(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match=r"ends with one of \.csv, \.jsonl, \.json"):
        read(tmp_path / name)
    (tmp_path / name).write_text(tutorial((BITS, 3)))
    assert len(read(tmp_path / name, "csv").rows) == 1


def test_an_unknown_format() -> None:
    for use in (lambda: read("", "xml"), lambda: write([], "xml")):
        with pytest.raises(FormatError, match="'xml'; expected one of csv, jsonl, json"):
            use()
    with pytest.raises(RoomgradError, match="format of the text, one of csv, jsonl, json"):
        read("")


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"none\.csv cannot be read: No such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(FormatError, match="directory"):
        read(tmp_path, "csv")
    with pytest.raises(FormatError, match="null"):
        read(tmp_path / "nu\0ll.csv")


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tutorial((BITS, 3))
    path = tmp_path / "labels.csv"
    path.write_text(text)
    monkeypatch.setattr(formats, "MAX_BYTES", len(text))
    assert len(read(path).rows) == 1
    path.write_text(text + "\n")
    with pytest.raises(FormatError, match="split the file"):
        read(path)
    with pytest.raises(FormatError, match="split the file"):
        read(text + "\n", "csv")
    assert FORMATS == ("csv", "jsonl", "json")


def test_the_limit_is_64_mib() -> None:
    assert formats.MAX_BYTES == 64 * 2**20


def test_json_of_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    text = write([row()], "json")
    monkeypatch.setattr(label_studio, "MAX_VALUES", sum(map(text.count, ",[{")))
    assert len(read(text, "json").rows) == 1
    with pytest.raises(FormatError, match="values of JSON: split the file"):
        read(text + ",", "json")


def test_problems_are_counted_where_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_PROBLEMS", 2)
    result = read("x\n" * 5 + tutorial((BITS, 3)), "csv")
    assert (len(result.problems), result.more, len(result.rows)) == (2, 3, 1)


# what is wrong in a line of csv

CSV = tutorial((BITS, 3)).removesuffix("\n")


@pytest.mark.parametrize(
    ("line", "column", "expected", "value"),
    [
        ("genome,rating", 1, 'the melody, beginning with "(', "'genome,rating'"),
        (CSV[1:-3] + ",3", 1, 'the melody, beginning with "(', None),
        (CSV.replace('"', "'"), 1, 'the melody, beginning with "(', None),
        (" " + CSV, 1, 'the melody, beginning with "(', None),
        (CSV[:-3], 386, 'the end of the melody, )"', "the end of the line"),
        ('"(', 3, 'the end of the melody, )"', "the end of the line"),
        ('"()",3', 3, "0 or 1 as value 1 of the melody", "''"),
        ('"(0)",3', 3, "the 128 values of a melody", "1 value"),
        (CSV.replace("(0, ", "("), 3, "the 128 values of a melody", "127 values"),
        (CSV.replace("(0, ", "(0, 0, "), 3, "the 128 values of a melody", "129 values"),
        (CSV.replace("(0, 0, ", "(0, 2, "), 6, "0 or 1 as value 2 of the melody", "'2'"),
        (CSV.replace("(0, 0, ", "(0, 0.0, "), 6, "0 or 1 as value 2 of the melody", "'0.0'"),
        (CSV.replace("(0, 0, ", "(0,0, "), 3, "0 or 1 as value 1 of the melody", "'0,0'"),
        (CSV.replace("(0, 0, ", "(0, -1, "), 6, "0 or 1 as value 2 of the melody", "'-1'"),
        (CSV.replace("(0, 0, ", "(0, ١, "), 6, "0 or 1 as value 2 of the melody", "'١'"),
        (CSV.replace("(0, 0, ", "(0, \0, "), 6, "0 or 1 as value 2 of the melody", r"'\x00'"),
        (
            CSV.replace("1)", "__import__('os'))"),
            384,
            "0 or 1 as value 128",
            "\"__import__('os')\"",
        ),
        (CSV[:-2], 387, "a comma and the rating", "the end of the line"),
        (CSV[:-2] + ";3", 387, "a comma and the rating", "';3'"),
        (CSV[:-1], 388, "a whole number from 0 to 5", "the end of the line"),
        *(
            (CSV[:-1] + rating, 388, "a whole number from 0 to 5", repr(rating))
            for rating in ("6", "-1", "3.5", "3.0", "3 ", " 3", "NaN", "1e400", "03", "٣", "3,4")
        ),
        (CSV + " " * 10_000, 10_001, "a line of at most 10000 bytes", "10388 bytes"),
        (CSV[:-1] + "\ud800", 388, "UTF-8 text", "the byte 0xed"),
        ("é\ud800", 2, "UTF-8 text", "the byte 0xed"),
    ],
)
def test_a_line_of_csv_that_is_wrong(
    line: str, column: int, expected: str, value: str | None
) -> None:
    good = tutorial((BITS, 4))
    result = read(f"{good}{line}\n{good}", "csv")
    assert [each.line for each in result.rows] == [1, 3]
    (problem,) = result.problems
    assert (problem.line, problem.column) == (2, column)
    assert problem.expected.startswith(expected)
    assert value is None or problem.value == value
    assert str(problem) == (
        f"line 2, column {column}: expected {problem.expected}, got {problem.value}"
    )


# what is wrong in a line of jsonl

NO_RATING = "a whole number from 0 to 5 as rating"
NO_GENOME = "the melody as a text of 128 characters 0 and 1"
NO_RATER = "the rater as a text of up to 128 printable characters"
NO_TIME = "the time as seconds since 1970"


def jsonl(**fields: Any) -> str:
    body = {"genome": GENOME, "rating": 3} | fields
    return json.dumps({name: value for name, value in body.items() if value is not ...})


@pytest.mark.parametrize(
    ("line", "column", "expected", "value"),
    [
        ("3", 1, 'an object with "genome" and "rating"', "3"),
        ("[]", 1, 'an object with "genome" and "rating"', "a list"),
        ("null", 1, 'an object with "genome" and "rating"', "null"),
        (jsonl()[:-1], 155, "valid JSON", "the end of the line"),
        (jsonl().replace("3", "é"), 154, "valid JSON", "'é}'"),
        (jsonl().replace("3", "NaN"), 154, "valid JSON", "'NaN}'"),
        (jsonl().replace("3", "1e400"), 154, "valid JSON", "'1e400}'"),
        (jsonl().replace("3", "\0"), 154, "valid JSON", r"'\x00}'"),
        (jsonl() + "x", 156, "valid JSON", "'x'"),
        ("[" * 9000, 1026, "valid JSON", repr("[" * 40) + "..."),
        (
            jsonl(rating="é").encode().replace(b"\\u00e9", b"\xe9"),
            155,
            "UTF-8 text",
            "the byte 0xe9",
        ),
        (
            jsonl(x="y" * 10_000),
            10_001,
            "a line of at most 10000 bytes",
            f"{len(jsonl(x='')) + 10_000} bytes",
        ),
        (jsonl(genome=...), 1, NO_GENOME, "nothing"),
        (jsonl(genome=None), 12, NO_GENOME, "null"),
        (jsonl(genome=[0] * 128), 12, NO_GENOME, "a list"),
        (jsonl(genome=GENOME[1:]), 12, NO_GENOME, "127 characters"),
        (jsonl(genome=""), 12, NO_GENOME, "0 characters"),
        (jsonl(genome="00x" + GENOME[3:]), 12, NO_GENOME, "'x' as character 3"),
        (jsonl(genome=ZEROS[1:] + "١"), 12, NO_GENOME, "'١' as character 128"),
        (jsonl(rating=...), 1, NO_RATING, "nothing"),
        (jsonl(rating=None), 154, NO_RATING, "null"),
        (jsonl(rating=True), 154, NO_RATING, "true"),
        (jsonl(rating="3 "), 154, NO_RATING, "'3 '"),
        (jsonl(rating=3.5), 154, NO_RATING, "3.5"),
        (jsonl(rating=-1), 154, NO_RATING, "-1"),
        (jsonl(rating=6), 154, NO_RATING, "6"),
        (jsonl(rating=10**60), 154, NO_RATING, "1" + 39 * "0" + "..."),
        (jsonl(rating={"rating": 3}), 1, NO_RATING, "an object"),
        (jsonl(rater=7), 166, NO_RATER, "7"),
        (jsonl(rater="a" * 129), 166, NO_RATER, repr("a" * 40) + "..."),
        (jsonl(rater="a\0"), 166, NO_RATER, r"'a\x00'"),
        (jsonl(rater="\ud800"), 167, "valid JSON", None),
        (jsonl(at="2026"), 163, NO_TIME, "'2026'"),
        (jsonl(at=False), 163, NO_TIME, "false"),
        (jsonl(at=-1), 163, NO_TIME, "-1"),
        (jsonl(at=1e300), 163, NO_TIME, "1e+300"),
    ],
)
def test_a_line_of_jsonl_that_is_wrong(
    line: str | bytes, column: int, expected: str, value: str | None
) -> None:
    middle = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
    good = jsonl().encode()
    result = read(b"\n".join((good, middle, good)), "jsonl")
    assert [each.line for each in result.rows] == [1, 3]
    (problem,) = result.problems
    assert (problem.line, problem.column, problem.expected) == (2, column, expected)
    assert value is None or problem.value == value


def test_fields_of_jsonl_that_may_be_missing_and_others() -> None:
    lines = (jsonl(), jsonl(rater=None, at=None, rating=5), jsonl(rater="anna", at=7, x=[1]))
    assert told(read("\n".join(lines), "jsonl")) == [
        (GENOME, 3, "", None),
        (GENOME, 5, "", None),
        (GENOME, 3, "anna", 7.0),
    ]


# Label Studio


def annotation(rating: Any = 3, type: str = "rating", **others: Any) -> dict[str, Any]:
    """As Label Studio exports one."""
    result = {
        "id": "Qx12",
        "from_name": "rating",
        "to_name": "sound",
        "origin": "manual",
        "type": type,
        "value": {type: rating},
    }
    return {"id": 12, "was_cancelled": False, "lead_time": 4.2, "result": [result]} | others


def task(*annotations: Any, **others: Any) -> dict[str, Any]:
    data = {"genome": GENOME, "audio": "https://example.org/1.wav"}
    return {"id": 1, "data": data, "annotations": list(annotations), "predictions": []} | others


def test_an_export_of_label_studio() -> None:
    choice = {"from_name": "c", "to_name": "sound", "type": "choices", "value": {"choices": ["x"]}}
    both = annotation(4)
    both["result"].insert(0, choice)
    tasks = [
        task(
            annotation(3, completed_by=10, created_at="1970-01-01T00:00:05.500000Z"),
            annotation(
                5,
                completed_by={"id": 2, "email": "b@example.org", "first_name": ""},
                created_at="1970-01-01T00:00:05Z",
                updated_at="1970-01-01T02:00:09+02:00",
            ),
            annotation(1, was_cancelled=True),
        ),
        task(predictions=[annotation(2)], drafts=[annotation(2)]),
        task(both, annotation(0, "number", completed_by={"id": 2, "email": ""})),
        task(annotation(0, created_at="1970-01-01T00:01:00", completed_by=None)),
    ]
    result = read(json.dumps(tasks, indent=1), "json")
    assert not result.problems
    assert told(result) == [
        (GENOME, 3, "10", 5.5),
        (GENOME, 5, "b@example.org", 9.0),
        (GENOME, 4, "", None),
        (GENOME, 0, "2", None),
        (GENOME, 0, "", 60.0),
    ]


def other_tag(rating: int, name: str, type: str = "number") -> dict[str, Any]:
    """The result of another tag of the labelling interface."""
    return annotation(rating, type)["result"][0] | {"from_name": name}


def test_other_tags_than_the_rating_are_none() -> None:
    """Beside it they are ignored; without it, as 0 stars are not exported, nothing is imported."""
    both = annotation(3)
    both["result"] += [other_tag(5, "confidence"), other_tag(4, "difficulty", "rating")]
    alone = annotation(result=[other_tag(5, "confidence"), other_tag(4, "difficulty", "rating")])
    unnamed = annotation(2)
    del unnamed["result"][0]["from_name"]
    result = read(json.dumps([task(both), task(alone), task(unnamed)]), "json")
    assert [each.rating for each in result.rows] == [3, 2]
    (problem,) = result.problems
    assert problem.expected == NO_ONE + OF_TASK
    assert problem.value == "0 ratings and results of the tags 'confidence', 'difficulty'"


def test_other_forms_of_an_export() -> None:
    """One task, several one a line, an annotation with its task inside, and JSON-MIN."""
    of = {"completed_by": 7, "updated_at": "1970-01-01T00:00:09Z"}
    inside = annotation(4, **of, task={"id": 1, "data": {"genome": GENOME}})
    small = {"id": 1, "genome": GENOME, "rating": 4, "annotator": 7, "annotation_id": 3}
    small |= {"updated_at": "1970-01-01T00:00:09Z", "created_at": "1970-01-01T00:00:05Z"}
    one = task(annotation(4, **of))
    expected = [(GENOME, 4, "7", 9.0)]
    for content in (one, [one], inside, [inside], small, [small]):
        assert told(read(json.dumps(content), "json")) == expected
        assert told(read(json.dumps(content, indent=2), "json")) == expected
    lines = read("\n".join(map(json.dumps, (one, inside, small))), "json")
    assert told(lines) == 3 * expected
    assert [each.line for each in lines.rows] == [1, 2, 3]
    (problem,) = read(json.dumps([{**small, "rating": 6}]), "json").problems
    assert problem.value == "6"
    del small["rating"]
    (problem,) = read(json.dumps([small]), "json").problems
    assert (problem.expected, problem.value) == (NO_ONE + OF_TASK, "0 ratings")


@pytest.mark.parametrize("format", ["json", "jsonl"])
def test_a_rating_that_another_program_wrote_as_a_float(format: str) -> None:
    """It is written back as the whole number that it is."""
    text = json.dumps([task(annotation(3.0))]) if format == "json" else jsonl(rating=3.0)
    (found,) = read(text, format).rows
    assert (found.rating, type(found.rating)) == (3, int)
    assert '"rating":3' in write([found], format)


def test_a_time_without_a_zone_is_that_of_greenwich(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps([task(annotation(created_at="1970-01-02T00:00:00"))])
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "JST-9")
        time.tzset()
        result = read(text, "json")
    time.tzset()
    assert [each.at for each in result.rows] == [86400.0]


def test_what_label_studio_can_import() -> None:
    given_rows = [
        row(rating=0, rater="7", at=5.25),
        row(rating=5, rater="anna"),
        row(ZEROS, 2, "a@b.org"),
        row(),
    ]
    text = write(given_rows, "json")
    first, second, third = json.loads(text)
    assert first["data"] == {"genome": GENOME}
    assert first["annotations"] == [
        {
            "result": [
                {
                    "from_name": "rating",
                    "to_name": "melody",
                    "type": "rating",
                    "value": {"rating": 0},
                }
            ],
            "was_cancelled": False,
            "ground_truth": False,
            "completed_by": 7,
            "created_at": "1970-01-01T00:00:05.250000Z",
        },
        {
            "result": [
                {
                    "from_name": "rating",
                    "to_name": "melody",
                    "type": "rating",
                    "value": {"rating": 5},
                }
            ],
            "was_cancelled": False,
            "ground_truth": False,
            "rater": "anna",
        },
    ]
    assert second["annotations"][0]["completed_by"] == {"email": "a@b.org"}
    assert not {"completed_by", "rater", "created_at"} & third["annotations"][0].keys()


NO_ONE = 'one rating of the tag "rating" in "result" (0 stars are not exported, see the Number tag)'
OF_TASK = ", in annotations[0] of the task"


@pytest.mark.parametrize(
    ("wrong", "expected", "value"),
    [
        (7, 'an object: a task with "data" and "annotations"', "7"),
        ({"a": 1}, 'a list: "annotations" of the task', "nothing"),
        (task(annotations={}), 'a list: "annotations" of the task', "an object"),
        (task(annotation(), data=None), 'an object: "data" of the task', "null"),
        (task(annotation(), data={}), NO_GENOME, "nothing"),
        (task(annotation(), data={"genome": "01"}), NO_GENOME, "2 characters"),
        (task([]), "an object: an annotation" + OF_TASK, "a list"),
        (task({}), 'a list: "result"' + OF_TASK, "nothing"),
        (task(annotation(result=[])), NO_ONE + OF_TASK, "0 ratings"),
        (task(annotation(result=[1, {"type": []}])), NO_ONE + OF_TASK, "0 ratings"),
        (task(annotation(result=annotation()["result"] * 2)), NO_ONE + OF_TASK, "2 ratings"),
        (
            task(annotation(result=[{"type": "rating"}])),
            'an object: "value" of the rating' + OF_TASK,
            "nothing",
        ),
        (
            task(annotation(result=[{"type": "rating", "value": {"number": 3}}])),
            NO_RATING + OF_TASK,
            "nothing",
        ),
        (task(annotation(3.5)), NO_RATING + OF_TASK, "3.5"),
        (task(annotation(6)), NO_RATING + OF_TASK, "6"),
        (task(annotation("3 ")), NO_RATING + OF_TASK, "'3 '"),
        (task(annotation(float("nan"))), NO_RATING + OF_TASK, "nan"),
        (task(annotation(float("inf"))), NO_RATING + OF_TASK, "inf"),
        (task(annotation(True)), NO_RATING + OF_TASK, "true"),
        (task(annotation(completed_by=[1])), NO_RATER + OF_TASK, "a list"),
        (task(annotation(completed_by=1.5)), NO_RATER + OF_TASK, "1.5"),
        (task(annotation(completed_by={"email": "\ud800"})), NO_RATER + OF_TASK, r"'\ud800'"),
        (
            task(annotation(created_at="today")),
            "a time such as 2026-01-31T12:00:00Z" + OF_TASK,
            "'today'",
        ),
        (task(annotation(updated_at=5)), "a time such as 2026-01-31T12:00:00Z" + OF_TASK, "5"),
        (task(annotation(created_at="0001-01-01T00:00:00+23:59")), NO_TIME + OF_TASK, None),
    ],
)
def test_a_task_that_is_wrong(wrong: Any, expected: str, value: str | None) -> None:
    good = task(annotation(4))
    text = ",\n  ".join(json.dumps(each) for each in (good, wrong, good))
    result = read(f"[{text}]", "json")
    assert [each.line for each in result.rows] == [1, 3]
    (problem,) = result.problems
    assert (problem.line, problem.column, problem.expected) == (2, 3, expected)
    assert value is None or problem.value == value


TASK = json.dumps(task(annotation()))


@pytest.mark.parametrize(
    ("text", "labels", "sentence"),
    [
        (
            "",
            0,
            "line 1, column 1: expected a list of tasks, as Label Studio exports JSON, got the",
        ),
        ("\n {}", 0, 'line 2, column 2: expected a list: "annotations" of the task, got nothing'),
        ("\n 3", 0, "line 2, column 2: expected a list of tasks, as Label Studio exports JSON"),
        (f"{TASK}\n{TASK},", 2, "line 2, column "),
        ("[", 0, "line 1, column 2: expected valid JSON, got the end of the file"),
        ("[\n" + TASK, 1, f"line 2, column {len(TASK) + 1}: expected a comma or ] after a task"),
        (f"[\n{TASK} {TASK}]", 1, f"line 2, column {len(TASK) + 2}: expected a comma or ]"),
        (f"[{TASK},\n]", 1, "line 2, column 1: expected valid JSON, got ']'"),
        (f"[{TASK},\n{{]", 1, "line 2, column 2: expected valid JSON, got ']'"),
        (
            f"[{TASK}]\n\n x",
            1,
            "line 3, column 2: expected nothing after the list of tasks, got 'x",
        ),
        (f"[{TASK},\n {'[' * 99999}", 1, "line 2, column 2: expected JSON that is nested less"),
        (f"[{TASK},\n {'[' * 99999}{']' * 99999}]", 1, "line 2, column 2: expected JSON that is"),
        (f"[{TASK},\n {'9' * 5000}]", 1, "line 2, column 2: expected JSON that is nested less"),
        (f'[{TASK},\n "\0"]', 1, "line 2, column 3: expected valid JSON, got "),
        (f'[{TASK},\n "\ud800"]', 0, "line 2, column 3: expected UTF-8 text, got the byte 0xed"),
        ("\x89PNG\r\n\x1a\n", 0, "line 1, column 1: expected a list of tasks"),
    ],
)
def test_a_file_that_is_no_list_of_tasks(text: str, labels: int, sentence: str) -> None:
    result = read(text, "json")
    assert len(result.rows) == labels
    assert len(result.problems) == 1
    assert sentences(result)[0].startswith(sentence)


def test_places_are_right_after_many_tasks() -> None:
    result = read("[" + "1,\n" * 500 + "x", "json")
    last = result.problems[-1]
    assert (last.line, last.column, last.expected) == (501, 1, "valid JSON")
    assert [problem.line for problem in result.problems] == list(range(1, 502))


# rows


@pytest.mark.parametrize(
    "make",
    [
        lambda: row(rating=6),
        lambda: row(rating=True),
        lambda: row(rater="\n"),
        lambda: row(at=float("nan")),
        lambda: Row(np.zeros(127, dtype=np.uint8), 3),
        lambda: Row(np.full(128, 2, dtype=np.uint8), 3),
    ],
)
def test_a_row_that_cannot_be_written_cannot_be_made(make: Callable[[], Row]) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()


def test_a_row_takes_any_kind_of_zeros_and_ones() -> None:
    made = Row(np.array(BITS, dtype=np.float64), 3)
    assert made.genome.dtype == np.uint8
    assert write([made], "csv") == tutorial((BITS, 3))


# garbage


def all_is_told(data: str | bytes, format: str) -> None:
    """A row or a sentence for whatever there is, and rows that can be written."""
    result = read(data, format)
    for sentence in sentences(result):
        assert sentence.isprintable()
        assert len(sentence) < 400
    again = read(write(result.rows, format), format)
    assert not again.problems
    assert [each.rating for each in again.rows] == [each.rating for each in result.rows]


@pytest.mark.parametrize("format", FORMATS)
@given(st.binary() | st.text(st.characters()))
@example(bytes(range(256)))
@example(b"\xff\xfe" + tutorial((BITS, 3)).encode("utf-16-le"))
@example(b"\0" * 20_000)
@example('"' * 9000)
@example("\u2028\x85\x0b\x0c\x1c\r")
def test_garbage_raises_nothing(format: str, data: str | bytes) -> None:
    all_is_told(data, format)


@pytest.mark.parametrize("format", FORMATS)
@given(given_rows=some_rows, edits=st.data())
def test_damage_raises_nothing(format: str, given_rows: list[Row], edits: st.DataObject) -> None:
    """Good files with some bytes cut out and others put in."""
    data = bytearray(write(given_rows, format).encode())
    for _ in range(edits.draw(st.integers(1, 4))):
        at = edits.draw(st.integers(0, len(data)))
        end = at + edits.draw(st.integers(0, 9))
        data[at:end] = edits.draw(st.binary(max_size=4) | st.sampled_from([b'"', b"[", b"}", b","]))
    all_is_told(bytes(data), format)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([GENOME, "rating", "1970-01-01", "0001-01-01", "9999-12-31T23:59:59-23:59"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rating", "number", "type", "value", "email", "id"]), inner
        )
    ),
    max_leaves=6,
)


@given(
    field=st.sampled_from(
        ["result", "was_cancelled", "completed_by", "rater", "created_at", "updated_at"]
    ),
    value=anything,
)
def test_an_annotation_with_anything_in_a_field_raises_nothing(field: str, value: Any) -> None:
    all_is_told(json.dumps([task(annotation(**{field: value}))]), "json")


@given(st.lists(anything, max_size=3), st.sampled_from(["data", "annotations"]), anything)
def test_tasks_with_anything_in_a_field_raise_nothing(
    tasks: list[Any], field: str, value: Any
) -> None:
    all_is_told(json.dumps([*tasks, task(annotation(), **{field: value})]), "json")


@given(st.sampled_from(["genome", "rating", "rater", "at"]), anything)
def test_lines_with_anything_in_a_field_raise_nothing(field: str, value: Any) -> None:
    all_is_told(json.dumps({"genome": GENOME, "rating": 3} | {field: value}), "jsonl")


def test_a_line_keeps_what_orjson_and_json_write() -> None:
    """Spaces after colons or none: the columns point at the values."""
    for text in (json.dumps({"rating": 9}), orjson.dumps({"rating": 9}).decode()):
        line = text.replace("{", '{"genome":"' + GENOME + '",')
        (problem,) = read(line, "jsonl").problems
        assert line[problem.column - 1] == "9"


def test_a_copy_with_another_rating() -> None:
    """`dataclasses.replace` is what callers change rows with; it checks again."""
    assert replace(row(), rating=5).rating == 5
    with pytest.raises(ValueError, match="rating"):
        replace(row(), rating=6)
