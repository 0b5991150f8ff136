"""The simulator's handlers, called without Redis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roomgrad import Message, ModelStatus
from roomgrad.errors import SchemaError, StrayMessage
from roomgrad.testing import Called, call
from roomgrad_trebuchet.contract import GRADIENT, MODEL, OUTPUT
from roomgrad_trebuchet.simulator import physics
from roomgrad_trebuchet.simulator.handlers import component
from roomgrad_trebuchet.simulator.settings import SimulatorSettings

SETTINGS = SimulatorSettings(pictures=0)
CONTROLS = np.array([[0.0, 0.0, 0.0], [4.0, -0.5, 0.8], [-6.0, 0.3, 1.5]], "<f4")


def shoot(controls: Any = CONTROLS, settings: SimulatorSettings = SETTINGS, **more: Any) -> Called:
    return call(
        component, Message.open(MODEL, np.asarray(controls, "<f4"), **more), settings=settings
    )


def answer(called: Called, upstream: Any) -> Called:
    reply = called.replies[0]
    message = reply.reply(OUTPUT, np.asarray(upstream, "<f4"), type=GRADIENT, id=reply.id)
    return call(component, message, settings=SETTINGS, memory=called.memory)


def test_controls_are_answered_with_distances() -> None:
    """One for each row; the derivatives wait in memory for the gradient."""
    called = shoot()
    [reply] = called.replies
    assert (reply.room, reply.type, reply.fields) == ("output", "DATA/FORWARD", {})
    assert reply.array.shape == (3,)
    assert (reply.array > 0).all()
    assert called.memory[reply.id]["jacobian"].shape == (3, 3)


@pytest.mark.parametrize("weight_head", ["smooth", "plus200"])
def test_a_gradient_is_the_vector_jacobian_product(weight_head: str) -> None:
    """By finite differences through the handler itself, on every control of every row."""
    settings = SimulatorSettings(weight_head=weight_head, pictures=0)  # type: ignore[arg-type]
    upstream = np.array([1.0, -2.0, 0.5], "<f4")
    called = shoot(settings=settings)
    found = answer(called, upstream).replies[0].array
    assert found.shape == (3, 3)
    for column in range(3):
        step = np.float32(2**-5)
        up, down = CONTROLS.copy(), CONTROLS.copy()
        up[:, column] += step
        down[:, column] -= step
        distances = [shoot(c, settings).replies[0].array.astype("f8") for c in (up, down)]
        expected = upstream * (distances[0] - distances[1]) / (2 * step)
        np.testing.assert_allclose(found[:, column], expected, rtol=2e-2, atol=2e-2)


def test_a_gradient_goes_back_under_the_id_of_its_forward() -> None:
    """And takes the derivatives out of memory, so that a second one is stray."""
    message = Message.open(MODEL, CONTROLS)
    called = call(component, message, settings=SETTINGS)
    back = answer(called, [1, 1, 1])
    [reply] = back.replies
    assert (reply.room, reply.type, reply.id) == ("model", "DATA/GRADIENT", message.id)
    assert back.memory == {}
    with pytest.raises(StrayMessage):
        answer(Called(replies=called.replies), [1, 1, 1])


def test_an_empty_gradient_is_answered_with_one() -> None:
    """So that the root comes home; the derivatives leave memory."""
    called = shoot(seed=3)
    [reply] = called.replies
    empty = reply.reply(OUTPUT, type=GRADIENT, id=reply.id)
    after = call(component, empty, settings=SETTINGS, memory=called.memory)
    [back] = after.replies
    assert (back.room, back.type, back.data, back.seed) == ("model", GRADIENT, None, 3)
    assert back.id == called.memory[reply.id]["answers"]
    assert after.memory == {}


def test_a_gradient_of_another_length_is_refused() -> None:
    """With what was expected and what came."""
    with pytest.raises(SchemaError, match=r"expected \(3,\) numbers, got \(2,\)"):
        answer(shoot(), [1, 1])


def test_rows_that_cannot_be_shot_have_a_status_and_no_derivative() -> None:
    """Never NaN: a row that fails moves nothing."""
    called = shoot([[0, 0, 0], [0, 0, 1e30], [0, -1e30, 0], [1e30, 0, 0]])
    assert np.isfinite(called.replies[0].array).all()
    gradient = answer(called, [1, 1, 1, 1]).replies[0].array
    assert np.isfinite(gradient).all()
    assert (gradient[0] != 0).any()


def test_validation_is_answered_in_full_and_leaves_no_memory() -> None:
    """Angle, weight and status beside the distance."""
    called = shoot(status=ModelStatus.VALIDATE)
    [reply] = called.replies
    assert set(reply.fields) == {"ANGLE", "WEIGHT", "STATUS"}
    assert reply.fields["ANGLE"][0] == pytest.approx(45.0)
    assert reply.fields["STATUS"].tolist() == [physics.Status.OK] * 3
    assert called.memory == {}
    np.testing.assert_array_equal(reply.array, shoot().replies[0].array)


def test_validation_shows_trajectories_when_it_is_asked_to() -> None:
    """As many points as FRAMES says, within limits."""
    [reply] = shoot(status=ModelStatus.VALIDATE, FRAMES=np.int64(7)).replies
    assert reply.fields["TRAJECTORIES"].shape == (3, 7, 2)
    assert reply.fields["TRAJECTORIES"][0, -1, 0] == pytest.approx(reply.array[0], abs=0.1)
    for frames in (1, 1001, -5):
        with pytest.raises(SchemaError, match="expected 2 to 1000"):
            shoot(status=ModelStatus.VALIDATE, FRAMES=np.int64(frames))


def test_pictures_are_kept_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few trajectories of the last batch, at most once a second."""
    monkeypatch.setattr("roomgrad_trebuchet.simulator.handlers._pictured_at", -1e9)
    settings = SimulatorSettings(pictures=2)
    called = shoot(settings=settings)
    way = np.array(called.tables["trajectories"]["last"]["way"])
    assert way.shape[0] == 2
    assert way.shape[2] == 2
    assert shoot(settings=settings).tables == {}
