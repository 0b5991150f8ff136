"""What the learner and evolution promise beside what the tutorial did wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roomgrad import Message
from roomgrad.errors import MessageError, Rejected
from roomgrad_melody.contract import (
    ASK,
    COMMAND,
    CONTROL,
    CUSTOM,
    EVOLUTION_ROOM,
    START,
    STOP,
    USER,
)
from roomgrad_melody.genome import from_text, from_texts, text, texts
from roomgrad_melody.learner.strategy import DISTANCE, distances
from tests.unit.melody.component_driver import (
    GENOMES,
    Learner,
    answer_fields,
    answered,
    asked,
    evolving,
    imported,
    rated,
)


def test_scores_that_evolution_did_not_ask_for_are_not_its_generation() -> None:
    """The learner's own questions go through the same room."""
    player, question = evolving()
    foreign = question.reply(EVOLUTION_ROOM, **answer_fields(question, "v0"))
    foreign.root_id = "somebody-else"
    assert player.hear(foreign) == []
    assert len(player.tables["population"]["now"]["fitness"]) == 0
    assert question.root_id in player.memory


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"GENOMES": np.zeros((1, 127), "|u1")}, "GENOMES: expected shape"),
        ({"GENOMES": np.full((1, 128), 2, "|u1")}, "GENOMES: expected numbers from 0 to 1"),
        ({"GENOMES": np.zeros((0, 128), "|u1")}, "not empty"),
        ({"FITNESS": np.array([1.0, 2.0])}, "1 genomes came with 2 FITNESS"),
        ({"FITNESS": np.array([np.inf])}, "expected finite numbers or null"),
    ],
)
def test_answers_of_the_wrong_form_are_refused_whole(change: dict[str, Any], reason: str) -> None:
    """Nothing is stored, and the question stays open."""
    learner = asked()
    melody = next(iter(learner.questions))
    message = answered([melody], [3], learner.questions[melody]["root"], "anna")
    message.fields = {**message.fields, **change}
    with pytest.raises(MessageError, match=reason):
        learner.hear(message)
    assert learner.labels == {}
    assert melody in learner.questions


def test_an_answer_to_something_nobody_asked_is_refused() -> None:
    """With the melody and the root in the reason."""
    learner = asked()
    melody = next(iter(learner.questions))
    with pytest.raises(Rejected, match="is not part of the question"):
        learner.hear(answered([melody], [3], "another-root", "anna"))
    stranger = text(GENOMES[0])
    with pytest.raises(Rejected, match=f"{stranger} is not part of the question"):
        learner.hear(answered([stranger], [3], learner.questions[melody]["root"], "anna"))


def test_an_answer_that_came_twice_is_one_revision() -> None:
    """Its ID is the same: whoever sent it was not told that it had arrived."""
    learner = asked()
    melody = next(iter(learner.questions))
    message = answered([melody], [3], learner.questions[melody]["root"], "anna")
    learner.hear(message)
    learner.hear(message)
    assert len(learner.log) == 1
    assert learner.now["labels"] == 1


def test_a_rating_can_be_taken_back_and_given_anew() -> None:
    """Each is a revision; meanwhile the question is in the hands of who took it back."""
    learner = asked()
    melody = next(iter(learner.questions))
    learner.answer(melody, 3)
    learner.answer(melody, None)
    assert learner.labels == {}
    assert learner.questions[melody]["rater"] == "anna"
    assert learner.now["histogram"] == [0] * 6
    learner.answer(melody, 4)
    assert learner.labels == {melody: 4}
    assert [revision["rating"] for revision in learner.log] == [3, None, 4]


def test_a_withdrawn_question_may_still_be_answered() -> None:
    """After a training run other questions are open, but who had it on the screen is heard."""
    learner = asked()
    first = dict(learner.questions)
    done, *others = first
    learner.scores(learner.train(learner.answer(done, 1))[1], "another version")
    withdrawn = next(melody for melody in others if melody not in learner.questions)
    learner.answer(withdrawn, 4)
    assert learner.labels == {done: 1, withdrawn: 4}


def test_what_somebody_holds_is_not_withdrawn() -> None:
    """A lease outlives the ranking."""
    learner = asked()
    done, held, *_ = learner.questions
    learner.tables["questions"][held] |= {"rater": "ben", "until": 9e9}
    learner.scores(learner.train(learner.answer(done, 1))[1], "another version")
    assert learner.questions[held]["rater"] == "ben"
    free = [q for q in learner.questions.values() if not q["rater"]]
    assert len(free) == learner.settings.active_labels


def test_progress_has_a_true_denominator() -> None:
    """What is asked is what is answered or open, whatever was withdrawn, undone or imported."""
    learner = asked()

    def denominator() -> tuple[int, int]:
        return learner.now["asked"], learner.now["answered"] + len(learner.questions)

    assert denominator() == (5, 5)
    done, *others = learner.questions
    learner.scores(learner.train(learner.answer(done, 1))[1], "another version")
    assert denominator() == (6, 6)
    withdrawn = next(melody for melody in others if melody not in learner.questions)
    learner.answer(withdrawn, 4)
    assert denominator() == (7, 7)
    learner.answer(done, None)
    assert denominator() == (7, 7)
    known = next(iter(learner.questions))
    learner.hear(imported(from_text(known)[None], [2]))
    assert denominator() == (6, 6)


def test_questions_go_on_where_breeding_rests() -> None:
    """ASK: candidates come from outside alone, and are scored before anybody is asked."""
    learner = Learner(nr_of_unlabeled_data=5)
    learner.start()
    for melody in list(learner.questions):
        learner.scores(learner.train(learner.answer(melody, 3))[1], "v1")
    assert learner.questions == {}, "no candidate is left"
    said = learner.hear(Message.open(CONTROL, type=COMMAND, CMD=ASK))
    assert said[0].room == "evolution"
    [question] = learner.scores(said, "v1")
    assert question.room == "user"
    assert len(learner.questions) == 5


def test_half_of_the_candidates_come_from_outside() -> None:
    """A network that learns from bred melodies alone knows little of others."""
    learner = asked()
    pool = {row.tobytes() for row in learner.tables["learning"]["pool"]["genomes"]}
    assert len(pool) == 20 + 2 * 25


def test_a_dead_batch_is_followed_by_the_next() -> None:
    """It is counted, and the training run goes on to its end."""
    learner = asked()
    [forward] = learner.answer(next(iter(learner.questions)), 2)
    [following] = learner.give_up(forward.root_id)
    assert learner.called.counters["dead"] == 1
    rest, _ = learner.train([following])
    assert len(rest) == 9
    assert learner.now["chain"] is None


def test_the_guess_is_that_of_the_version_that_ranked() -> None:
    """The median of the probabilities, and these, are in the question, for after the answer."""
    learner = asked()
    for melody, question in learner.questions.items():
        lower = sum(question["probs"][: int(question["guess"])])
        assert lower < 0.5 + 2e-3
        assert lower + question["probs"][int(question["guess"])] > 0.5 - 2e-3
        assert len(from_text(melody)) == 128


def test_an_import_says_by_whom_and_when_each_label_was_given() -> None:
    """Where it does not, it is the sender, now."""
    learner = Learner()
    learner.start()
    message = imported(GENOMES[:3], [1, 2, 3])
    message.fields = {
        **message.fields,
        "RATER": "file",
        "RATERS": ["anna", "", "ben"],
        "AT": np.array([1e9, 2e9, np.nan]),
    }
    learner.hear(message)
    stored = [learner.tables["labels"][name] for name in texts(GENOMES[:3])]
    assert [label["rater"] for label in stored] == ["anna", "file", "ben"]
    assert [label["at"] for label in stored[:2]] == [1e9, 2e9]
    assert stored[2]["at"] > 1.7e9


def test_stop_and_start_follow_a_person_and_not_the_clock() -> None:
    """STOP while a generation is rated: its ratings are kept, nothing is bred; START breeds."""
    player, question = evolving()
    player.hear(Message.open(CONTROL, type=COMMAND, CMD=STOP))
    assert player.hear(question.reply(EVOLUTION_ROOM, **answer_fields(question, "v0"))) == []
    assert player.tables["population"]["now"]["running"] is False
    [following] = player.hear(Message.open(CONTROL, type=COMMAND, CMD=START))
    assert following.room == str(EVOLUTION_ROOM)
    assert CUSTOM.value == following.type
    assert USER.name == "user"


def test_breeding_waits_for_labels_and_rates_the_generation_again() -> None:
    """Two generations for each label: the network learns meanwhile, and the figures follow it."""
    player, question = evolving(pause_s=0.0)
    for _ in range(2):
        [question] = player.hear(question.reply(EVOLUTION_ROOM, **answer_fields(question, "v0")))
    assert question.fields["GENERATION"] == 2
    assert player.hear(question.reply(EVOLUTION_ROOM, **answer_fields(question, "v0"))) != []
    [(_, due)] = player.called.delayed
    [again] = player.hear(due)
    np.testing.assert_array_equal(again.fields["GENOMES"], question.fields["GENOMES"])
    assert player.tables["population"]["now"]["waiting"]
    player.hear(again.reply(EVOLUTION_ROOM, **answer_fields(again, "v1")))
    assert player.tables["population"]["now"]["version"] == "v1"
    player.tables["learning"] = {"now": {"labels": 1}}
    [following] = player.hear(player.called.delayed[0][1])
    assert following.fields["GENERATION"] == 3


def test_one_answer_in_ten_is_followed_by_a_repetition_and_it_comes_first() -> None:
    """However answers come one by one; not of a melody that was rated a moment ago."""
    learner = asked(again=0.1)
    done: list[str] = []
    for number in range(25):
        questions = learner.questions
        melody = min(questions, key=lambda name: questions[name]["rank"])
        if questions[melody]["again"]:
            assert melody in done[:-5]
        else:
            done.append(melody)
        learner.scores(learner.train(learner.answer(melody, 3))[1], f"v{number}")
    assert learner.now["agreement"] == {"n": 2, "exact": 2, "absolute": 0}
    assert learner.now["labels"] == len(done) == 23


def test_questions_keep_a_distance_from_what_was_rated_lately() -> None:
    """Also when nearly all candidates are relatives of one melody."""
    learner = asked(nr_of_unlabeled_data=5, pool=400, outside=0.1)
    melody = next(iter(learner.questions))
    family = np.tile(from_text(melody), (60, 1))
    for row, genome in enumerate(family):
        genome.reshape(32, 4)[row % 32, 3] ^= 1
        genome.reshape(32, 4)[(row * 7 + 3) % 32, 0] ^= 1
    learner.scores(learner.hear(rated(family, "v0", GENERATION=np.array(1))), "v0")
    learner.scores(learner.train(learner.answer(melody, 5))[1], "v1")
    assert len(learner.questions) == 5
    asked_about = from_texts(learner.questions)
    assert distances(asked_about, from_texts([melody])).min() >= DISTANCE


def test_labels_from_before_a_surprise_count_less() -> None:
    """Answers far from their guesses say that the taste has changed."""
    learner = asked()
    ages = []
    for number, wrong in enumerate([False] * 4 + [True] * 4):
        melody, question = next(iter(learner.questions.items()))
        guess = round(question["guess"])
        rating = (0 if guess > 2 else 5) if wrong else guess
        learner.scores(learner.train(learner.answer(melody, rating))[1], f"v{number}")
        ages.append(learner.now["age"])
    calm, surprised = ages[3] - ages[0], ages[7] - ages[4]
    assert 0 < calm < surprised
    weights = learner.tables["learning"]["training"]["weights"]
    assert weights.max() == 1.0
    assert weights.min() == pytest.approx(0.5 ** (ages[-1] - ages[0]))
