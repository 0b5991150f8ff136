"""Votes of raters, which of two melodies is better: checked, then stored with all revisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from roomgrad import Context, Message
from roomgrad.errors import Rejected
from roomgrad_melody.contract import EQUAL, FIRST, NEITHER, PAIRS_LOG, RETRACTED, SECOND
from roomgrad_melody.genome import pair_key, texts
from roomgrad_melody.ordinal import preference
from roomgrad_melody.votes import hears, preference_as_shown

from . import state as states
from .answers import grow_older, heard_now, open_again
from .state import State
from .training import surprise_of_vote

Record = dict[str, Any]

SHARES = {FIRST: (1.0, 0.0), SECOND: (0.0, 1.0), EQUAL: (0.5, 0.5), NEITHER: (0.0, 0.0)}
"""Which part of a win each melody gets."""


@dataclass(frozen=True)
class Vote:
    """A vote of a message."""

    first: str
    second: str
    """Canonical texts, in the order in which they were shown."""

    prefer: str
    listened: list[int]
    """Milliseconds for which each was heard."""

    rater: str
    at: float
    """Unix seconds."""

    @property
    def pair(self) -> str:
        """The key of the vote's record."""
        return pair_key(self.first, self.second)


def parse(message: Message, now: float) -> Vote:
    """Return the vote of a message. Raises Rejected unless it is about two different melodies.

    now: the time of a vote without AT, in Unix seconds.
    """
    fields = message.fields
    if "PAIR" not in fields or "PREFER" not in fields:
        raise Rejected("a vote needs both PAIR and PREFER; a rating has GENOMES and FITNESS")
    if "GENOMES" in fields or "FITNESS" in fields:
        raise Rejected("a message with PAIR has GENOMES or FITNESS, too; expected one answer")
    first, second = texts(fields["PAIR"])
    if first == second:
        raise Rejected(f"{first} is compared with itself; expected two melodies of different sound")
    rater = str(fields.get("RATER") or message.sent_by or "anonymous")
    raters, at = fields.get("RATERS", [""]), fields.get("AT", [np.nan])
    if len(raters) != 1 or len(at) != 1:
        raise Rejected(f"a pair came with {len(raters)} RATERS, {len(at)} AT; expected one of each")
    listened = np.asarray(fields.get("LISTENED", (0, 0))).tolist()
    when = now if np.isnan(at[0]) else float(at[0])
    return Vote(first, second, fields["PREFER"], listened, raters[0] or rater, when)


def take(message: Message, state: State, context: Context) -> list[str]:
    """Store the vote of a message; return the melodies that it is about, none for a repetition.

    Raises Rejected, with nothing stored, if it answers no question.
    """
    vote = parse(message, context.time())
    former = context.table("pairs").get(vote.pair)
    if former is not None and former["answer"] == message.id:
        return []  # sent twice: the sender had no acknowledgement of the first
    asked = _check(vote, message, former, context)
    if former is None and not context.settings.lockstep:
        grow_older(state, _surprise(vote, context))
    if asked is not former:
        state.answered += 1
        state.asked += not asked["open"]  # it was withdrawn; its answer counts
    _store(vote, message, asked, state, context)
    return [vote.first, vote.second]


def _check(vote: Vote, message: Message, former: Record | None, context: Context) -> Record:
    """Return the question that a vote answers, with its `melody`, or the vote that it revises."""
    questions = context.table("questions").get_many((vote.second, vote.first))
    if vote.prefer == RETRACTED and former is None:
        raise Rejected(f"{vote.pair} has no vote that could be taken back")
    for melody, question in questions.items():
        if question["root"] == message.root_id and vote.prefer != RETRACTED:
            other = vote.first if melody == vote.second else vote.second
            _check_question(vote, melody, question, other, context)
            return {**question, "melody": melody}
    if former is None or former["root"] != message.root_id:
        raise Rejected(f"neither melody of {vote.pair} is part of the question {message.root_id}")
    if former["rater"] != vote.rater:
        raise Rejected(f"{vote.pair} was answered by {former['rater']} before")
    return former


def _check_question(
    vote: Vote,
    melody: str,
    question: Record,
    other: str,
    context: Context,
) -> None:
    if question["by"] not in ("", vote.rater):
        raise Rejected(f"{melody} was asked of {question['by']}, not of {vote.rater}")
    # The rater's vote for the other melody may be handled by another replica after this one.
    theirs = hears(vote.rater, other, context.table("questions").peek())
    if other != question.get("against") and not theirs and not heard_now([other], context):
        raise Rejected(f"{other} was never heard; expected the melody that {melody} is against")


def take_import(message: Message, state: State, context: Context) -> list[str]:
    """Store a vote that was made elsewhere; return the melodies that it is about.

    Raises Rejected, with nothing stored, for `CONFLICT: error` if the pair has another vote.
    """
    vote = parse(message, context.time())
    policy = message.fields["CONFLICT"]
    if vote.prefer == RETRACTED:
        raise Rejected("an import holds a vote that is taken back; expected a preference")
    former = context.table("pairs").get(vote.pair)
    before = vote.prefer if former is None else preference_as_shown(former, vote.first)
    if policy == "error" and before != vote.prefer:
        raise Rejected(
            f"{vote.pair} has the vote {before} already, the import says {vote.prefer}; import "
            f"with CONFLICT keep or replace"
        )
    if former is not None and (policy == "keep" or former["answer"] == message.id):
        return []
    questions = context.table("questions").get_many((vote.first, vote.second))
    state.asked -= sum(question["open"] for question in questions.values())
    _store(vote, message, {"melody": vote.second}, state, context)
    for melody in questions:
        context.table("questions").delete(melody)
    return [vote.first, vote.second]


def _store(vote: Vote, message: Message, asked: Record, state: State, context: Context) -> None:
    """Stage one revision. asked: the question, or the vote that is revised."""
    pairs, questions = context.table("pairs"), context.table("questions")
    former = pairs.get(vote.pair)
    again = bool(asked.get("pair")) and former is not None
    about = {
        "first": vote.first,
        "second": vote.second,
        "rater": vote.rater,
        "at": vote.at,
        "listened": vote.listened,
        "version": state.version,
        "strategy": asked.get("strategy"),
        "guess": _guess(vote, context),
        "melody": asked["melody"],
        "root": message.root_id,
        "answer": message.id,
        "again": again,
    }
    context.append(PAIRS_LOG, prefer=vote.prefer, **about)
    _count(state, former, vote, context)
    if vote.prefer == RETRACTED:
        pairs.delete(vote.pair)
        state.answered -= 1
        against = vote.first if asked["melody"] == vote.second else vote.second
        question = open_again(asked, message.root_id, vote.rater, context.time())
        questions.put(asked["melody"], **{**question, "against": against})
        return
    if again and former is not None and former["rater"] == vote.rater:
        state.pair_agreement.n += 1
        state.pair_agreement.same += preference_as_shown(former, vote.first) == vote.prefer
    state.note_heard(asked["melody"])
    # In lock-step the answers of a round come in any order, so a vote is as old as its question.
    age = asked.get("age", state.age) if context.settings.lockstep else state.age
    pairs.put(vote.pair, prefer=vote.prefer, age=age, **about)
    questions.delete(asked["melody"])


def _count(state: State, former: Record | None, vote: Vote, context: Context) -> None:
    """Update the number of pairs, and the votes and wins of both melodies."""
    before = None if former is None else preference_as_shown(former, vote.first)
    now = None if vote.prefer == RETRACTED else vote.prefer
    votes = (now is not None) - (before is not None)
    state.pairs += votes
    compared = context.table("compared")
    for side, melody in enumerate((vote.first, vote.second)):
        record = compared.get(melody) or {"votes": 0, "wins": 0.0}
        wins = record["wins"] + _share(now, side) - _share(before, side)
        if record["votes"] + votes:
            compared.put(melody, votes=record["votes"] + votes, wins=wins)
        else:
            compared.delete(melody)


def _guess(vote: Vote, context: Context) -> float | None:
    """Return the probability that the first is preferred; None if the scores are not known now."""
    pools = [states.read_pool(context, name) for name in ("heard", "pool")]
    scores = [
        next((found for pool in pools if (found := pool.find(melody)) is not None), None)
        for melody in (vote.first, vote.second)
    ]
    if scores[0] is None or scores[1] is None:
        return None
    return round(float(preference(scores[0], scores[1]).mean()), 4)


def _surprise(vote: Vote, context: Context) -> float:
    guess = _guess(vote, context)
    return 1.0 if guess is None else surprise_of_vote(vote.prefer, guess)


def _share(prefer: str | None, side: int) -> float:
    return 0.0 if prefer is None else SHARES[prefer][side]
