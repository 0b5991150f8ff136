"""Votes on a real server: what a rater's side sends, and what the learner makes of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from roomgrad.errors import Rejected
from roomgrad.memory import Table
from roomgrad.testing import running
from roomgrad_melody.genome import pair_key, texts
from roomgrad_melody.learner import votes as learner_votes
from roomgrad_melody.learner.handlers import component as learner
from roomgrad_melody.learner.settings import LearnerSettings
from roomgrad_melody.questions import answer, lease, release
from roomgrad_melody.votes import Vote, pair_of, prefer, recent_answers, recent_votes
from tests.pages.melody.labelling_run import MELODIES, QUICK, LabellingRun
from tests.waiting import until

A, B, C, D = MELODIES[:4]
HEARD = MELODIES[10]
ID = "a" * 32


@pytest.fixture
def labelling(url: str) -> Iterator[LabellingRun]:
    with contextlib.ExitStack() as stack:
        yield LabellingRun(url, stack)


def learn(labelling: LabellingRun) -> None:
    """Start the learner. Without evalnet it takes answers, and neither trains nor asks."""
    settings = LearnerSettings(run=labelling.names.run, **QUICK)
    replica = labelling.stack.enter_context(running(learner, settings, labelling.url))
    until(lambda: labelling.redis.exists(labelling.names.alive(replica.consumer)))


def vote(labelling: LabellingRun, first: str, second: str, prefers: str, **more: Any) -> Vote:
    """Ada's vote about a question of the second melody, or about a pair that is stored."""
    stored = labelling.get("pairs", pair_key(first, second))
    root = (labelling.get("questions", second) or stored or {"root": "none"})["root"]
    return prefer(labelling.client, "Ada", first, second, prefers, root, **more)


def stored(labelling: LabellingRun, first: str, second: str) -> str:
    return str((labelling.get("pairs", pair_key(first, second)) or {"prefer": ""})["prefer"])


def test_the_question_says_what_it_is_against(labelling: LabellingRun) -> None:
    """The winner of the last vote stays; a repeated pair is shown as it is asked for."""
    labelling.ask(A, B, against=HEARD)
    labelling.put(
        "questions", C, **{**(labelling.get("questions", B) or {}), "pair": [C, D], "again": True}
    )
    labelling.put("questions", D, **{**(labelling.get("questions", B) or {}), "against": ""})
    found = {each.melody: each for each in lease(labelling.client, "Ada", 4, 60)}
    assert found[A].against == HEARD
    assert pair_of(found[A]) == (HEARD, A)
    assert pair_of(found[B], winner=A) == (A, B)
    assert pair_of(found[A], winner=A) == (HEARD, A)
    assert pair_of(found[C], winner=A) == (C, D)
    assert pair_of(found[D]) == ("", D)
    assert pair_of(found[D], winner=B) == (B, D)


def test_a_vote_is_a_message_with_the_root_of_its_question(labelling: LabellingRun) -> None:
    """And the question is nobody else's until the learner has taken it."""
    labelling.ask(A, B, against=HEARD)
    lease(labelling.client, "Ada", 1)
    given = vote(labelling, HEARD, A, "second", id=ID, listened=(4000, 2500))
    assert (given.prefer, given.winner, given.listened) == ("second", A, (4000, 2500))
    [message] = labelling.sent()
    assert (message.id, message.fields["PREFER"], message.fields["RATER"]) == (ID, "second", "Ada")
    assert message.root_id == (labelling.get("questions", A) or {})["root"]
    assert texts(message.fields["PAIR"]) == [HEARD, A]
    assert message.fields["LISTENED"].tolist() == [4000, 2500]
    release(labelling.client, "Ada")
    assert [each.melody for each in lease(labelling.client, "Bob", 2)] == [B]


def test_the_same_vote_again_is_sent_and_stored_once(labelling: LabellingRun) -> None:
    """While it waits for the learner, when that has stored it, and after a change."""
    labelling.ask(A, against=HEARD)
    root = (labelling.get("questions", A) or {})["root"]

    def again(prefers: str, id: str) -> None:
        prefer(labelling.client, "Ada", HEARD, A, prefers, root, id)

    for _ in range(3):
        again("first", ID)
    assert len(labelling.sent()) == 1
    learn(labelling)
    until(lambda: stored(labelling, HEARD, A))
    again("first", ID)
    again("second", "b" * 32)
    until(lambda: stored(labelling, HEARD, A) == "second")
    again("first", ID)
    assert [message.id for message in labelling.sent()] == [ID, "b" * 32]


def test_the_winner_stays_before_the_learner_has_seen_its_vote(labelling: LabellingRun) -> None:
    """Five votes in a row, then the learner; each is stored, and they form one graph."""
    labelling.ask(*MELODIES[:5], against=HEARD)
    winner = HEARD
    for melody in MELODIES[:5]:
        winner = vote(labelling, winner, melody, "second").winner
    learn(labelling)
    until(lambda: len(labelling.table("pairs")) == 5)
    assert labelling.redis.xlen(labelling.names.dead()) == 0
    assert (labelling.get("learning", "now") or {})["pairs"] == 5


def test_a_vote_is_changed_and_taken_back(labelling: LabellingRun) -> None:
    """Only by its rater; afterwards the melody may be compared or rated anew."""
    learn(labelling)
    labelling.ask(A, against=HEARD)
    vote(labelling, HEARD, A, "first")
    until(lambda: stored(labelling, HEARD, A))
    vote(labelling, HEARD, A, "equal")
    until(lambda: stored(labelling, HEARD, A) == "equal")
    root = (labelling.get("pairs", pair_key(A, HEARD)) or {})["root"]
    with pytest.raises(Rejected, match="Ada has compared these melodies; only they can change"):
        prefer(labelling.client, "Bob", HEARD, A, "first", root)
    vote(labelling, HEARD, A, "retracted")
    until(lambda: not stored(labelling, HEARD, A))
    [question] = lease(labelling.client, "Ada", 1)
    assert (question.melody, question.against) == (A, HEARD)
    answer(labelling.client, "Ada", A, 4, question.root)
    until(lambda: labelling.get("labels", A))
    assert labelling.redis.xlen(labelling.names.dead()) == 0


def test_a_vote_is_taken_back_before_the_learner_saw_it(labelling: LabellingRun) -> None:
    """The messages are handled in order, and the question is the rater's again."""
    labelling.ask(A, against=HEARD)
    vote(labelling, HEARD, A, "first")
    with pytest.raises(Rejected, match="you have compared this melody; take that back"):
        answer(labelling.client, "Ada", A, 4, (labelling.get("questions", A) or {})["root"])
    vote(labelling, HEARD, A, "retracted", id=ID)
    vote(labelling, HEARD, A, "retracted", id=ID)
    assert len(labelling.sent()) == 2
    assert [each.melody for each in lease(labelling.client, "Ada", 1)] == [A]
    with pytest.raises(Rejected, match="no vote that could be taken back"):
        vote(labelling, HEARD, A, "retracted")
    answer(labelling.client, "Ada", A, 4, (labelling.get("questions", A) or {})["root"])
    learn(labelling)
    until(lambda: labelling.get("labels", A))
    assert labelling.redis.xlen(labelling.names.dead()) == 0
    assert labelling.table("pairs") == {}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"root": "other"}, "these melodies are no longer asked about"),
        ({"second": B}, "these melodies are no longer asked about"),
        ({"first": B}, "the other melody was never heard"),
        ({"first": A}, "compared with itself"),
        ({"first": "01"}, "has 2 characters; expected 128"),
        ({"preference": "better"}, "a preference is first, second, equal, neither, or retracted"),
        ({"preference": 1}, "a preference is"),
        ({"preference": "retracted"}, "no vote that could be taken back"),
        ({"rater": ""}, "1 to 40 printable characters"),
        ({"rater": "Bob"}, "Ada listens to this melody now"),
    ],
)
def test_what_would_be_refused_is_not_sent(
    labelling: LabellingRun, changed: dict[str, Any], reason: str
) -> None:
    """The rater is told why, and nothing has changed."""
    labelling.ask(A, against=HEARD)
    lease(labelling.client, "Ada", 1)
    before = labelling.table("questions")
    root = before[A]["root"]
    given = {"rater": "Ada", "first": HEARD, "second": A, "preference": "first", "root": root}
    with pytest.raises(Rejected, match=reason):
        prefer(labelling.client, **{**given, **changed})
    assert labelling.sent() == []
    assert labelling.table("questions") == before


def test_a_vote_for_a_withdrawn_question_counts(labelling: LabellingRun) -> None:
    learn(labelling)
    labelling.ask(A, against=HEARD)
    lease(labelling.client, "Ada", 1)
    labelling.put("questions", A, **{**(labelling.get("questions", A) or {}), "open": False})
    vote(labelling, HEARD, A, "first")
    until(lambda: stored(labelling, HEARD, A))


def test_a_vote_is_stored_once_if_a_replica_comes_back(
    labelling: LabellingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learner that was taken for dead has handled it, too; what it staged has no effect."""
    awake, released, take = threading.Event(), threading.Event(), learner_votes.take

    def sleepy(*args: Any) -> list[str]:
        changed = take(*args)
        if not awake.is_set():
            awake.set()
            assert released.wait(60)
        return changed

    monkeypatch.setattr(learner_votes, "take", sleepy)
    slow = {**QUICK, "heartbeat_interval_s": 30.0}
    settings = LearnerSettings(run=labelling.names.run, **slow)
    zombie = labelling.stack.enter_context(running(learner, settings, labelling.url))
    labelling.ask(A, against=HEARD)
    vote(labelling, HEARD, A, "first")
    try:
        assert awake.wait(60)
        learn(labelling)
        until(lambda: stored(labelling, HEARD, A))
    finally:
        released.set()
    until(lambda: zombie.status.handling is None)
    assert labelling.redis.xlen(labelling.names.log("pairs")) == 1
    assert (labelling.get("learning", "now") or {})["pairs"] == 1
    assert (labelling.get("compared", HEARD) or {}) == {"votes": 1, "wins": 1}
    assert labelling.redis.xlen(labelling.names.dead()) == 0


def test_the_last_answers_of_a_rater_are_of_both_kinds(labelling: LabellingRun) -> None:
    """Newest first, those that the learner has not seen yet among them."""
    learn(labelling)
    labelling.ask(A, B, C, against=HEARD)
    vote(labelling, HEARD, A, "first")
    until(lambda: stored(labelling, HEARD, A))
    answer(labelling.client, "Ada", B, 3, (labelling.get("questions", B) or {})["root"])
    until(lambda: labelling.get("labels", B))
    vote(labelling, HEARD, C, "neither", listened=(1, 2))
    found = recent_answers(labelling.client, "Ada")
    kinds = [each.prefer if isinstance(each, Vote) else each.rating for each in found]
    assert kinds == ["neither", 3, "first"]
    assert [each.prefer for each in recent_votes(labelling.client, "Ada")] == ["neither", "first"]
    assert recent_votes(labelling.client, "Ada")[0].listened == (1, 2)
    assert recent_answers(labelling.client, "Bob") == []


def test_what_a_vote_on_its_way_names_counts_as_heard(labelling: LabellingRun) -> None:
    """The winner stays, also if it was no question: then only the vote before names it."""
    [first] = labelling.ask(A, against=HEARD)
    [second] = labelling.ask(B, against=C)
    with pytest.raises(Rejected, match="the other melody was never heard"):
        vote(labelling, HEARD, second, "first")
    vote(labelling, HEARD, first, "first")
    vote(labelling, HEARD, second, "second")
    learn(labelling)
    until(lambda: stored(labelling, HEARD, second) == "second")
    assert stored(labelling, HEARD, first) == "first"


def test_what_the_learner_stores_while_a_vote_is_checked_counts_as_heard(
    labelling: LabellingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vote before moves from its question to the table of what was compared."""
    [first] = labelling.ask(A, against=HEARD)
    [second] = labelling.ask(B, against=C)
    vote(labelling, HEARD, first, "first")
    peek = Table.peek

    def peek_late(table: Table) -> dict[str, dict[str, Any]]:
        monkeypatch.setattr(Table, "peek", peek)
        learn(labelling)
        until(lambda: stored(labelling, HEARD, first))
        return peek(table)

    monkeypatch.setattr(Table, "peek", peek_late)
    vote(labelling, HEARD, second, "second")
    until(lambda: stored(labelling, HEARD, second) == "second")
