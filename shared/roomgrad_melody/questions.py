"""Questions from a rater's side: lease some, answer one, read the last answers.

The page, `roomgrad rate` and tests use these functions, so the same rules hold for all of them.
Each is one commit of a `Client`: two raters at once never get the same question.

The end of a lease is a time of the server's clock, as the clocks of the raters' machines differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roomgrad.codec import unpack
from roomgrad.context import Context
from roomgrad.display import is_displayable, one_spelling
from roomgrad.errors import Rejected, format_value
from roomgrad.messages import Message, new_id
from roomgrad.redis.client import Client
from roomgrad_melody.contract import CUSTOM, LABELS_LOG, RATINGS, RETRACTED, USER
from roomgrad_melody.genome import from_text

LONGEST_NAME = 40
LEASE_S = 120.0
LEARNER_S = 120.0  # lease of an answered question; the learner removes it before
LOG_CHUNK, LOG_MOST = 100, 2000  # entries of the log of labels: per read, and in all

Record = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A question that its rater holds. It lacks the model's guess, which is shown afterwards."""

    melody: str
    root: str
    asked: float
    until: float
    again: bool
    """Whether this rater has answered this before, and is asked again to compare."""

    against: str = ""
    """The melody that it is to be compared with, or "" if it is to be rated; both are accepted."""

    pair: tuple[str, str] | None = None
    """The two melodies in the order to be shown, if a vote is asked for again."""


@dataclass(frozen=True)
class Given:
    """A rating as it was given, and what the model had guessed."""

    melody: str
    rating: int | None
    """None: taken back."""

    root: str
    id: str
    at: float
    plays: int = 0
    guess: float | None = None
    probs: list[float] | None = None
    version: str = ""


def checked_name(name: object) -> str:
    """Return the name of a rater, in one spelling.

    Raises Rejected unless it is 1 to 40 characters that can be shown in a line.
    """
    text = one_spelling(name) if isinstance(name, str) else ""
    if len(text) > LONGEST_NAME or not is_displayable(text):
        raise Rejected(
            f"a rater's name has 1 to {LONGEST_NAME} printable characters, got {format_value(name)}"
        )
    return text


def checked_rating(rating: object) -> int | None:
    """Return a rating, or None, which takes one back. Raises Rejected for anything else."""
    if rating is None:
        return None
    if type(rating) is not int or not 0 <= rating < RATINGS:
        raise Rejected(
            f"a rating is a whole number from 0 to {RATINGS - 1}, or null to take one back, "
            f"got {format_value(rating)}"
        )
    return rating


def checked_melody(melody: object) -> str:
    """Return the text of a melody. Raises Rejected unless it is 128 characters 0 and 1."""
    if not isinstance(melody, str):
        raise Rejected(f"a melody: expected 128 characters 0 and 1, got {format_value(melody)}")
    try:
        from_text(melody)
    except ValueError as error:
        raise Rejected(str(error)[:400]) from error
    return melody


# leasing questions, and releasing them


def lease(
    client: Client,
    rater: str,
    count: int,
    lease_s: float = LEASE_S,
    *,
    skipped: Sequence[str] = (),
    without: Collection[str] = (),
) -> list[Question]:
    """Lease questions to a rater for `lease_s`: those that they already hold, then by rank.

    skipped: melodies that come last; leases of them end, unless they are returned. without:
    melodies that are left out, as their answers are being sent. Raises Rejected.
    """
    rater = checked_name(rater)

    def work(context: Context) -> list[Question]:
        now = context.time()
        table = context.table("questions")
        found = {melody: record for melody, record in table.peek().items() if melody not in without}
        taken: list[Question] = []
        for melody in _in_order(found, rater, now, skipped):
            if len(taken) == count:
                break
            record = table.get(melody)  # a guard: another rater may have leased it since
            if record is not None and _is_available(record, rater, now):
                until = now + lease_s
                table.put(melody, **{**record, "rater": rater, "until": until})
                taken.append(_question(melody, record, until))
        mine = {each.melody for each in taken}
        _release(context, rater, [each for each in skipped if each not in mine], now)
        return taken

    return client.commit(work)


def release(client: Client, rater: str, melodies: Sequence[str] | None = None) -> None:
    """Release all questions that a rater holds, or only these melodies. Raises Rejected."""
    rater = checked_name(rater)

    def work(context: Context) -> None:
        found = context.table("questions").peek().items() if melodies is None else ()
        held = [melody for melody, record in found if record["rater"] == rater]
        _release(context, rater, held if melodies is None else melodies, context.time())

    client.commit(work)


def _release(context: Context, rater: str, melodies: Sequence[str], now: float) -> None:
    table = context.table("questions")
    for melody, record in table.get_many(melodies).items():
        if record["rater"] == rater and not is_answered(record, now):
            table.put(melody, **{**record, "rater": "", "until": 0.0})


def _in_order(
    records: dict[str, Record], rater: str, now: float, skipped: Sequence[str]
) -> list[str]:
    """Return the available melodies: those the rater holds, then by rank, then those skipped."""
    last = {melody: place for place, melody in enumerate(skipped, 1)}
    free = [melody for melody, record in records.items() if _is_available(record, rater, now)]

    def place(melody: str) -> tuple[int, bool, float, str]:
        record = records[melody]
        return last.get(melody, 0), record["rater"] != rater, record["rank"], melody

    return sorted(free, key=place)


def _is_available(record: Record, rater: str, now: float) -> bool:
    if is_answered(record, now) or record.get("by", "") not in ("", rater):
        return False
    if record["rater"] and record["until"] > now:
        return bool(record["rater"] == rater)
    return bool(record["open"])


def is_answered(record: Record, now: float) -> bool:
    """Return whether an answer has been sent to the learner, which then removes the question.

    If the learner rejects the answer, the question is free again after `LEARNER_S`.
    """
    mark = record.get("answer") or {}
    given = mark.get("rating") is not None or mark.get("prefer", RETRACTED) != RETRACTED
    return given and bool(record["until"] > now)


def _question(melody: str, record: Record, until: float) -> Question:
    pair = record.get("pair")
    return Question(
        melody,
        record["root"],
        record["asked"],
        until,
        bool(record["again"]),
        record.get("against", ""),
        None if pair is None else (pair[0], pair[1]),
    )


# answering


def answer(
    client: Client,
    rater: str,
    melody: str,
    rating: int | None,
    root: str,
    id: str = "",
    plays: int = 0,
) -> Given:
    """Send a rating, or take one back; return when it is on the server's disk.

    root: root of the question. id: ID of the answer, a new one if empty; an answer with the same ID
    is sent only once.

    Raises Rejected before anything is sent if the learner would reject it.
    """
    rater, rating = checked_name(rater), checked_rating(rating)
    given = Given(checked_melody(melody), rating, root, id or new_id(), 0.0, plays)

    def work(context: Context) -> Given:
        # Write something in any case: WAITAOF acknowledges the writes of this connection.
        context.counters.add("answers")
        return _answered(client, context, rater, given)

    return client.commit(work, durable=True)


def _answered(client: Client, context: Context, rater: str, given: Given) -> Given:
    now = context.time()
    questions = context.table("questions")
    question = questions.get(given.melody)
    label = context.table("labels").get(given.melody)
    asked = question is not None and question["root"] == given.root
    about = question if asked else label
    answered = _with_guess(given, about or {}, now)
    if was_sent(client, given.id, question, LABELS_LOG):
        return answered
    if question is not None and asked:
        check_question(question, rater, now)
        if "prefer" in question.get("answer", {}) and is_answered(question, now):
            raise Rejected("you have compared this melody; take that back before you rate it")
        if given.rating is None and label is None and not is_answered(question, now):
            raise Rejected("this melody has no rating that could be taken back")
        mark = {"id": given.id, "rating": given.rating, "plays": given.plays, "at": now}
        until = now + LEARNER_S
        record = {**question, "rater": rater, "until": until, "answer": mark}
        questions.put(given.melody, **record)
    else:
        _check_label(label, rater, given)
    context.send(_message(rater, answered))
    return answered


def was_sent(client: Client, id: str, question: Record | None, log: str) -> bool:
    """Return whether this answer has been sent, or was stored in the log a moment ago."""
    mark = (question or {}).get("answer")
    if mark is not None and mark["id"] == id:
        return True
    return any(entry["answer"] == id for entry in read_log(client, log, LOG_CHUNK))


def check_question(question: Record, rater: str, now: float) -> None:
    """Raise Rejected if a question is another rater's now."""
    owner, asked_of = question["rater"], question.get("by", "")
    if asked_of not in ("", rater):
        raise Rejected(f"this melody was asked of {asked_of}, not of {rater}")
    if owner not in ("", rater) and is_answered(question, now):
        done = "compared" if "prefer" in question["answer"] else "rated"
        raise Rejected(f"{owner} has {done} this melody meanwhile")
    if owner not in ("", rater) and question["until"] > now:
        raise Rejected(f"{owner} listens to this melody now; your time for it was over")


def _check_label(label: Record | None, rater: str, given: Given) -> None:
    if label is None or label["root"] != given.root:
        raise Rejected("this melody is no longer asked about")
    if label["rater"] != rater:
        raise Rejected(f"{label['rater']} has rated this melody; only they can change that")


def _message(rater: str, given: Given) -> Message:
    rating = np.nan if given.rating is None else given.rating
    return Message(
        USER.name,
        CUSTOM.value,
        given.id,
        given.root,
        fields={
            "GENOMES": from_text(given.melody)[None],
            "FITNESS": np.array([rating], dtype="<f8"),
            "RATER": rater,
            "AT": np.array([given.at], dtype="<f8"),  # the order of what a rater takes back
            "PLAYS": np.array([given.plays], dtype="<i8"),
        },
    )


# reading answers


def is_open(client: Client, melody: str) -> bool:
    """Return whether there is an open question for a melody, without an answer being sent."""

    def work(context: Context) -> bool:
        record = context.table("questions").get(melody)
        return record is not None and record.get("answer") is None

    return client.commit(work)


def recent(client: Client, rater: str, count: int = 10) -> list[Given]:
    """Return the last valid ratings of a rater, newest first; for each melody the newest one."""
    rater = checked_name(rater)
    found: list[Given] = []
    seen: set[str] = set()
    for whose, given in _revisions(client):
        if given.melody not in seen:
            seen.add(given.melody)
            if whose == rater and given.rating is not None:
                found.append(given)
                if len(found) == count:
                    break
    return found


def _revisions(client: Client) -> Iterator[tuple[str, Given]]:
    """Yield rater and rating, newest first: those being sent, then those that are stored."""

    def marked(context: Context) -> list[tuple[str, Given]]:
        records = context.table("questions").peek().items()
        return [
            (record["rater"], _with_guess(_marked(melody, record), record, record["answer"]["at"]))
            for melody, record in records
            if "rating" in record.get("answer", {})
        ]

    sent = client.commit(marked)
    yield from sorted(sent, key=lambda each: each[1].at, reverse=True)
    for entry in read_log(client, LABELS_LOG, LOG_MOST):
        given = Given(entry["melody"], entry["rating"], entry["root"], entry["answer"], 0.0)
        yield entry["rater"], _with_guess(given, entry, entry["at"])


def _marked(melody: str, record: Record) -> Given:
    mark = record["answer"]
    return Given(melody, mark["rating"], record["root"], mark["id"], 0.0, mark["plays"])


def _with_guess(given: Given, about: Record, at: float) -> Given:
    return Given(
        given.melody,
        given.rating,
        given.root,
        given.id,
        at,
        given.plays or int(about.get("plays") or 0),
        about.get("guess"),
        about.get("probs"),
        about.get("version") or "",
    )


def read_log(client: Client, log: str, most: int) -> Iterator[Record]:
    """Yield the revisions of labels or votes, newest first; the log is read in chunks."""
    key, end = client.names.log(log), "+"
    for _ in range(0, most, LOG_CHUNK):
        entries: Any = client.redis.xrevrange(key, max=end, count=LOG_CHUNK)
        for entry, fields in entries:
            end = f"({entry.decode()}"
            yield unpack(fields[b"m"])
        if len(entries) < LOG_CHUNK:
            return
