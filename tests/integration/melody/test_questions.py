"""Questions on a real server: whose they are, what is sent, what is refused before."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from roomgrad.codec import pack
from roomgrad.errors import Rejected
from roomgrad.redis.client import Client
from roomgrad_melody.contract import MELODY
from roomgrad_melody.genome import from_text
from roomgrad_melody.questions import Given, answer, lease, recent, release
from tests.pages.melody.labelling_run import MELODIES, LabellingRun
from tests.waiting import until

A, B, C, D = MELODIES[:4]


@pytest.fixture
def labelling(url: str) -> Iterator[LabellingRun]:
    with contextlib.ExitStack() as stack:
        yield LabellingRun(url, stack)


def taken(
    labelling: LabellingRun, rater: str, count: int = 1, lease_s: float = 60, **more: Any
) -> list[str]:
    return [each.melody for each in lease(labelling.client, rater, count, lease_s, **more)]


def rate(
    labelling: LabellingRun, rater: str, melody: str, rating: int | None, **more: Any
) -> Given:
    about = (
        labelling.get("questions", melody) or labelling.get("labels", melody) or {"root": "none"}
    )
    return answer(labelling.client, rater, melody, rating, about["root"], **more)


# leases


def test_the_first_by_rank_comes_first(labelling: LabellingRun) -> None:
    """And a rater keeps what they hold, even when something more urgent comes."""
    labelling.ask(B, C)
    assert taken(labelling, "Ada") == [B]
    assert taken(labelling, "Ada", 2) == [B, C]
    labelling.put(
        "questions", A, **{**(labelling.get("questions", B) or {}), "rank": -5.0, "rater": ""}
    )
    assert taken(labelling, "Ada", 2) == [B, C]
    assert taken(labelling, "Bob") == [A]


def test_a_lease_says_how_long_and_says_no_guess(labelling: LabellingRun) -> None:
    """By the clock of the server."""
    labelling.ask(A)
    moment: Any = labelling.redis.time()
    [question] = lease(labelling.client, "Ada", 1, 60)
    assert question.until == pytest.approx(moment[0] + moment[1] / 1e6 + 60, abs=5)
    assert not hasattr(question, "guess")
    record = labelling.get("questions", A) or {}
    assert (record["rater"], record["until"]) == ("Ada", question.until)
    assert record["guess"] == 2.5  # nothing else has changed


def test_two_raters_never_hold_one_question(labelling: LabellingRun) -> None:
    """However many ask at once: each melody goes to one of them."""
    labelling.ask(*MELODIES[:40])
    gate = threading.Barrier(8)

    def take(rater: str) -> list[str]:
        with Client(MELODY, labelling.names.run, labelling.url) as client:
            gate.wait()
            return [each.melody for _ in range(5) for each in lease(client, rater, 5, 60)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(take, [f"rater{number}" for number in range(8)]))
    assert [len(set(mine)) for mine in found] == [5] * 8
    assert len({melody for mine in found for melody in mine}) == 40
    assert taken(labelling, "late", 5) == []


def test_a_lease_that_is_over_gives_the_question_to_others(labelling: LabellingRun) -> None:
    """Not before; and whoever is still there renews theirs."""
    labelling.ask(A, B)
    assert taken(labelling, "Ada", 1, lease_s=0.5) == [A]
    assert taken(labelling, "Bob", 2) == [B]
    assert until(lambda: set(taken(labelling, "Bob", 2)) == {A, B})
    assert taken(labelling, "Ada") == []


def test_a_withdrawn_question_stays_with_its_rater(labelling: LabellingRun) -> None:
    """Nobody else gets it, and it is not taken out of their hands."""
    labelling.ask(A)
    assert taken(labelling, "Ada") == [A]
    labelling.put("questions", A, **{**(labelling.get("questions", A) or {}), "open": False})
    assert taken(labelling, "Ada") == [A]
    assert taken(labelling, "Bob") == []
    release(labelling.client, "Ada")
    assert taken(labelling, "Ada") == []


def test_a_question_for_one_person_goes_to_nobody_else(labelling: LabellingRun) -> None:
    labelling.ask(A, by="Ada", again=True)
    assert taken(labelling, "Bob") == []
    [question] = lease(labelling.client, "Ada", 1, 60)
    assert question.again
    with pytest.raises(Rejected, match="asked of Ada, not of Bob"):
        rate(labelling, "Bob", A, 3)


def test_what_was_skipped_comes_last(labelling: LabellingRun) -> None:
    """And others may have it meanwhile."""
    labelling.ask(A, B, C)
    assert taken(labelling, "Ada", 2) == [A, B]
    assert taken(labelling, "Ada", 2, skipped=[A]) == [B, C]
    assert (labelling.get("questions", A) or {})["rater"] == ""
    assert taken(labelling, "Ada", 3, skipped=[A]) == [B, C, A]
    assert taken(labelling, "Ada", 3, skipped=[B, A]) == [C, B, A]


def test_what_is_on_its_way_is_left_out(labelling: LabellingRun) -> None:
    labelling.ask(A, B, C)
    assert taken(labelling, "Ada", 2) == [A, B]
    assert taken(labelling, "Ada", 2, without=[A]) == [B, C]
    assert (labelling.get("questions", A) or {})["rater"] == "Ada"


def test_releasing_gives_back_what_is_named_or_all(labelling: LabellingRun) -> None:
    labelling.ask(A, B, C)
    assert taken(labelling, "Ada", 3) == [A, B, C]
    release(labelling.client, "Ada", [B])
    assert taken(labelling, "Bob", 3) == [B]
    release(labelling.client, "Ada")
    assert set(taken(labelling, "Bob", 3)) == {A, B, C}


# answers


def test_an_answer_is_a_message_with_the_root_of_its_question(labelling: LabellingRun) -> None:
    """And the question is nobody else's until the learner has taken it."""
    labelling.ask(A, B)
    taken(labelling, "Ada")
    given = rate(labelling, "Ada", A, 4, id="a" * 32, plays=3)
    assert (given.guess, given.version, given.rating) == (2.5, "40-abc", 4)
    [message] = labelling.sent()
    assert message.id == "a" * 32
    assert message.root_id == (labelling.get("questions", A) or {})["root"]
    assert message.fields["RATER"] == "Ada"
    assert message.fields["FITNESS"].tolist() == [4.0]
    assert message.fields["PLAYS"].tolist() == [3]
    assert np.array_equal(message.fields["GENOMES"][0], from_text(A))
    assert taken(labelling, "Ada", 2) == [B]
    release(labelling.client, "Ada")
    assert taken(labelling, "Bob", 2) == [B]


def test_the_same_answer_again_is_not_sent_again(labelling: LabellingRun) -> None:
    """Neither while it waits for the learner, nor when that has stored it, nor after a change."""
    labelling.ask(A)
    root = (labelling.get("questions", A) or {})["root"]
    for _ in range(3):
        answer(labelling.client, "Ada", A, 4, root, "a" * 32)
    assert len(labelling.sent()) == 1
    labelling.learn()
    until(lambda: labelling.get("labels", A))
    answer(labelling.client, "Ada", A, 4, root, "a" * 32)
    answer(labelling.client, "Ada", A, 1, root, "b" * 32)
    until(lambda: (labelling.get("labels", A) or {})["rating"] == 1)
    answer(labelling.client, "Ada", A, 4, root, "a" * 32)
    assert [message.id for message in labelling.sent()] == ["a" * 32, "b" * 32]


def test_an_answer_is_acknowledged_when_it_is_on_the_disk(labelling: LabellingRun) -> None:
    """The server was asked for that, and the first time as well as when it is sent again."""

    def waits() -> int:
        stats: Any = labelling.redis.info("commandstats")
        return int(stats.get("cmdstat_waitaof", {"calls": 0})["calls"])

    labelling.ask(A)
    before = waits()
    rate(labelling, "Ada", A, 4, id="a" * 32)
    assert waits() == before + 1
    rate(labelling, "Ada", A, 4, id="a" * 32)
    assert waits() == before + 2


def test_a_rating_is_changed_and_taken_back(labelling: LabellingRun) -> None:
    """By who gave it; afterwards it may be given anew."""
    labelling.learn()
    labelling.ask(A)
    rate(labelling, "Ada", A, 4)
    until(lambda: labelling.get("labels", A))
    rate(labelling, "Ada", A, 2)
    until(lambda: (labelling.get("labels", A) or {})["rating"] == 2)
    with pytest.raises(Rejected, match="Ada has rated this melody; only they can change that"):
        rate(labelling, "Bob", A, 5)
    rate(labelling, "Ada", A, None)
    until(lambda: labelling.get("labels", A) is None)
    rate(labelling, "Ada", A, 5)
    until(lambda: labelling.get("labels", A))
    ratings = [message.fields["FITNESS"].tolist()[0] for message in labelling.sent()]
    assert ratings[:2] == [4.0, 2.0]
    assert np.isnan(ratings[2])
    assert ratings[3:] == [5.0]


def test_a_rating_is_taken_back_before_the_learner_saw_it(labelling: LabellingRun) -> None:
    """Both messages stand in order, and the question is the rater's again."""
    labelling.ask(A)
    rate(labelling, "Ada", A, 4)
    rate(labelling, "Ada", A, None, id="b" * 32)
    rate(labelling, "Ada", A, None, id="b" * 32)
    assert len(labelling.sent()) == 2
    assert taken(labelling, "Ada") == [A]
    with pytest.raises(Rejected, match="no rating that could be taken back"):
        rate(labelling, "Ada", A, None)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"root": "other"}, "this melody is no longer asked about"),
        ({"melody": B}, "this melody is no longer asked about"),
        ({"melody": "01"}, "has 2 characters; expected 128"),
        ({"rating": 6}, "whole number from 0 to 5"),
        ({"rating": 2.5}, "whole number from 0 to 5"),
        ({"rating": None}, "no rating that could be taken back"),
        ({"rater": ""}, "1 to 40 printable characters"),
        ({"rater": "Bob"}, "Ada listens to this melody now"),
    ],
)
def test_what_would_be_refused_is_not_sent(
    labelling: LabellingRun, changed: dict[str, Any], reason: str
) -> None:
    """The rater is told why, and nothing has changed."""
    labelling.ask(A)
    taken(labelling, "Ada")
    before = labelling.table("questions")
    given = {"rater": "Ada", "melody": A, "rating": 3, "root": before[A]["root"], **changed}
    with pytest.raises(Rejected, match=reason):
        answer(labelling.client, **given)
    assert labelling.sent() == []
    assert labelling.table("questions") == before


def test_what_somebody_else_has_rated_meanwhile_is_refused(labelling: LabellingRun) -> None:
    labelling.ask(A)
    taken(labelling, "Ada", lease_s=0.05)
    until(lambda: taken(labelling, "Bob") == [A])
    rate(labelling, "Bob", A, 3)
    with pytest.raises(Rejected, match="Bob has rated this melody meanwhile"):
        rate(labelling, "Ada", A, 3)
    assert len(labelling.sent()) == 1


def test_late_is_fine_while_nobody_else_has_taken_it(labelling: LabellingRun) -> None:
    """Work of a person is not thrown away without need."""
    labelling.ask(A)
    [question] = lease(labelling.client, "Ada", 1, 0.05)
    until(lambda: labelling.redis.time()[0] > question.until)
    rate(labelling, "Ada", A, 3)
    assert len(labelling.sent()) == 1


# looking back


def test_the_last_ratings_of_a_rater(labelling: LabellingRun) -> None:
    """Newest first, of each melody the newest revision, without what was taken back."""
    labelling.learn()
    labelling.ask(A, B, C, D)
    for melody, rating in ((A, 1), (B, 2), (C, 3)):
        rate(labelling, "Ada", melody, rating)
        until(lambda melody=melody: labelling.get("labels", melody))
    rate(labelling, "Bob", D, 5)
    rate(labelling, "Ada", A, 4)
    until(lambda: (labelling.get("labels", A) or {})["rating"] == 4)
    rate(labelling, "Ada", B, None)
    until(lambda: labelling.get("labels", B) is None)
    found = recent(labelling.client, "Ada")
    assert [(each.melody, each.rating) for each in found] == [(A, 4), (C, 3)]
    assert found[0].guess == 2.5
    assert [each.rating for each in recent(labelling.client, "Bob")] == [5]
    assert len(recent(labelling.client, "Ada", 1)) == 1


def test_what_the_learner_has_not_seen_yet_is_among_the_last(labelling: LabellingRun) -> None:
    labelling.ask(A, B)
    rate(labelling, "Ada", A, 1, plays=2)
    rate(labelling, "Ada", B, 2)
    rate(labelling, "Ada", B, None)
    [found] = recent(labelling.client, "Ada")
    assert (found.melody, found.rating, found.plays) == (A, 1, 2)


def test_to_look_back_is_cheap_with_thousands_of_labels(labelling: LabellingRun) -> None:
    """Some 50 entries are read, not all."""
    pipe = labelling.redis.pipeline(transaction=False)
    for number in range(5000):
        melody = MELODIES[number % 400]
        record = {"melody": melody, "rating": 3, "rater": "Ada", "at": time.time()}
        pipe.xadd(
            labelling.names.log("labels"), {"m": pack({**record, "answer": "x", "root": "r"})}
        )
    pipe.execute()
    before: Any = labelling.redis.info("stats")
    assert len(recent(labelling.client, "Ada")) == 10
    after: Any = labelling.redis.info("stats")
    assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < 40_000


def test_run_names_are_apart(labelling: LabellingRun) -> None:
    """A question of one run is none of another."""
    labelling.ask(A)
    with Client(MELODY, f"test-{secrets.token_hex(6)}", labelling.url) as other:
        assert lease(other, "Ada", 1, 60) == []
