"""Votes from a rater's side: which of two melodies is better.

A question is about one melody. The rater's side composes the pair: the winner of the rater's last
vote stays and is compared with the melody of the next question, so a vote needs one new listening.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from roomgrad.context import Context
from roomgrad.errors import Rejected, format_value
from roomgrad.messages import Message, new_id
from roomgrad.redis.client import Client
from roomgrad_melody.contract import (
    CUSTOM,
    FIRST,
    PAIRS_LOG,
    PREFERENCES,
    RETRACTED,
    SECOND,
    USER,
)
from roomgrad_melody.genome import from_texts, pair_key
from roomgrad_melody.questions import (
    LEARNER_S,
    LOG_MOST,
    Given,
    Question,
    Record,
    check_question,
    checked_melody,
    checked_name,
    is_answered,
    read_log,
    recent,
    was_sent,
)

SWAPPED = {FIRST: SECOND, SECOND: FIRST}
"""A preference when the same two melodies are shown in the other order."""


@dataclass(frozen=True)
class Vote:
    """A preference as it was given, and what the model had guessed."""

    first: str
    second: str
    """Canonical texts, in the order in which they were shown."""

    prefer: str
    """`first`, `second`, `equal`, or `neither`; `retracted`: taken back."""

    root: str
    id: str
    at: float
    listened: tuple[int, int] = (0, 0)
    """Milliseconds for which each was heard."""

    guess: float | None = None
    """Probability that the first is preferred, as the model believed before; None until stored."""

    version: str = ""

    @property
    def winner(self) -> str:
        """The preferred melody; "" if there is none."""
        return {FIRST: self.first, SECOND: self.second}.get(self.prefer, "")


def pair_of(question: Question, winner: str = "") -> tuple[str, str]:
    """Return the two melodies of a question in the order to be shown; the first may be "".

    winner: the preferred melody of the rater's last vote in this session, which stays.
    """
    if question.pair is not None:
        return question.pair
    first = winner if winner != question.melody else ""
    return first or question.against, question.melody


def checked_preference(preference: object) -> str:
    """Return a preference, or `retracted`. Raises Rejected for anything else."""
    if preference in (*PREFERENCES, RETRACTED):
        return str(preference)
    raise Rejected(
        f"a preference is {', '.join(PREFERENCES)}, or {RETRACTED} to take one back, "
        f"got {format_value(preference)}"
    )


def prefer(
    client: Client,
    rater: str,
    first: str,
    second: str,
    preference: str,
    root: str,
    id: str = "",
    listened: Sequence[int] = (0, 0),
) -> Vote:
    """Send a preference, or take one back; return when it is on the server's disk.

    root: root of the question about one of both melodies. id: ID of the answer, a new one if empty;
    an answer with the same ID is sent only once. listened: milliseconds for which each was heard.

    Raises Rejected before anything is sent if the learner would reject it.
    """
    rater = checked_name(rater)
    both = checked_melody(first), checked_melody(second)
    if first == second:
        raise Rejected("a melody is compared with itself; expected two different melodies")
    heard = (int(listened[0]), int(listened[1]))
    vote = Vote(*both, checked_preference(preference), root, id or new_id(), 0.0, heard)

    def work(context: Context) -> Vote:
        # Write something in any case: WAITAOF acknowledges the writes of this connection.
        context.counters.add("answers")
        return _voted(client, context, rater, vote)

    return client.commit(work, durable=True)


def _voted(client: Client, context: Context, rater: str, vote: Vote) -> Vote:
    now = context.time()
    questions = context.table("questions")
    found = questions.get_many((vote.second, vote.first))
    melody = next((name for name in found if found[name]["root"] == vote.root), "")
    stored = context.table("pairs").get(pair_key(vote.first, vote.second))
    voted = replace(vote, at=now)
    if was_sent(client, vote.id, found.get(melody), PAIRS_LOG):
        return voted
    if melody:
        _check(context, rater, vote, melody, found, now)
        names = ("first", "second", "prefer", "listened", "id")
        mark = {**{name: getattr(vote, name) for name in names}, "at": now}
        record = {**found[melody], "rater": rater, "until": now + LEARNER_S, "answer": mark}
        questions.put(melody, **record)
    else:
        _check_stored(stored, rater, vote)
    context.send(_message(rater, voted))
    return voted


def _check(
    context: Context, rater: str, vote: Vote, melody: str, found: dict[str, Record], now: float
) -> None:
    """Raise Rejected if the learner would reject this answer to the question about a melody."""
    question = found[melody]
    check_question(question, rater, now)
    sent = question.get("answer") if is_answered(question, now) else None
    if sent is not None and "rating" in sent:
        raise Rejected("you have rated this melody; take that back before you compare it")
    if vote.prefer == RETRACTED and (sent is None or _pair(sent) != _pair(vars(vote))):
        raise Rejected("these melodies have no vote that could be taken back")
    if sent is not None and _pair(sent) != _pair(vars(vote)):
        raise Rejected("you have compared this melody with another one; take that back before")
    other = vote.first if melody == vote.second else vote.second
    # The learner moves a vote from its question to `compared`: read in this order, one has it.
    theirs = hears(rater, other, context.table("questions").peek())
    theirs = theirs or any(context.table(name).get(other) for name in ("labels", "compared"))
    if other != question.get("against") and not theirs:
        raise Rejected("the other melody was never heard, and is not the one to compare with")


def preference_as_shown(record: Record, first: str) -> str:
    """Return the preference of a record as if this melody of the pair had been shown first."""
    prefer: str = record["prefer"]
    return prefer if record["first"] == first else SWAPPED.get(prefer, prefer)


def hears(rater: str, melody: str, questions: Mapping[str, Record]) -> bool:
    """Return whether a rater holds the question about a melody, or a vote on it is being sent.

    questions: the records of all of them, by melody.
    """
    own = {name: record for name, record in questions.items() if record["rater"] == rater}
    sent = [record.get("answer") or {} for record in own.values()]
    return melody in own or any(melody in (a.get("first"), a.get("second")) for a in sent)


def _pair(record: Record) -> str:
    return pair_key(record["first"], record["second"])


def _check_stored(stored: Record | None, rater: str, vote: Vote) -> None:
    if stored is None or stored["root"] != vote.root:
        raise Rejected("these melodies are no longer asked about")
    if stored["rater"] != rater:
        raise Rejected(f"{stored['rater']} has compared these melodies; only they can change that")


def _message(rater: str, vote: Vote) -> Message:
    return Message(
        USER.name,
        CUSTOM.value,
        vote.id,
        vote.root,
        fields={
            "PAIR": from_texts((vote.first, vote.second)),
            "PREFER": vote.prefer,
            "RATER": rater,
            "AT": np.array([vote.at], dtype="<f8"),  # the order of what a rater takes back
            "LISTENED": np.array(vote.listened, dtype="<i8"),
        },
    )


def recent_votes(client: Client, rater: str, count: int = 10) -> list[Vote]:
    """Return the last valid votes of a rater, newest first; for each pair the newest one."""
    rater = checked_name(rater)
    found: list[Vote] = []
    seen: set[str] = set()
    for whose, vote in _revisions(client):
        pair = _pair(vars(vote))
        if pair not in seen:
            seen.add(pair)
            if whose == rater and vote.prefer != RETRACTED:
                found.append(vote)
                if len(found) == count:
                    break
    return found


def recent_answers(client: Client, rater: str, count: int = 10) -> list[Given | Vote]:
    """Return the last valid ratings and votes of a rater, newest first."""
    ratings, votes = recent(client, rater, count), recent_votes(client, rater, count)
    both: list[Given | Vote] = [*ratings, *votes]
    return sorted(both, key=lambda each: each.at, reverse=True)[:count]


def _revisions(client: Client) -> Iterator[tuple[str, Vote]]:
    """Yield rater and vote, newest first: those being sent, then those that are stored."""

    def marked(context: Context) -> list[tuple[str, Vote]]:
        records = context.table("questions").peek().values()
        return [
            (record["rater"], _vote(record["answer"], record["root"], record["answer"]["id"]))
            for record in records
            if "prefer" in record.get("answer", {})
        ]

    sent = client.commit(marked)
    yield from sorted(sent, key=lambda each: each[1].at, reverse=True)
    for entry in read_log(client, PAIRS_LOG, LOG_MOST):
        yield entry["rater"], _vote(entry, entry["root"], entry["answer"])


def _vote(record: dict[str, Any], root: str, id: str) -> Vote:
    listened = record.get("listened") or (0, 0)
    return Vote(
        record["first"],
        record["second"],
        record["prefer"],
        root,
        id,
        record["at"],
        (listened[0], listened[1]),
        record.get("guess"),
        record.get("version") or "",
    )
