"""Runs whose raters say which of two melodies is better: repeatable, and no vote is lost."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from roomgrad.codec import unpack
from roomgrad.errors import Rejected
from roomgrad.messages import new_id
from roomgrad.redis.client import Client
from roomgrad_melody.contract import EVALNET, EVOLUTION, FIRST, LEARNER, PAIRS_LOG, SECOND
from roomgrad_melody.genome import from_text, pair_key
from roomgrad_melody.questions import Question
from roomgrad_melody.rater.rater import preference
from roomgrad_melody.votes import Vote, pair_of, prefer
from tests.systems.melody.play import (
    RATER,
    Play,
    Record,
    Run,
    assert_batches_exact,
    assert_exact,
    lockstep,
    sha256,
)
from tests.systems.melody.play import play as play
from tests.systems.melody.test_kill import AFTER, MEANWHILE, Person, settle
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)


def votes(run: Run) -> list[Record]:
    """Every revision of a vote, in order."""
    entries = run.client.xrange(run.names.log(PAIRS_LOG))
    return [unpack(fields[b"m"]) for _, fields in entries]


def assert_as_voted(run: Run) -> None:
    """The newest revision of each pair is stored, and the votes of each melody add up."""
    stored = run.records("pairs")
    newest = {pair_key(one["first"], one["second"]): one["answer"] for one in votes(run)}
    assert {pair: one["answer"] for pair, one in stored.items()} == newest
    assert run.record("learning", "now")["pairs"] == len(stored)
    compared = run.records("compared")
    assert sum(each["votes"] for each in compared.values()) == 2 * len(stored)
    decided = [one for one in stored.values() if one["prefer"] in (FIRST, SECOND)]
    assert sum(each["wins"] for each in compared.values()) == len(decided)


def test_a_run_of_votes_repeats_from_its_seed(play: Play) -> None:
    """On any replicas: ratings and votes in turn, one after the other or several at once."""
    found = []
    for replicas in ({}, {EVALNET: 2, LEARNER: 2}):
        flags = lockstep(3, 4, epochs=2, ask="both", **{"ask-every": 2})
        run = play(flags, {RATER: 1, **replicas})
        assert_exact(run)
        assert_as_voted(run)
        pairs = {name: one["prefer"] for name, one in run.records("pairs").items()}
        for one in run.records("pairs").values():
            first, second = from_text(one["first"]), from_text(one["second"])
            assert one["prefer"] == preference(first, second)
        assert len(pairs) >= 4
        assert len(run.ratings()) >= 4
        found.append((run.result(), sha256(repr(sorted(pairs.items())).encode())))
    assert found[0] == found[1]


class Voter(Person):
    """A person who compares melodies; the winner stays."""

    def __init__(self, run: Run, name: str) -> None:
        super().__init__(run, name)
        self.winner = ""
        self.voted: dict[str, tuple[str, str, str]] = {}

    def rate(self, question: Question) -> None:
        """Vote, as often as it takes to be told that it stands, or that it is refused."""
        first, second = pair_of(question, self.winner)
        assert first
        id, choice = new_id(), preference(from_text(first), from_text(second))

        def send(client: Client) -> Vote:
            return prefer(client, self.name, first, second, choice, question.root, id=id)

        try:
            vote = until(lambda: self._reached(send))
        except Rejected:  # a server that fell back may have forgotten that it was asked
            self.winner = ""
            return
        self.winner = vote.winner
        self.voted[id] = (first, second, choice)


def test_no_acknowledged_vote_is_lost_or_doubled(play: Play) -> None:
    """kill -9 of each component and of the server around each vote, the learner three times."""
    flags = {
        LEARNER: {"epochs": 2, "again": 0.2, "ask": "pairs"},
        EVOLUTION: {"pause-s": 0.1},
    }
    run = play(flags)
    person = Voter(run, "anna")
    dice = random.Random(1)
    victims = [LEARNER, EVALNET, LEARNER, AFTER, MEANWHILE, LEARNER]
    for victim in victims:
        question = person.take()
        with ThreadPoolExecutor() as beside:
            voted = beside.submit(person.rate, question)
            if victim == MEANWHILE:
                run.kill_server()
            voted.result()
        if victim == AFTER:
            run.kill_server()
        elif victim != MEANWHILE:
            run.wait_messages(run.messages + dice.randrange(3))
            run.kill(victim)
    settle(run)
    revisions = votes(run)
    assert len(person.voted) >= len(victims) - 1
    stored = {each["answer"]: (each["first"], each["second"], each["prefer"]) for each in revisions}
    assert stored == person.voted
    assert len(revisions) == len(stored)
    assert_as_voted(run)
    assert_batches_exact(run)
    trained = run.record("learning", "training")
    assert len(trained["preferences"]) == len(run.records("pairs"))
