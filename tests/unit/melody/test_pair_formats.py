"""Files of pairs: what they hold comes back to the byte, and what is wrong becomes a sentence."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from roomgrad_melody.csv_lines import HEADER
from roomgrad_melody.formats import FORMATS, Pair, Result, Row, read, write, write_pairs
from roomgrad_melody.genome import from_text, text

ONE, OTHER = "0011" + "01" * 62, "10" * 64
SILENT = "1101" + ONE[4:]  # the same sound as "0001..."; other silent bits of a rest
NAMES = ["", "anna", "7", "007", "a@b.org", "9" * 128, "٣", "é 😀", 'a "b", c', "'", ";"]

melodies = st.lists(st.sampled_from("01"), min_size=128, max_size=128).map("".join)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    first, second = draw(melodies), draw(melodies)
    assume(text(from_text(first)) != text(from_text(second)))
    return Pair(
        first,
        second,
        draw(st.sampled_from(["first", "second", "equal", "neither"])),
        draw(st.sampled_from(NAMES)),
        draw(st.none() | st.floats(0, 1e11)),
        (draw(st.integers(0, 2**53)), draw(st.integers(0, 2**53))),
    )


def plain(pair: Pair) -> tuple[Any, ...]:
    return (pair.first, pair.second, pair.prefer, pair.rater, pair.listened)


def sentences(result: Result) -> list[str]:
    return [str(problem) for problem in result.problems]


@pytest.mark.parametrize("format", FORMATS)
@given(st.lists(pairs(), max_size=5))
def test_pairs_come_back_to_the_byte(format: str, given_pairs: list[Pair]) -> None:
    written = write_pairs(given_pairs, format)
    result = read(written, format)
    assert sentences(result) == []
    assert (result.rows, write_pairs(result.pairs, format)) == ([], written)
    assert list(map(plain, result.pairs)) == list(map(plain, given_pairs))
    for before, after in zip(given_pairs, result.pairs, strict=True):
        if format != "json" or before.at is None or after.at is None:
            assert before.at == after.at
        else:
            assert before.at == pytest.approx(after.at, abs=2e-5)


@pytest.mark.parametrize("format", FORMATS)
def test_revisions_and_lines(format: str) -> None:
    """Revisions of one pair stay in order; CR LF, blank lines, and a mark are read."""
    one = Pair(ONE, OTHER, "first", "anna", 5.0, (4000, 2500))
    written = write_pairs([one, replace(one, prefer="equal"), Pair(OTHER, ONE, "neither")], format)
    for found in (written, "\ufeff" + written.replace("\n", "\r\n") + "\n \n"):
        result = read(found, format)
        assert [each.prefer for each in result.pairs] == ["first", "equal", "neither"]
        lines = {"csv": [2, 3, 4], "jsonl": [1, 2, 3], "json": [2, 2, 3]}
        assert [each.line for each in result.pairs] == lines[format]


def test_jsonl_is_a_preference_data_set() -> None:
    """TRL reads `chosen` and `rejected`; the rest tells what was shown, and ties."""
    shown = (ONE, OTHER)
    lines = write_pairs([Pair(*shown, prefer) for prefer in ("first", "second", "equal")], "jsonl")
    found = [json.loads(line) for line in lines.splitlines()]
    assert [(each["chosen"], each["rejected"]) for each in found] == [shown, shown[::-1], shown]
    assert [each["preference"] for each in found] == ["first", "second", "equal"]
    [foreign] = read(json.dumps({"chosen": ONE, "rejected": OTHER, "prompt": ""}), "jsonl").pairs
    assert plain(foreign) == (ONE, OTHER, "first", "", (0, 0))


def test_csv_is_read_by_other_programs() -> None:
    written = write_pairs([Pair(ONE, OTHER, "second", 'a "b", c', 1.5e9, (1, 2))], "csv")
    [row] = csv.DictReader(io.StringIO(written))
    assert ",".join(row) == HEADER
    assert row["first"] == str(tuple(map(int, ONE)))
    assert (row["preference"], row["rater"], row["at"]) == ("second", 'a "b", c', "1500000000.0")


def test_label_studio_has_a_pairwise_tag() -> None:
    tasks = json.loads(write_pairs([Pair(ONE, OTHER, "second"), Pair(OTHER, ONE, "equal")], "json"))
    assert [task["data"] for task in tasks] == [
        {"first": ONE, "second": OTHER},
        {"first": OTHER, "second": ONE},
    ]
    [[right], [tie]] = [task["annotations"][0]["result"] for task in tasks]
    assert (right["from_name"], right["to_name"]) == ("prefer", "first,second")
    assert (right["type"], right["value"]) == ("pairwise", {"selected": "right"})
    assert (tie["type"], tie["value"]) == ("choices", {"choices": ["equal"]})


def annotation(*results: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"id": 12, "was_cancelled": False, "result": list(results), **others}


def test_an_export_of_label_studio() -> None:
    """Of its own annotators; other tags are ignored, and so are cancelled annotations."""
    left = {"from_name": "prefer", "type": "pairwise", "value": {"selected": "left"}}
    note = {"from_name": "why", "type": "choices", "value": {"choices": ["rhythm"]}}
    neither = {"from_name": "otherwise", "type": "choices", "value": {"choices": ["neither"]}}
    given_annotations = [
        annotation(note, left, completed_by=10, created_at="1970-01-01T00:00:05.500000Z"),
        annotation(neither, completed_by={"email": "b@example.org"}),
        annotation(left, was_cancelled=True),
    ]
    data = {"first": ONE, "second": OTHER, "audio": "https://example.org/1.wav"}
    result = read(json.dumps([{"data": data, "annotations": given_annotations}]), "json")
    assert sentences(result) == []
    assert [(each.prefer, each.rater, each.at) for each in result.pairs] == [
        ("first", "10", 5.5),
        ("neither", "b@example.org", None),
    ]


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ([], 'expected one vote in "result", of the Pairwise tag "prefer" or the Choices tag'),
        ([("pairwise", {})], 'expected "selected" as left or right'),
        ([("pairwise", {"selected": "up"})], "got 'up'"),
        ([("pairwise", {"selected": ["left"]})], "got a list"),
        ([("pairwise", 3)], 'expected an object: "value" of the vote'),
        ([("choices", {"choices": ["equal", "neither"]})], "got a list"),
        ([("pairwise", {"selected": "left"}), ("choices", {"choices": ["equal"]})], "got 2 votes"),
    ],
)
def test_an_annotation_that_is_wrong(results: list[tuple[str, Any]], sentence: str) -> None:
    found = annotation(*({"type": type, "value": value} for type, value in results))
    tasks = [{"data": {"first": ONE, "second": OTHER}, "annotations": [found]}]
    result = read(json.dumps(tasks), "json")
    assert result.pairs == []
    [said] = sentences(result)
    assert sentence in said
    assert "in annotations[0] of the task" in said


def jsonl(**fields: Any) -> str:
    body = {"chosen": ONE, "rejected": OTHER} | fields
    return json.dumps({name: value for name, value in body.items() if value is not ...})


NO_MELODY = "the melody as a text of 128 characters 0 and 1"


@pytest.mark.parametrize(
    ("line", "column", "expected", "value"),
    [
        (jsonl(chosen=...), 1, NO_MELODY, "nothing"),
        (jsonl(rejected=...), 1, NO_MELODY, "nothing"),
        (jsonl(rejected=None), 156, NO_MELODY, "null"),
        (jsonl(chosen=ONE[1:]), 12, NO_MELODY, "127 characters"),
        (jsonl(rejected=ONE), 1, "two melodies of different sound", "the same twice"),
        (jsonl(preference="a"), 302, "the preference as first, second, equal, or neither", "'a'"),
        (jsonl(preference=["equal"]), 302, "the preference as", "a list"),
        (jsonl(rater=7), 297, "the rater as a text", "7"),
        (jsonl(at=-1), 294, "the time as seconds since 1970", "-1"),
        (jsonl(listened=[1]), 300, "two times of listening", "a list"),
        (jsonl(listened=[1, 2.5]), 300, "two times of listening", "a list"),
        (jsonl(listened=[1, -1]), 300, "two times of listening", "a list"),
        (jsonl(listened=5), 300, "two times of listening", "5"),
        ('{"genome": "1", "rating": 3}', 12, NO_MELODY, "1 character"),
    ],
)
def test_a_line_of_jsonl_that_is_wrong(line: str, column: int, expected: str, value: str) -> None:
    result = read(f"{jsonl()}\n{line}\n{jsonl()}", "jsonl")
    assert [each.line for each in result.pairs] == [1, 3]
    [problem] = result.problems
    assert (problem.line, problem.column, problem.value) == (2, column, value)
    assert problem.expected.startswith(expected)


GOOD = write_pairs([Pair(ONE, OTHER, "first", "anna", 5.0, (1, 2))], "csv").splitlines()[1]
TUPLE = '"(' + ", ".join(ONE) + ')"'


@pytest.mark.parametrize(
    ("line", "column", "expected", "value"),
    [
        (GOOD + ",", 1, "the 7 fields first,second", "8 fields"),
        (TUPLE, 1, "the 7 fields first,second", "1 field"),
        (GOOD.replace("(0, ", "(2, ", 1), 1, NO_MELODY, "'2' as character 1"),
        (GOOD.replace("(0, ", "(", 1), 1, NO_MELODY, "127 characters"),
        (GOOD.replace("(1, ", "1, ", 1), 388, "the melody as (0, 1, ...)", None),
        (GOOD.replace("first", "3"), 775, "the preference as first, second, equal", "'3'"),
        (GOOD.replace("5.0", "nan"), 786, "the time as seconds since 1970", "'nan'"),
        (GOOD.replace("5.0", "1e300"), 786, "the time as seconds since 1970", "1e+300"),
        (GOOD.replace(",1,2", ",1.5,2"), 790, "whole milliseconds of listening", "'1.5'"),
        (GOOD.replace(",1,2", ",1,"), 792, "whole milliseconds of listening", "''"),
        (GOOD.replace("anna", 'an"na'), 781, "a field, in quotes or without any", None),
        (GOOD.replace("anna", '"anna'), 781, "a field, in quotes or without any", None),
        (f"{TUPLE},{TUPLE},first,,,0,0", 1, "two melodies of different sound", "the same twice"),
    ],
)
def test_a_line_of_csv_that_is_wrong(
    line: str, column: int, expected: str, value: str | None
) -> None:
    result = read("\n".join((HEADER, GOOD, line, GOOD)), "csv")
    assert [each.line for each in result.pairs] == [2, 4]
    [problem] = result.problems
    assert (problem.line, problem.column) == (3, column)
    assert problem.expected.startswith(expected)
    assert value is None or problem.value == value


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_a_file_has_ratings_or_pairs(format: str) -> None:
    ratings = write([Row(from_text(ONE), 3)], format)
    voted = write_pairs([Pair(ONE, OTHER, "first")], format)
    mixed = read(ratings + voted, format)
    assert sentences(mixed)[0].endswith(
        "expected a rating, as before: a file has ratings or pairs, got a pair"
    )
    assert (len(mixed.rows), mixed.pairs) == (1, [])
    assert read(voted + ratings, format).rows == []
    assert len(read(voted + ratings, format).problems) == 1


def test_a_melody_is_not_compared_with_its_own_sound() -> None:
    """Two genomes sound alike if they differ in silent bits of rests alone."""
    with pytest.raises(ValueError, match="two melodies of different sound"):
        Pair(SILENT, "0001" + SILENT[4:], "first")
