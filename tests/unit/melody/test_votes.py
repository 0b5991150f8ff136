"""Votes, which of two melodies is better: what the learner stores, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roomgrad import Message
from roomgrad.errors import MessageError, Rejected, SchemaError
from roomgrad_melody.contract import CUSTOM, HEADS, TRAINOUTPUT, USER, is_question
from roomgrad_melody.genome import from_texts, pair_key, texts, unpacked
from roomgrad_melody.learner.pool import Pool
from roomgrad_melody.ordinal import DECISION
from tests.unit.melody.component_driver import GENOMES, Learner, asked, rated, voted

STRANGER, OTHER = texts(GENOMES[:2])


def comparing(**settings: Any) -> tuple[Learner, str, str]:
    """A learner that asks for votes; the first melody, and the one that it is against."""
    learner = asked(ask="pairs", epochs=1, **settings)
    melody = min(learner.questions, key=lambda name: learner.questions[name]["rank"])
    return learner, melody, learner.questions[melody]["against"]


def test_a_pair_has_one_key_in_either_order() -> None:
    assert pair_key(OTHER, STRANGER) == pair_key(STRANGER, OTHER)
    assert sorted(pair_key(OTHER, STRANGER).split("-")) == sorted([STRANGER, OTHER])


def test_a_learner_that_asks_for_votes_sends_each_pair_by_itself() -> None:
    """Each has a root of its own; the melody that is asked about is the second."""
    learner = Learner(ask="pairs")
    said = learner.start()
    assert len(said) == 5
    assert len({message.root_id for message in said}) == 5
    for message in said:
        first, second = texts(message.fields["PAIR"])
        assert first not in learner.questions
        record = learner.questions[second]
        assert (record["against"], record["root"]) == (first, message.root_id)
        assert first != second
        assert is_question(message.fields)


def test_a_learner_that_asks_for_both_takes_turns() -> None:
    learner = Learner(ask="both")
    learner.start()
    ranked = sorted(learner.questions.values(), key=lambda record: record["rank"])
    kinds = [bool(record["against"]) for record in ranked]
    assert kinds in ([True, False] * 2 + [True], [False, True] * 2 + [False])


@pytest.mark.parametrize(
    ("preference", "wins"),
    [("first", (1, 0)), ("second", (0, 1)), ("equal", (0.5, 0.5)), ("neither", (0, 0))],
)
def test_a_vote_is_stored_with_its_revisions(preference: str, wins: tuple[float, float]) -> None:
    learner, melody, against = comparing()
    learner.vote(against, melody, preference, listened=[1200, 900])
    [(key, record)] = learner.tables["pairs"].items()
    assert key == pair_key(melody, against)
    assert (record["first"], record["second"]) == (against, melody)
    assert (record["prefer"], record["rater"], record["melody"]) == (preference, "anna", melody)
    assert record["listened"] == [1200, 900]
    assert melody not in learner.questions
    compared = learner.tables["compared"]
    assert [compared[name] for name in (against, melody)] == [
        {"votes": 1, "wins": won} for won in wins
    ]
    assert (learner.now["pairs"], learner.now["answered"], learner.now["labels"]) == (1, 1, 0)
    assert [revision["prefer"] for revision in learner.log] == [preference]


def test_a_vote_in_the_other_order_is_the_same_pair() -> None:
    learner, melody, against = comparing()
    learner.vote(melody, against, "first")
    [record] = learner.tables["pairs"].values()
    assert (record["first"], record["melody"]) == (melody, melody)
    assert learner.tables["compared"][melody]["wins"] == 1


def test_a_vote_that_came_twice_is_one_revision() -> None:
    learner, melody, against = comparing()
    message = voted(against, melody, "first", learner.questions[melody]["root"])
    learner.hear(message)
    learner.hear(message)
    assert len(learner.log) == 1
    assert (learner.now["pairs"], learner.now["answered"]) == (1, 1)


def test_a_vote_can_be_changed_and_taken_back_and_given_anew() -> None:
    """Each is a revision; then the question is held by the rater who took it back."""
    learner, melody, against = comparing()
    for preference in ("first", "second"):
        learner.vote(against, melody, preference)
    assert learner.tables["compared"][melody] == {"votes": 1, "wins": 1}
    learner.vote(against, melody, "retracted")
    assert learner.tables["pairs"] == {} == learner.tables["compared"]
    assert (learner.now["pairs"], learner.now["answered"]) == (0, 0)
    question = learner.questions[melody]
    assert (question["rater"], question["against"]) == ("anna", against)
    learner.vote(against, melody, "equal")
    assert learner.now["pairs"] == 1
    revisions = [revision["prefer"] for revision in learner.log]
    assert revisions == ["first", "second", "retracted", "equal"]


def test_the_winner_stays_and_is_compared_with_another_question() -> None:
    """It was heard, so it need not be what the question is against."""
    learner, melody, against = comparing()
    learner.vote(against, melody, "second")
    following = min(learner.questions, key=lambda name: learner.questions[name]["rank"])
    learner.vote(melody, following, "second")
    assert learner.questions != {}
    learner.vote(against, min(learner.questions), "first")
    assert learner.now["pairs"] == 3


def test_a_vote_for_the_winner_of_a_vote_that_comes_later_is_stored() -> None:
    """Replicas of the learner may handle the votes of a rater in another order."""
    learner, melody, against = comparing()
    ranked = sorted(learner.questions, key=lambda name: learner.questions[name]["rank"])
    following = next(name for name in ranked if name not in (melody, against))
    learner.tables["questions"][following]["against"] = against
    vote = voted(melody, following, "second", learner.questions[following]["root"])
    with pytest.raises(Rejected, match="never heard"):
        learner.hear(vote)
    learner.tables["questions"][melody] |= {"rater": "anna", "until": 9e9}
    learner.hear(vote)
    assert learner.now["pairs"] == 1


def test_a_withdrawn_question_may_still_be_compared() -> None:
    learner, melody, against = comparing()
    learner.tables["questions"][melody]["open"] = False
    before = learner.now["asked"]
    learner.vote(against, melody, "first")
    assert learner.now["pairs"] == 1
    assert learner.now["asked"] >= before


def test_each_question_may_be_rated_or_compared() -> None:
    """What was asked is a wish."""
    learner, melody, _ = comparing()
    learner.answer(melody, 4)
    assert learner.labels == {melody: 4}
    ratings = asked()
    first, second, *_ = ratings.questions
    ratings.answer(first, 4)
    ratings.vote(first, second, "second")
    assert (ratings.now["labels"], ratings.now["pairs"]) == (1, 1)


def test_melodies_that_were_compared_are_no_candidates() -> None:
    """Evolution may breed them again."""
    learner, melody, against = comparing()
    learner.vote(against, melody, "first")
    bred = rated(from_texts([melody, against]), "v0", GENERATION=np.array(5))
    learner.scores(learner.hear(bred), "v0")
    pool = unpacked(learner.tables["learning"]["pool"]["genomes"])
    assert not {melody, against} & set(texts(pool))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"PAIR": None}, "needs both PAIR and PREFER"),
        ({"PREFER": "better"}, "PREFER: expected first or second or equal or neither or retracted"),
        ({"PAIR": np.zeros((3, 128), "|u1")}, "PAIR: expected shape"),
        ({"PAIR": np.full((2, 128), 2, "|u1")}, "PAIR: expected numbers from 0 to 1"),
        ({"PAIR": np.zeros((2, 128), "|u1")}, "is compared with itself"),
        ({"GENOMES": GENOMES[:1]}, "has GENOMES or FITNESS, too"),
        ({"FITNESS": np.array([1.0])}, "has GENOMES or FITNESS, too"),
        ({"LISTENED": np.array([-1, 5])}, "LISTENED: expected numbers from 0"),
        ({"RATER": "ben", "PREFER": "retracted"}, "has no vote that could be taken back"),
    ],
)
def test_votes_of_the_wrong_form_are_refused_whole(change: dict[str, Any], reason: str) -> None:
    """Nothing is stored, and the question stays open."""
    learner, melody, against = comparing()
    message = voted(against, melody, "first", learner.questions[melody]["root"])
    fields = {**message.fields, "LISTENED": np.array([1, 2]), **change}
    message.fields = {name: value for name, value in fields.items() if value is not None}
    with pytest.raises(MessageError, match=reason):
        learner.hear(message)
    assert learner.tables.get("pairs", {}) == {}
    assert melody in learner.questions


@pytest.mark.parametrize(
    "fields", [{}, {"RATER": "anna"}, {"FITNESS": np.array([1.0])}], ids=["", "rater", "fitness"]
)
def test_a_message_without_melodies_is_refused(fields: dict[str, Any]) -> None:
    """The sentence says what an answer needs."""
    learner, _, _ = comparing()
    message = Message.open(USER, type=CUSTOM)
    message.fields = fields
    with pytest.raises(Rejected, match="a rating needs GENOMES and FITNESS, a vote PAIR and PREF"):
        learner.hear(message)


def test_a_vote_that_answers_no_question_is_refused() -> None:
    learner, melody, against = comparing()
    root = learner.questions[melody]["root"]
    with pytest.raises(Rejected, match=r"neither melody of .* is part of the question another"):
        learner.hear(voted(against, melody, "first", "another"))
    with pytest.raises(Rejected, match=r"neither melody of .* is part of the question"):
        learner.hear(voted(STRANGER, OTHER, "first", root))
    with pytest.raises(Rejected, match=f"{STRANGER} was never heard"):
        learner.hear(voted(STRANGER, melody, "first", root))
    learner.tables["questions"][melody]["by"] = "ben"
    with pytest.raises(Rejected, match="was asked of ben, not of anna"):
        learner.hear(voted(against, melody, "first", root))


def test_a_vote_of_another_rater_is_not_replaced() -> None:
    learner, melody, against = comparing()
    root = learner.questions[melody]["root"]
    learner.hear(voted(against, melody, "first", root))
    for preference in ("second", "retracted"):
        with pytest.raises(Rejected, match="was answered by anna before"):
            learner.hear(voted(against, melody, preference, root, "ben"))


def imported(first: str, second: str, preference: str, conflict: str) -> Message:
    message = voted(first, second, preference, "import")
    message.fields = {**message.fields, "CONFLICT": conflict, "AT": np.array([1e9])}
    return message


def test_votes_are_imported() -> None:
    """With their rater and time, as labels are; a conflict is one of the preferences."""
    learner, melody, against = comparing()
    learner.hear(imported(STRANGER, melody, "first", "error"))
    learner.hear(imported(melody, STRANGER, "second", "error"))  # says the same
    with pytest.raises(Rejected, match="has the vote second already, the import says first"):
        learner.hear(imported(melody, STRANGER, "first", "error"))
    learner.hear(imported(melody, STRANGER, "first", "keep"))
    [record] = learner.tables["pairs"].values()
    assert (record["prefer"], record["at"], record["rater"]) == ("second", 1e9, "anna")
    learner.hear(imported(melody, STRANGER, "first", "replace"))
    assert learner.tables["compared"][melody] == {"votes": 1, "wins": 1}
    assert learner.now["pairs"] == 1
    assert melody not in learner.questions
    assert learner.now["asked"] == learner.now["answered"] + len(learner.questions)
    with pytest.raises(Rejected, match="taken back; expected a preference"):
        learner.hear(imported(melody, against, "retracted", "keep"))


# learning


def trained(learner: Learner, said: list[Message], version: str) -> list[Message]:
    """Plays evalnet: a training run, then scores of all melodies by the new version."""
    batches, after = learner.train(said)
    assert batches
    return learner.scores(after, version)


def heard(learner: Learner) -> Pool:
    return Pool.of(learner.tables["learning"]["heard"])


def test_votes_are_learned_as_labels_are() -> None:
    """A batch holds both melodies of each pair."""
    learner, melody, against = comparing()
    [forward] = learner.vote(against, melody, "second")
    assert texts(forward.array.astype(np.uint8)) == [against, melody]
    asked = learner.memory[forward.root_id]
    assert (asked["target"].tolist(), asked["preferences"].tolist()) == ([], [1])
    trained(learner, [forward], "v1")
    learner.answer(min(learner.questions), 4)
    training = learner.tables["learning"]["training"]
    assert (training["ratings"].tolist(), training["preferences"].tolist()) == ([4], [1])
    assert training["weights"][0] == 1.0 > training["weights"][1]


def test_scores_of_another_number_than_the_batch_are_refused() -> None:
    learner, melody, against = comparing()
    [forward] = learner.vote(against, melody, "second")
    scores = forward.reply(TRAINOUTPUT, np.zeros((1, HEADS), "<f4"))
    with pytest.raises(SchemaError, match=r"expected \(2, 16\) scores, got \(1, 16\)"):
        learner.hear(scores)


def test_melodies_are_against_the_one_that_is_believed_to_be_best() -> None:
    """Of those that were heard, by the scores of the latest version."""
    learner, melody, against = comparing()
    for number in range(4):
        trained(learner, learner.vote(against, melody, "second"), f"v{number}")
        known = heard(learner)
        assert known.scored.all()
        best = texts(known.genomes)[int(known.scores.mean(axis=1).argmax())]
        assert {question["against"] for question in learner.questions.values()} == {best}
        melody, against = min(learner.questions), best


def test_a_vote_has_the_guess_of_the_version_before_it() -> None:
    """None if the melodies have no scores at that moment, as the network is being trained."""
    learner, melody, against = comparing()
    said = learner.vote(against, melody, "first")
    assert 0 < learner.log[-1]["guess"] < 1
    learner.vote(against, min(learner.questions), "first")
    assert learner.log[-1]["guess"] is None
    trained(learner, said, "v1")
    following = min(learner.questions)
    known = dict(zip(texts(heard(learner).genomes), heard(learner).scores, strict=True))
    pool = Pool.of(learner.tables["learning"]["pool"])
    score = pool.scores[texts(pool.genomes).index(following)]
    said = learner.vote(against, following, "first")
    expected = (1 / (1 + np.exp((score - known[against]) / DECISION))).mean()
    assert learner.log[-1]["guess"] == pytest.approx(expected, abs=1e-3)
    assert learner.log[-1]["version"] == "v1"


def test_one_vote_in_ten_is_asked_for_again_in_the_other_order() -> None:
    """Of the rater who voted last; how often they prefer the same is the agreement of pairs."""
    learner = asked(ask="pairs", again=0.1, epochs=1)
    kept = True
    for number in range(25):
        questions = learner.questions
        melody = min(questions, key=lambda name: questions[name]["rank"])
        question = questions[melody]
        if question["again"]:
            first, second = question["pair"]
            before = learner.tables["pairs"][pair_key(first, second)]
            assert (before["first"], before["second"]) == (second, first)
            assert question["by"] == "anna"
            same = {"first": "second", "second": "first"}[before["prefer"]]
            preference, kept = (same if kept else before["prefer"]), not kept
        else:
            first, second, preference = question["against"], melody, "first"
        trained(learner, learner.vote(first, second, preference), f"v{number}")
    assert learner.now["pair_agreement"] == {"n": 2, "same": 1}
    assert learner.now["pairs"] == 23


def test_all_melodies_that_were_compared_are_one_graph() -> None:
    """Whichever wins, also if neither does: each question is against a melody that was heard."""
    learner, melody, against = comparing()
    for number in range(8):
        preference = ["first", "second", "equal", "neither"][number % 4]
        trained(learner, learner.vote(against, melody, preference), f"v{number}")
        melody = min(learner.questions)
        against = learner.questions[melody]["against"]
    edges = [set(key.split("-")) for key in learner.tables["pairs"]]
    reached = set(edges[0])
    for _ in edges:
        reached = reached.union(*(edge for edge in edges if edge & reached))
    assert reached == set().union(*edges)
    assert len(reached) == 9


def test_ratings_and_votes_take_turns_and_both_are_repeated() -> None:
    learner = asked(ask="both", again=0.1, epochs=1)
    kinds, repeated = [], []
    for number in range(40):
        questions = learner.questions
        melody = min(questions, key=lambda name: questions[name]["rank"])
        question = questions[melody]
        first, second = question["pair"] or (question["against"], melody)
        if question["again"]:
            repeated.append(bool(question["pair"]))
        else:
            kinds.append(bool(first))
        if first:
            said = learner.vote(first, second, "second")
        else:
            said = learner.answer(melody, 3)
        trained(learner, said, f"v{number}")
    assert len(repeated) == 3
    assert 0.4 < np.mean(kinds) < 0.6
    assert (learner.now["agreement"]["n"], learner.now["pair_agreement"]["n"]) == (
        repeated.count(False),
        repeated.count(True),
    )
