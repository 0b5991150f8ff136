"""Answers of raters: checked as a whole, then stored as labels with all their revisions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from roomgrad import Context, Message
from roomgrad.errors import Rejected
from roomgrad_melody.contract import CUSTOM, LABELS_LOG, USER
from roomgrad_melody.formats import Row
from roomgrad_melody.genome import Genomes, text

from .state import State
from .training import REMEMBERED, fading, surprise

KEEP_OPEN_S = 120.0  # for which a rater holds a melody whose rating they took back

Records = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """One rated melody of a message."""

    genome: Genomes
    """As it was given, uint8 `(128,)`, with the silent bits of rests."""

    melody: str
    """Its canonical text: the field of its label."""

    rating: int | None
    """0 to 5; None takes the former rating back."""

    plays: int
    rater: str
    at: float
    """Unix seconds."""


def parse(message: Message, now: float) -> list[Answer]:
    """Return the answers of a message. Raises Rejected unless each is 0 to 5, whole, or null.

    now: the time of an answer without AT, in Unix seconds.
    """
    fields = message.fields
    if not {"GENOMES", "FITNESS"} <= fields.keys() or "PAIR" in fields:
        raise Rejected("a rating needs GENOMES and FITNESS, a vote PAIR and PREFER; expected one")
    n = len(fields["GENOMES"])
    rater = str(fields.get("RATER") or message.sent_by or "anonymous")
    columns = {
        "FITNESS": fields["FITNESS"],
        "PLAYS": fields.get("PLAYS", [0] * n),
        "RATERS": fields.get("RATERS", [""] * n),
        "AT": fields.get("AT", [math.nan] * n),
    }
    for name, column in columns.items():
        if len(column) != n:
            raise Rejected(f"{n} genomes came with {len(column)} {name}; expected as many of each")
    return [
        Answer(
            genome,
            text(genome),
            _rating(float(value)),
            int(plays),
            who or rater,
            now if math.isnan(at) else float(at),
        )
        for genome, value, plays, who, at in zip(fields["GENOMES"], *columns.values(), strict=True)
    ]


def _rating(value: float) -> int | None:
    if np.isnan(value):
        return None
    if value not in range(6):
        raise Rejected(f"a rating is {value:g}; expected a whole number from 0 to 5, or null")
    return int(value)


def take(message: Message, state: State, context: Context) -> list[str]:
    """Store the answers of a message, all or none of them; return the melodies that changed.

    Raises Rejected, with nothing stored, if one of them answers no question.
    """
    answers = parse(message, context.time())
    if len({answer.melody for answer in answers}) < len(answers):
        raise Rejected("the same melody was answered twice in one message")
    labels = context.table("labels").get_many(a.melody for a in answers)
    questions = context.table("questions").get_many(a.melody for a in answers)
    for answer in answers:
        _check(answer, message, questions.get(answer.melody), labels.get(answer.melody))
    changed = []
    for answer in answers:
        former = context.table("labels").get(answer.melody)
        if former is not None and former["answer"] == message.id:
            continue  # sent twice: the sender had no acknowledgement of the first
        question = questions.get(answer.melody)
        if question is not None:
            state.answered += 1
            state.asked += not question["open"]  # it was withdrawn; its answer counts
        _store(answer, message, question or former or {}, state, context)
        changed.append(answer.melody)
    return changed


def _check(
    answer: Answer,
    message: Message,
    question: dict[str, Any] | None,
    label: dict[str, Any] | None,
) -> None:
    rater = answer.rater
    asked = question is not None and question["root"] == message.root_id
    if asked and question is not None and question["by"] not in ("", rater):
        raise Rejected(f"{answer.melody} was asked of {question['by']}, not of {rater}")
    if answer.rating is None and label is None:
        raise Rejected(f"{answer.melody} has no rating that could be taken back")
    if asked:
        return
    if label is None or label["root"] != message.root_id:
        raise Rejected(f"{answer.melody} is not part of the question {message.root_id}")
    if label["rater"] != rater:
        raise Rejected(f"{answer.melody} was answered by {label['rater']} before")


def _store(
    answer: Answer,
    message: Message,
    asked: dict[str, Any],
    state: State,
    context: Context,
) -> None:
    """Stage one revision. asked: the question, or the label that is revised."""
    labels, questions = context.table("labels"), context.table("questions")
    former, rater = labels.get(answer.melody), answer.rater
    about = {
        "rater": rater,
        "at": answer.at,
        **{name: asked.get(name) for name in ("version", "strategy", "guess", "probs")},
        "again": bool(asked.get("again")),
        "plays": answer.plays,
        "root": message.root_id,
        "answer": message.id,
    }
    genome = "".join(map(str, answer.genome))
    context.append(LABELS_LOG, melody=answer.melody, genome=genome, rating=answer.rating, **about)
    count(state, former, answer.rating)
    if answer.rating is None:
        labels.delete(answer.melody)
        state.answered -= 1
        questions.put(answer.melody, **open_again(asked, message.root_id, rater, context.time()))
        return
    if about["again"] and former is not None and former["rater"] == rater:
        _compare(state, former["rating"], answer.rating)
    if asked.get("probs") and former is None:
        grow_older(state, surprise(answer.rating, asked["probs"]))
    state.note_heard(answer.melody)
    labels.put(answer.melody, rating=answer.rating, age=state.age, **about)
    if asked.get("guess") is not None and former is None:
        curve = {"labels": state.labels, "rating": answer.rating, "guess": asked["guess"]}
        context.table("curve").put(str(state.answered), **curve, rater=rater, at=about["at"])
    questions.delete(answer.melody)


def count(state: State, former: dict[str, Any] | None, rating: int | None) -> None:
    """Update the number of labels and their histogram."""
    before: int | None = former["rating"] if former else None
    for value, change in ((before, -1), (rating, +1)):
        if value is not None:
            state.labels += change
            state.histogram[value] += change


def grow_older(state: State, surprised: float) -> None:
    """Let an answer lower the weights of all labels before it, the more if answers surprise."""
    state.surprises = [*state.surprises, surprised][-REMEMBERED:]
    state.age += fading(state.surprises)


def _compare(state: State, before: int, now: int) -> None:
    state.agreement.n += 1
    state.agreement.exact += before == now
    state.agreement.absolute += abs(before - now)


def open_again(asked: dict[str, Any], root: str, rater: str, now: float) -> dict[str, Any]:
    """Return the question of a melody whose answer was taken back, held by the same rater."""
    names = ("version", "strategy", "guess", "probs")
    return {
        **{name: asked.get(name) for name in names},
        "root": root,
        "asked": now,
        "rank": -1.0,
        "again": False,
        "by": "",
        "against": "",
        "pair": None,
        "open": True,
        "rater": rater,
        "until": now + KEEP_OPEN_S,
    }


def heard_now(melodies: Iterable[str], context: Context) -> set[str]:
    """Return those of the melodies that were rated or compared."""
    names = list(melodies)
    tables = (context.table(name).get_many(names) for name in ("labels", "compared"))
    return {melody for table in tables for melody in table}


def take_import(message: Message, state: State, context: Context) -> list[str]:
    """Store labels that were made elsewhere; of several for one melody, the last counts.

    Raises Rejected, with nothing stored, for `CONFLICT: error` if a label differs.
    """
    answers = parse(message, context.time())
    policy = message.fields["CONFLICT"]
    if any(answer.rating is None for answer in answers):
        raise Rejected("an import holds null; expected ratings from 0 to 5")
    labels = context.table("labels").get_many(a.melody for a in answers)
    if policy == "error":
        _refuse_conflicts(answers, labels)
    kept = set(labels) if policy == "keep" else set()
    stored = [a for a in answers if a.melody not in kept]
    questions = context.table("questions").get_many(a.melody for a in stored)
    state.asked -= sum(question["open"] for question in questions.values())
    for answer in stored:
        _store(answer, message, {}, state, context)
    return list(dict.fromkeys(answer.melody for answer in stored))


def take_rows(rows: list[Row], state: State, context: Context) -> list[str]:
    """Store the labels of a file; return the melodies that changed."""
    if not rows:
        return []
    genomes = np.array([row.genome for row in rows], np.uint8)
    ratings = np.array([row.rating for row in rows], np.float64)
    message = Message.open(USER, type=CUSTOM, GENOMES=genomes, FITNESS=ratings)
    raters, at = [row.rater for row in rows], [row.at for row in rows]
    message.fields = {
        **message.fields,
        "CONFLICT": "replace",
        "RATER": "file",
        "RATERS": raters,
        "AT": np.array([math.nan if moment is None else moment for moment in at]),
    }
    return take_import(message, state, context)


def _refuse_conflicts(answers: list[Answer], labels: Records) -> None:
    for answer in {answer.melody: answer for answer in answers}.values():  # the last one counts
        label = labels.get(answer.melody)
        if label is not None and label["rating"] != answer.rating:
            raise Rejected(
                f"{answer.melody} has the rating {label['rating']} already, the import says "
                f"{answer.rating}; import with CONFLICT keep or replace"
            )
