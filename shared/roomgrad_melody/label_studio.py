"""Labels as tasks of Label Studio: the JSON that it exports and imports.

A file is a list of tasks, or tasks one after the other, as a target storage has one in each file.
`data` of a task has the melody as `"genome": "01..."`, and possibly
other fields, such as the address of its sound. Each of its `annotations` is by one rater: `result`
has the rating, `completed_by` the rater's number or, in some exports, an object with `email`.
Cancelled annotations, drafts and predictions are ignored. A target storage may also write an
annotation with its task inside, and JSON-MIN one flat object for each annotation, with `genome`,
`rating`, `annotator` and times; both are read.

A rating is the plain number 0 to 5, given by the tag named `rating`; results of other tags are
ignored. Label Studio's Rating tag shows it as stars, of which 0 means
that none is chosen, and does not export such a result: an annotation without a rating is therefore
a problem, not a 0, as the two cannot be told apart. An imported 0 is kept until the annotation is
saved again. To let raters give a 0, use the Number tag,
`<Number name="rating" toName="melody" min="0" max="5"/>`, whose results (type `number`) are read
as well. `write` writes type `rating`, for this labelling interface:

    <View>
      <Text name="melody" value="$genome"/>
      <Rating name="rating" toName="melody" maxRating="5"/>
    </View>

`data` of a pair has the melodies as `first` and `second`, in the order in which they are shown. The
Pairwise tag says that the left (`first`) or the right one is better; Choices say what it cannot:

    <View>
      <Text name="first" value="$first"/> <Text name="second" value="$second"/>
      <Pairwise name="prefer" toName="first,second"/>
      <Choices name="otherwise" toName="first">
        <Choice value="equal"/> <Choice value="neither"/>
      </Choices>
    </View>

Documented at labelstud.io/guide/task_format and, for tags, labelstud.io/tags/rating, number,
pairwise and choices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import orjson

from roomgrad.errors import FormatError
from roomgrad.strict_json import expected, unique
from roomgrad_melody import label_studio_answers as answers
from roomgrad_melody.label_studio_answers import list_of, object_of
from roomgrad_melody.rows import MISSING, InvalidValue, Pair, Result, Row, as_given, describe_value

ANNOTATION = ("completed_by", "created_at", "updated_at", "rater")  # as in JSON-MIN, but the first

MAX_VALUES = 4_000_000
"""Limit of a file, counted by commas and brackets: 64 MiB of brackets alone would need 2 GiB."""

_DECODER = json.JSONDecoder(object_pairs_hook=unique)
_SPACE = re.compile(r"[ \t\r\n]*")


def read(data: bytes, result: Result) -> None:
    """Add the rows and problems of a file; the line of a row is the first line of its task.

    Raises FormatError if the file has too many values.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise FormatError(f"expected at most {MAX_VALUES:,} values of JSON: split the file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        value = f"the byte 0x{data[error.start]:02x}"
        result.problem(*_Positions(before).at(len(before)), value, "UTF-8 text")
        return
    for line, column, task in _tasks(text, result):
        _read_task(task, line, column, result)


class _Positions:
    """Lines and columns of increasing offsets in a text, counted in one pass."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.offset = self.line_start = 0
        self.line = 1

    def at(self, offset: int) -> tuple[int, int]:
        """Return line and column, both from 1; no offset may be lower than the one before."""
        self.line += self.text.count("\n", self.offset, offset)
        newline = self.text.rfind("\n", self.offset, offset)
        if newline >= 0:
            self.line_start = newline + 1
        self.offset = offset
        return self.line, offset - self.line_start + 1


def _tasks(text: str, result: Result) -> Iterator[tuple[int, int, Any]]:
    """Yield each task with line and column; add a problem where the file is not JSON of tasks."""
    positions = _Positions(text)

    def problem(offset: int, expected: str) -> None:
        rest = text[offset : offset + 100]
        value = describe_value(rest) if rest else "the end of the file"
        result.problem(*positions.at(offset), value, expected)

    offset = _after_space(text, 0)
    listed = text.startswith("[", offset)
    if not listed and not text.startswith("{", offset):
        return problem(offset, "a list of tasks, as Label Studio exports JSON")
    offset = _after_space(text, offset + listed)
    more = not text.startswith("]", offset)
    while more:
        line, column = positions.at(offset)
        try:
            task, offset = _DECODER.raw_decode(text, offset)
        except json.JSONDecodeError as error:
            return problem(max(error.pos, offset), expected(error))
        except (RecursionError, ValueError):  # the latter for numbers of thousands of digits
            return problem(offset, "JSON that is nested less deeply and has no endless numbers")
        yield line, column, task
        offset = _after_space(text, offset)
        more = text.startswith("," if listed else "{", offset)
        if more:
            offset = _after_space(text, offset + listed)
        elif listed and not text.startswith("]", offset):
            return problem(offset, "a comma or ] after a task")
    offset = _after_space(text, offset + listed)
    if offset < len(text):
        return problem(offset, "nothing after the list of tasks")
    return None


def _after_space(text: str, offset: int) -> int:
    match = _SPACE.match(text, offset)
    return match.end() if match else offset


def _read_task(task: Any, line: int, column: int, result: Result) -> None:
    try:
        fields = _as_task(object_of(task, 'a task with "data" and "annotations"'))
        given = list_of(fields.get("annotations", MISSING), '"annotations" of the task')
        if not given:
            return  # without an answer
        read = answers.reader(object_of(fields.get("data", MISSING), '"data" of the task'), line)
    except InvalidValue as wrong:
        result.problem(line, column, wrong.value, wrong.expected)
        return
    for number, annotation in enumerate(given):
        try:
            label = read(annotation)
        except InvalidValue as wrong:
            where = f"{wrong.expected}, in annotations[{number}] of the task"
            result.problem(line, column, wrong.value, where)
        else:
            if label is not None:
                result.add(label)


def _as_task(fields: dict[str, Any]) -> dict[str, Any]:
    """Return an annotation with its task inside, or an object of JSON-MIN, as a task."""
    if "result" in fields and isinstance(fields.get("task"), dict):
        return {"data": fields["task"].get("data", MISSING), "annotations": [fields]}
    if "genome" in fields and "data" not in fields:
        result = {"type": "rating", "value": {"rating": fields.get("rating", MISSING)}}
        given = [result] if "rating" in fields else []
        annotation = {name: fields[name] for name in ANNOTATION if name in fields}
        annotation |= {"completed_by": fields.get("annotator"), "result": given}
        return {"data": fields, "annotations": [annotation]}
    return fields


def write(rows: Iterable[Row]) -> str:
    """Return the rows as tasks, one per line. Successive rows of one genome share a task.

    A rater whose name is a number becomes the id in `completed_by`, one with an @ the email; Label
    Studio imports only users that it knows. Any other name is written to an additional field
    `rater`, and Label Studio attributes the annotation to the user who imports the file.
    """
    return _tasks_of(
        ({"genome": genome}, [answers.of_rating(row) for row in group])
        for genome, group in groupby(rows, key=lambda row: as_given(row.genome))
    )


def write_pairs(pairs: Iterable[Pair]) -> str:
    """Return the pairs as tasks, as `write` does; the field `listened` is an additional one."""
    return _tasks_of(
        ({"first": first, "second": second}, [answers.of_pair(pair) for pair in group])
        for (first, second), group in groupby(pairs, key=lambda pair: (pair.first, pair.second))
    )


def _tasks_of(groups: Iterable[tuple[dict[str, str], list[dict[str, Any]]]]) -> str:
    tasks = [orjson.dumps({"data": data, "annotations": given}) for data, given in groups]
    if not tasks:
        return "[]\n"
    return "[\n" + b",\n".join(tasks).decode() + "\n]\n"
