"""The trainer's handlers, called without Redis."""

from __future__ import annotations

import numpy as np
import pytest

from roomgrad import Message, ModelStatus
from roomgrad.errors import SchemaError, StrayMessage
from roomgrad.testing import call, call_dead, call_start
from roomgrad_trebuchet.contract import GRADIENT, INPUT, OUTPUT
from roomgrad_trebuchet.trainer.batches import batch, squared_error
from roomgrad_trebuchet.trainer.handlers import LOSSES_KEPT, component
from roomgrad_trebuchet.trainer.settings import TrainerSettings

SETTINGS = TrainerSettings(train_steps=3, batch_size=4, seed=7)


def test_a_run_begins_with_as_many_batches_as_the_window_holds() -> None:
    """Each is a root of its own, whose targets stand in memory under its ROOT_ID."""
    settings = TrainerSettings(train_steps=10, batch_size=4, seed=7, window=3)
    called = call_start(component, settings=settings)
    assert [str(message.room) for message in called.replies] == ["input"] * 3
    assert called.counters == {"sent": 3}
    for number, message in enumerate(called.replies):
        data = batch(7, number, 4)
        np.testing.assert_array_equal(message.array, data)
        assert message.seed == number
        record = called.memory[message.root_id]
        assert record["batch"] == number
        np.testing.assert_array_equal(record["target"], data[:, 1])


def test_a_short_run_opens_no_more_than_it_has() -> None:
    """A window larger than the run is the run."""
    settings = TrainerSettings(train_steps=2, batch_size=4, window=5)
    assert len(call_start(component, settings=settings).replies) == 2


def test_distances_are_answered_with_the_gradient_of_the_loss() -> None:
    """Under the forward's ID; the targets leave memory, the batch's number stays."""
    started = call_start(component, settings=SETTINGS)
    [opened] = started.replies
    distance = np.array([10, 20, 30, 40], "<f4")
    forward = opened.reply(OUTPUT, distance)
    called = call(component, forward, settings=SETTINGS, memory=started.memory)
    [answer] = called.replies
    loss, miss, gradient = squared_error(distance, opened.array[:, 1])
    assert (answer.room, answer.type, answer.id) == ("output", "DATA/GRADIENT", forward.id)
    np.testing.assert_array_equal(answer.array, gradient)
    assert called.memory == {opened.root_id: {"ROOT_ID": opened.root_id, "batch": 0}}
    assert called.tables["losses"] == {"0": {"step": 0, "loss": loss, "miss_m": miss}}
    [report] = called.sent
    assert (report.room, report.fields["LOSS"]) == ("_logging", loss)


def test_the_gradient_is_that_of_the_mean_square() -> None:
    """By finite differences."""
    target = np.array([20, 50, 90], "<f4")
    distance = np.array([25, 40, 93], "<f4")
    loss, _, gradient = squared_error(distance, target)
    for row in range(3):
        moved = distance.copy()
        moved[row] += 0.5
        up = squared_error(moved, target)[0]
        moved[row] -= 1.0
        down = squared_error(moved, target)[0]
        assert gradient[row] == pytest.approx(up - down, rel=1e-4)
    assert loss == pytest.approx((25 + 100 + 9) / 3)


def test_a_batch_that_is_home_opens_the_next() -> None:
    """Finishing root i opens batch i + window, until the last."""
    memory = {"root": {"ROOT_ID": "root", "batch": 1}}
    home = Message("input", "DATA/GRADIENT", "i", "root", np.zeros((4, 2), "<f4"))
    called = call(component, home, settings=SETTINGS, memory=memory)
    [opened] = called.replies
    np.testing.assert_array_equal(opened.array, batch(7, 2, 4))
    assert opened.root_id != "root"
    assert called.counters == {"finished": 1, "sent": 1}
    assert list(called.memory) == [opened.root_id]
    last = call(
        component, home, settings=SETTINGS, memory={"root": {"ROOT_ID": "root", "batch": 2}}
    )
    assert last.replies == []
    assert last.memory == {}
    assert last.counters == {"finished": 1}


def test_validation_passes_the_trainer_by() -> None:
    """Silently: it is somebody else's question."""
    question = Message.open(OUTPUT, np.zeros(1, "<f4"), status=ModelStatus.VALIDATE)
    called = call(component, question, settings=SETTINGS)
    assert called.skipped
    assert called.replies == []


def test_answers_that_nobody_waits_for_are_stray() -> None:
    """Distances and gradients of an unknown root, and distances that came before."""
    forward = Message.open(OUTPUT, np.zeros(4, "<f4"))
    with pytest.raises(StrayMessage, match=forward.root_id):
        call(component, forward, settings=SETTINGS)
    answered = {forward.root_id: {"ROOT_ID": forward.root_id, "batch": 0}}
    with pytest.raises(StrayMessage, match="answered before"):
        call(component, forward, settings=SETTINGS, memory=answered)
    home = Message.open(INPUT, np.zeros((4, 2), "<f4"), type=GRADIENT)
    with pytest.raises(StrayMessage):
        call(component, home, settings=SETTINGS)


def test_a_wrong_number_of_distances_is_refused() -> None:
    """With what was expected and what came."""
    started = call_start(component, settings=SETTINGS)
    forward = started.replies[0].reply(OUTPUT, np.zeros(3, "<f4"))
    with pytest.raises(SchemaError, match=r"expected \(4,\) distances, got \(3,\)"):
        call(component, forward, settings=SETTINGS, memory=started.memory)


def test_a_batch_that_died_is_counted_and_the_next_is_opened() -> None:
    """The run goes on without it."""
    memory = {
        "dead": {"ROOT_ID": "dead", "batch": 0},
        "alive": {"ROOT_ID": "alive", "batch": 1},
    }
    called = call_dead(component, "dead", settings=SETTINGS, memory=memory)
    assert called.counters == {"dead": 1, "sent": 1}
    assert [message.room for message in called.replies] == ["input"]
    assert set(called.memory) == {"alive", called.replies[0].root_id}
    assert call_dead(component, "unknown", settings=SETTINGS, memory=memory).counters == {}


def test_batches_are_functions_of_seed_and_number() -> None:
    """The same again on any replica; others for another number or seed."""
    np.testing.assert_array_equal(batch(3, 5, 10), batch(3, 5, 10))
    assert (batch(3, 5, 10) != batch(3, 6, 10)).all()
    assert (batch(3, 5, 10) != batch(4, 5, 10)).all()
    many = batch(0, 0, 100_000)
    assert many[:, 0].mean() == pytest.approx(0, abs=0.1)
    assert many[:, 0].std() == pytest.approx(5, rel=0.02)
    assert many[:, 1].min() >= 20
    assert many[:, 1].max() <= 100


def test_losses_of_old_steps_leave_the_table() -> None:
    """The table holds the newest ten thousand."""
    number = LOSSES_KEPT + 3
    memory = {"r": {"ROOT_ID": "r", "batch": number, "target": np.zeros(4, "<f4")}}
    forward = Message("output", "DATA/FORWARD", "i", "r", np.zeros(4, "<f4"))
    before = {"losses": {"3": {"step": 3, "loss": 1.0, "miss_m": 1.0}}}
    called = call(component, forward, settings=SETTINGS, memory=memory, tables=before)
    assert list(called.tables["losses"]) == [str(number)]
