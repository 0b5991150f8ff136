"""Annotations of Label Studio: the rating or the vote of one rater on a task, read and written."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from roomgrad_melody.contract import EQUAL, FIRST, NEITHER, SECOND
from roomgrad_melody.genome import Genomes
from roomgrad_melody.rows import (
    MISSING,
    InvalidValue,
    Pair,
    Row,
    at_of,
    counted,
    describe_value,
    genome_of,
    listened_of,
    melody_of,
    rater_of,
    rating_of,
)

FROM_NAME, TO_NAME = "rating", "melody"
"""Names of the tags of the labelling interface for ratings."""

PAIRWISE, TIE = "prefer", "otherwise"
"""Names of the tags for pairs: Pairwise, and Choices for what it cannot say."""

SIDES = {"left": FIRST, "right": SECOND}
TIES = (EQUAL, NEITHER)
RATING_TYPES = ("rating", "number")  # of results with a rating, which has the same name
PAIR_TYPES = {"pairwise": PAIRWISE, "choices": TIE}

Fields = dict[str, Any]


def reader(data: Fields, line: int) -> Callable[[Any], Row | Pair | None]:
    """Return what reads the annotations of a task with this data. Raises InvalidValue.

    It returns None for a cancelled annotation, and raises InvalidValue for an invalid one.
    """
    if "genome" not in data and data.keys() & {"first", "second"}:
        first = melody_of(data.get("first", MISSING))
        return partial(_pair, first, melody_of(data.get("second", MISSING)), line)
    return partial(_rating, genome_of(data.get("genome", MISSING)), line)


def _rating(genome: Genomes, line: int, annotation: Any) -> Row | None:
    results = _results(annotation)
    if results is None:
        return None
    found = [each for each in results if each.get("type") in RATING_TYPES]
    ratings = [each for each in found if each.get("from_name", FROM_NAME) == FROM_NAME]
    if len(ratings) != 1:
        others = sorted({describe_value(each.get("from_name")) for each in found} - {"'rating'"})
        beside = f" and results of the tags {', '.join(others)}" if others else ""
        raise InvalidValue(
            counted(len(ratings), "rating") + beside,
            'one rating of the tag "rating" in "result" (0 stars are not exported, see the Number '
            "tag)",
        )
    value = object_of(ratings[0].get("value", MISSING), '"value" of the rating')
    rating = rating_of(value.get(ratings[0]["type"], MISSING))
    return Row(genome, rating, _rater(annotation), _at(annotation), line)


def _pair(first: str, second: str, line: int, annotation: Any) -> Pair | None:
    results = _results(annotation)
    if results is None:
        return None
    found = [each for each in results if each.get("type") in PAIR_TYPES]
    votes = [
        each for each in found if each.get("from_name", name := PAIR_TYPES[each["type"]]) == name
    ]
    if len(votes) != 1:
        raise InvalidValue(
            counted(len(votes), "vote"),
            f'one vote in "result", of the Pairwise tag "{PAIRWISE}" or the Choices tag "{TIE}"',
        )
    value = object_of(votes[0].get("value", MISSING), '"value" of the vote')
    listened = annotation.get("listened")
    heard = (0, 0) if listened is None else listened_of(listened)
    return Pair(first, second, _preference(value), _rater(annotation), _at(annotation), heard, line)


def _preference(value: Fields) -> str:
    side, choices = value.get("selected"), value.get("choices")
    if isinstance(side, str) and side in SIDES:
        return SIDES[side]
    if isinstance(choices, list) and len(choices) == 1 and choices[0] in TIES:
        return str(choices[0])
    raise InvalidValue(
        describe_value(choices if side is None else side),
        '"selected" as left or right, or "choices" as ["equal"] or ["neither"]',
    )


def _results(annotation: Any) -> list[Fields] | None:
    """Return the results of an annotation, None of a cancelled one. Raises InvalidValue."""
    fields = object_of(annotation, "an annotation")
    if fields.get("was_cancelled") is True:
        return None
    results = list_of(fields.get("result", MISSING), '"result"')
    return [each for each in results if isinstance(each, dict)]


def object_of(value: object, what: str) -> Fields:
    """Return an object. Raises InvalidValue for any other value."""
    if not isinstance(value, dict):
        raise InvalidValue(describe_value(value), f"an object: {what}")
    return value


def list_of(value: object, what: str) -> list[Any]:
    """Return a list. Raises InvalidValue for any other value."""
    if not isinstance(value, list):
        raise InvalidValue(describe_value(value), f"a list: {what}")
    return value


def _rater(annotation: Fields) -> str:
    person = annotation.get("rater")  # a field that is written too; unknown to Label Studio
    if person is None:
        person = annotation.get("completed_by")
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    if person is None:
        return ""
    return rater_of(str(person) if type(person) is int else person)


def _at(annotation: Fields) -> float | None:
    """Return when the answer was last changed, in seconds since 1970; None if unknown."""
    time = annotation.get("updated_at")
    if time is None:
        time = annotation.get("created_at")
    if time is None:
        return None
    try:
        moment = datetime.fromisoformat(time)
    except (TypeError, ValueError) as error:
        raise InvalidValue(describe_value(time), "a time such as 2026-01-31T12:00:00Z") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return at_of(moment.timestamp())


def of_rating(row: Row) -> Fields:
    """Return the annotation of a rating."""
    return _annotation(row, FROM_NAME, TO_NAME, "rating", {"rating": row.rating})


def of_pair(pair: Pair) -> Fields:
    """Return the annotation of a pair."""
    listened = {"listened": pair.listened} if any(pair.listened) else {}
    if pair.prefer in TIES:
        said = _annotation(pair, TIE, "first", "choices", {"choices": [pair.prefer]})
    else:
        [side] = [each for each, prefer in SIDES.items() if prefer == pair.prefer]
        said = _annotation(pair, PAIRWISE, "first,second", "pairwise", {"selected": side})
    return {**said, **listened}


def _annotation(label: Row | Pair, tag: str, to: str, type: str, value: Fields) -> Fields:
    result = {"from_name": tag, "to_name": to, "type": type, "value": value}
    annotation: Fields = {
        "result": [result],
        "was_cancelled": False,
        "ground_truth": False,  # Label Studio assumes true if it is missing
    }
    if re.fullmatch(r"0|[1-9][0-9]{0,17}", label.rater):
        annotation["completed_by"] = int(label.rater)
    elif "@" in label.rater:
        annotation["completed_by"] = {"email": label.rater}
    elif label.rater:
        annotation["rater"] = label.rater
    if label.at is not None:
        moment = datetime.fromtimestamp(label.at, UTC)
        annotation["created_at"] = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return annotation
