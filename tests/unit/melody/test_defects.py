"""What the tutorial of the melody maker does wrong, one test each: it must not come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roomgrad import Message, ModelStatus
from roomgrad.errors import Rejected, SchemaError, StrayMessage
from roomgrad.models import ForwardPass
from roomgrad_melody.contract import (
    COMMAND,
    CONTROL,
    EVOLUTION_ROOM,
    FORWARD,
    GRADIENT,
    HEADS,
    NEXT,
    START,
    STOP,
    TRAININPUT,
    TRAINOUTPUT,
)
from roomgrad_melody.evalnet.handlers import component as evalnet
from roomgrad_melody.evolution.genetic import breed
from roomgrad_melody.genome import notes, random_genomes, text, texts
from roomgrad_melody.learner.training import batches
from roomgrad_melody.ordinal import mixture
from roomgrad_melody.rater.handlers import component as rater
from roomgrad_melody.rater.settings import RaterSettings
from tests.unit.melody.component_driver import (
    GENOMES,
    Learner,
    Player,
    answer_fields,
    answered,
    asked,
    evolving,
    forward_of,
    imported,
    net,
    rated,
)


def test_labels_are_not_replaced_after_they_were_handed_over() -> None:
    """A training run keeps the labels that it was opened with; those that come later wait."""
    learner = asked()
    first, second = list(learner.questions)[:2]
    said = learner.answer(first, 4)
    before = learner.tables["learning"]["training"]["ratings"].tolist()
    learner.answer(second, 1)
    assert learner.tables["learning"]["training"]["ratings"].tolist() == before == [4]
    assert learner.labels == {first: 4, second: 1}
    assert learner.now["dirty"]
    run, said = learner.train(said)
    assert learner.now["runs"] == 1
    *questions, forward = learner.scores(said, "v1")
    assert {question.room for question in questions} == {"user"}, "chosen by what it has learned"
    assert {question["version"] for question in learner.questions.values()} == {"v1"}
    assert learner.now["runs"] == 2, "the label that came meanwhile is learned next"
    following, _ = learner.train([forward])
    assert len(run) == len(following) == 10


def test_the_offspring_become_the_population() -> None:
    """The next generation that is rated is what was bred from this one, and nothing else."""
    player, question = evolving(seed=4)
    genomes = question.fields["GENOMES"]
    answer = question.reply(EVOLUTION_ROOM, **answer_fields(question, "v0"))
    [following] = player.hear(answer)
    fitness = answer.fields["FITNESS"]
    children = breed(genomes, fitness, 4, 0, elite=player.settings.elite)
    np.testing.assert_array_equal(following.fields["GENOMES"], children)
    assert not np.array_equal(children, genomes)


def test_what_the_network_is_least_sure_of_is_asked() -> None:
    """The highest 1 - max p first, not the lowest."""
    learner = Learner(nr_of_unlabeled_data=40)
    learner.start()
    pool = learner.tables["learning"]["pool"]
    doubt = 1 - mixture(pool["scores"]).max(axis=1)
    assert len(doubt) > 20
    asked_doubts = [1 - max(q["probs"]) for q in learner.questions.values()]
    assert min(asked_doubts) >= np.sort(doubt)[-5] - 1e-4


def test_there_is_no_eleventh_epoch() -> None:
    """45 labels are 3 batches of 20; 10 epochs are 30 batches, and not one more."""
    learner = Learner()
    learner.start()
    said = learner.hear(imported(GENOMES[:45], [3] * 45))
    run, after = learner.train(said)
    assert len(run) == batches(45) == 30
    assert [message.room for message in after] == ["evolution"], "candidates to score"
    assert [batch.seed for batch in run] == list(range(30))
    seen = sum(len(batch.array) for batch in run)
    assert seen == 10 * 45


def test_two_training_runs_are_never_open_at_once() -> None:
    """However many answers come, one batch is in flight."""
    learner = asked()
    said = [learner.answer(melody, 2) for melody in list(learner.questions)]
    assert [len(each) for each in said] == [1, 0, 0, 0, 0]
    assert len([r for r in learner.memory.values() if "chain" in r]) == 1


@pytest.mark.parametrize("rating", [6, -1, 99])
def test_a_rating_of_6_is_not_stored(rating: float) -> None:
    """It is refused before anything is stored, and stops nothing."""
    learner = asked()
    melody = next(iter(learner.questions))
    before = learner.tables
    with pytest.raises(SchemaError, match="FITNESS: expected numbers from 0 to 5"):
        learner.answer(melody, rating)
    assert learner.tables == before
    assert learner.answer(melody, 5)
    assert learner.labels == {melody: 5}


def test_half_a_rating_is_not_stored_in_one_way_or_another() -> None:
    """3.5 is neither 3 nor 4, nor 3 here and 3.5 there."""
    learner = asked()
    melody = next(iter(learner.questions))
    with pytest.raises(Rejected, match=r"a rating is 3.5; expected a whole number from 0 to 5"):
        learner.answer(melody, 3.5)
    assert learner.labels == {}
    assert learner.log == []


def test_a_typo_costs_no_batch_and_blocks_no_question() -> None:
    """Nothing of the message is stored, everything stays open, the right answer is taken."""
    learner = asked()
    melodies = list(learner.questions)
    root = learner.questions[melodies[0]]["root"]
    with pytest.raises(Rejected):
        learner.hear(answered(melodies, [1, 2, 3, 4, 0.5], root, "anna"))
    assert learner.labels == {}
    assert list(learner.questions) == melodies
    learner.hear(answered(melodies, [1, 2, 3, 4, 5], root, "anna"))
    assert list(learner.labels.values()) == [1, 2, 3, 4, 5]
    assert not Rejected("").ends_root, "the root of a question outlives a wrong answer"


def test_a_question_is_not_lost_because_nobody_listened() -> None:
    """It stands in `questions` until somebody answers it, also after later ones were asked."""
    learner = asked()
    first = dict(learner.questions)
    for number in range(1, 4):
        learner.generation(number)
    assert dict(learner.questions) == first
    melody = next(iter(first))
    learner.train(learner.answer(melody, 3))
    assert learner.labels == {melody: 3}


def test_two_raters_do_not_ask_each_other_again() -> None:
    """A second rater's answer to a question that is answered is refused, not another question."""
    learner = asked()
    melody = next(iter(learner.questions))
    root = learner.questions[melody]["root"]
    learner.answer(melody, 2, "anna")
    with pytest.raises(Rejected, match="was answered by anna before"):
        learner.hear(answered([melody], [4], root, "ben"))
    assert learner.labels == {melody: 2}
    assert melody not in learner.questions


def test_a_melody_that_is_asked_again_is_asked_of_the_same_person() -> None:
    """It reports how far she agrees with herself; it stays one label with two revisions."""
    learner = asked(again=1.0)
    melody = next(iter(learner.questions))
    _, said = learner.train(learner.answer(melody, 2, "anna"))
    learner.scores(said, "v1")
    question = learner.questions[melody]
    assert (question["again"], question["by"]) == (True, "anna")
    with pytest.raises(Rejected, match="was asked of anna, not of ben"):
        learner.answer(melody, 5, "ben")
    learner.answer(melody, 3, "anna")
    assert learner.now["agreement"] == {"n": 1, "exact": 0, "absolute": 1}
    assert learner.now["labels"] == len(learner.labels) == 1
    assert [revision["rating"] for revision in learner.log] == [2, 3]


def test_what_one_person_is_asked_again_is_a_message_of_its_own() -> None:
    """Else whoever answers all that was asked would be refused all of it."""
    learner = asked(again=1.0)
    melody = next(iter(learner.questions))
    _, said = learner.train(learner.answer(melody, 2, "anna"))
    others, again = learner.scores(said, "v1")
    assert texts(again.fields["GENOMES"]) == [melody]
    assert again.fields["RATER"] == "anna"
    assert Player(rater, RaterSettings()).hear(again) == [], "it is not asked of others"
    assert melody not in texts(others.fields["GENOMES"])
    names = texts(others.fields["GENOMES"])
    learner.hear(answered(names, [1] * len(names), others.root_id, "a rater of everything"))
    assert set(learner.labels) == {melody, *names}


def test_a_rater_that_comes_late_answers_what_is_open() -> None:
    """Nobody asks the same questions again, and while five are open no new ones."""
    learner = asked()
    late = Player(rater, RaterSettings())
    late.tables = {"questions": learner.tables["questions"]}
    held = next(iter(learner.questions))
    late.tables["questions"][held] |= {"rater": "anna", "until": 9e9}
    questions = set(learner.questions)
    for message in late.start():
        learner.hear(message)
    assert set(learner.labels) == questions - {held}


def test_forward_memory_is_freed() -> None:
    """When a training run is over, nothing of it is left, in the learner nor in evalnet."""
    learner, network = asked(), net()
    said = learner.answer(next(iter(learner.questions)), 3)
    for _ in range(10):
        [forward] = said
        [logits] = network.hear(forward)
        [gradient] = learner.hear(logits)
        [of_inputs] = network.hear(gradient)
        assert network.memory == {}
        said = learner.hear(of_inputs)
    assert learner.now["chain"] is None
    assert not any("chain" in record for record in learner.memory.values())


def test_the_input_gradient_is_that_before_the_step() -> None:
    """At the weights that made the forward: a step before it would change it."""
    network = net()
    forward = forward_of(GENOMES[:4])
    [logits] = network.hear(forward)
    upstream = np.full(logits.array.shape, 0.5, "<f4")
    before = network.state.content
    [of_inputs] = network.hear(logits.reply(TRAINOUTPUT, upstream, type=GRADIENT, id=logits.id))
    assert network.state.content != before
    trainable = evalnet.make_model(network.settings)
    made = ForwardPass(forward.arrays(), 0, "v")

    def at(state: bytes) -> Any:
        trainable.load(state)
        return trainable.backward("no graph", made, {"DATA": upstream}, lambda: None)[1]["DATA"]

    np.testing.assert_array_equal(of_inputs.array, at(before))
    assert not np.array_equal(of_inputs.array, at(network.state.content))


def test_a_validation_batch_is_answered_and_not_learned_from() -> None:
    """It leaves no memory, and a gradient for it finds nobody."""
    network = net()
    forward = forward_of(GENOMES[:4], status=ModelStatus.VALIDATE)
    [logits] = network.hear(forward)
    weights = network.state.content
    assert network.memory == {}
    gradient = logits.reply(TRAINOUTPUT, logits.array, type=GRADIENT, id=logits.id)
    with pytest.raises(StrayMessage):
        network.hear(gradient)
    assert network.state.content == weights


def test_the_gradient_of_a_foreign_root_is_not_taken() -> None:
    """Neither by evalnet, which would step, nor by the learner, which would go on."""
    network, learner = net(), asked()
    learner.answer(next(iter(learner.questions)), 3)
    before = learner.tables
    stranger = Message.open(TRAINOUTPUT, np.ones((4, HEADS), "<f4"), type=GRADIENT)
    with pytest.raises(StrayMessage):
        network.hear(stranger)
    with pytest.raises(StrayMessage):
        learner.hear(Message.open(TRAININPUT, np.ones((4, 128), "<f4"), type=GRADIENT))
    with pytest.raises(StrayMessage):
        learner.hear(Message.open(TRAINOUTPUT, np.ones((4, HEADS), "<f4"), type=FORWARD))
    assert learner.tables == before


def test_a_root_note_after_a_rest_sounds() -> None:
    """Degree 0 is a note: 4 bits of 0, where a rest has its fourth bit set."""
    genome = np.zeros(128, np.uint8)
    genome[3::4] = 1  # rests all over
    genome[8:12] = 0  # but for the third slot
    [note] = notes(genome)
    assert (note.start, note.length, note.midi) == (2, 1, 48)


def test_what_sounds_alike_is_one_melody() -> None:
    """In the pool, in questions and in labels; the silent bits of rests do not matter."""
    genome = random_genomes(1, 1, 1)[0].reshape(32, 4)
    genome[4, 3] = 1
    other = genome.copy()
    other[4, 0] ^= 1
    twins = np.stack([genome.ravel(), other.ravel()])
    assert text(twins[0]) == text(twins[1])
    learner = Learner(outside=0.0, nr_of_unlabeled_data=2)
    learner.start()
    learner.scores(learner.hear(rated(twins, "v0", GENERATION=np.array(0))), "v0")
    assert len(learner.tables["learning"]["pool"]["genomes"]) == 2 + 1, "2 to begin with"
    learner.hear(imported(twins, [1, 4]))
    assert learner.labels == {text(genome.ravel()): 4}
    assert [revision["genome"] for revision in learner.log] == [
        "".join(map(str, row)) for row in twins
    ], "every revision as it was given"


def test_scores_of_two_versions_never_decide_one_order() -> None:
    """After a training run all candidates are scored again before anything is asked."""
    learner = asked()
    learner.generation(1, "v0")
    _, said = learner.train(learner.answer(next(iter(learner.questions)), 0))
    [question] = said
    assert question.room == "evolution"
    pool = learner.tables["learning"]["pool"]
    assert not pool["scored"].any()
    assert len(question.fields["GENOMES"]) == len(pool["genomes"])
    learner.scores(said, "v1")
    assert {q["version"] for q in learner.questions.values()} == {"v1"}


def test_a_generation_that_was_rated_before_the_training_is_scored_anew() -> None:
    """Its scores come late, and are of the former version."""
    learner = asked()
    learner.scores(learner.train(learner.answer(next(iter(learner.questions)), 0))[1], "v1")
    late = rated(random_genomes(9, 77, 5), "v0", GENERATION=np.array(2))
    [question] = learner.hear(late)
    assert question.room == "evolution"
    assert set(texts(late.fields["GENOMES"])) <= set(texts(question.fields["GENOMES"]))


def test_stop_is_heard_during_a_pause() -> None:
    """The generation that was due is not bred, and START breeds at once."""
    player, question = evolving(pause_s=60.0)
    assert player.hear(question.reply(EVOLUTION_ROOM, **answer_fields(question, "v0"))) != []
    [(delay, due)] = player.called.delayed
    assert (delay, due.fields["CMD"]) == (60.0, NEXT)
    assert player.hear(Message.open(CONTROL, type=COMMAND, CMD=STOP)) == []
    assert player.hear(due) == []
    [following] = player.hear(Message.open(CONTROL, type=COMMAND, CMD=START))
    assert following.fields["GENERATION"] == 1
    assert player.hear(due) == [], "the pause that was cut short breeds nothing twice"


def test_a_missing_label_file_stops_nothing(tmp_path: Path) -> None:
    """The learner starts without labels, and so it does on a file of garbage."""
    for path in (tmp_path / "nothing.csv", tmp_path / "garbage.csv"):
        learner = Learner(labels_file=str(path))
        assert [message.room for message in learner.start()] == ["user"]
        assert learner.labels == {}
        (tmp_path / "garbage.csv").write_bytes(b'"(0, 1, 2)",9\n\xff')
