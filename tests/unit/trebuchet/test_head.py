"""The control head: logits to angles and weights, and the derivatives that go back."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from roomgrad_trebuchet.simulator import head, physics

Floats = NDArray[np.float64]


def random_logits(batch: int, seed: int = 0) -> Floats:
    """Wind N(0, 5) m/s and two standard normal logits, `(batch, 3)`."""
    return np.random.default_rng(seed).normal(size=(batch, 3)) * [5.0, 1.0, 1.0]


def distance(logits: Floats, weight_head: head.WeightHead) -> Floats:
    """The distance of each control `(batch,)`."""
    aimed = head.controls(logits, weight_head)
    return physics.shoot(aimed.wind, aimed.angle_rad, aimed.weight_kg).distance_m


def test_logits_of_zero_mean_half_a_right_angle() -> None:
    """A fresh model aims at 45 degrees with about 197 kg."""
    aimed = head.controls([[3.0, 0.0, 0.0]])
    assert aimed.wind[0] == 3.0
    assert math.degrees(aimed.angle_rad[0]) == pytest.approx(45.0)
    assert aimed.weight_kg[0] == pytest.approx(50.0 + 950.0 / (1.0 + math.exp(1.7)))


def test_the_smooth_head_stays_within_its_bounds() -> None:
    """However large the logits, the angle stays forward and the weight within 50 to 1000 kg."""
    aimed = head.controls([[0.0, logit, logit] for logit in (-1e300, -800.0, 0.0, 800.0, 1e300)])
    assert (np.diff(aimed.angle_rad) >= 0.0).all()
    np.testing.assert_allclose(aimed.angle_rad[[0, -1]], [0.0, math.pi / 2.0])
    np.testing.assert_allclose(aimed.weight_kg[[0, -1]], [50.0, 1000.0])
    assert np.isfinite(aimed.d_angle).all()
    assert np.isfinite(aimed.d_weight).all()


def test_plus200_adds_two_hundred_kilograms() -> None:
    """The original's head is a sum with a derivative of 1."""
    aimed = head.controls([[0.0, 0.0, -3.5], [0.0, 0.0, -300.0]], "plus200")
    assert aimed.weight_kg.tolist() == [196.5, -100.0]
    assert aimed.d_weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("logit", [-700.0, -40.0, -1.0, 0.0, 1.0, 40.0, 700.0])
def test_the_sigmoid_keeps_its_digits_at_both_ends(logit: float) -> None:
    """Far from zero the value and the derivative are small, not zero, and not rounded away."""
    value, slope = head.sigmoid(np.array([logit]))
    if logit < 0.0:
        expected = math.exp(logit) / (1.0 + math.exp(logit))
    else:
        expected = 1.0 / (1.0 + math.exp(-logit))
    assert value[0] == pytest.approx(expected, rel=1e-14)
    tail = math.exp(-abs(logit))
    assert slope[0] == pytest.approx(tail / (1.0 + tail) ** 2, rel=1e-14)
    assert slope[0] > 0.0


@pytest.mark.parametrize("weight_head", ["smooth", "plus200"])
def test_head_derivatives_agree_with_finite_differences(weight_head: head.WeightHead) -> None:
    """Angle and weight move with their logits as the derivatives say."""
    logits, step = random_logits(200), np.array([0.0, 1e-6, 1e-6])
    aimed = head.controls(logits, weight_head)
    ahead = head.controls(logits + step, weight_head)
    behind = head.controls(logits - step, weight_head)
    angle = (ahead.angle_rad - behind.angle_rad) / 2e-6
    weight = (ahead.weight_kg - behind.weight_kg) / 2e-6
    np.testing.assert_allclose(aimed.d_angle, angle, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(aimed.d_weight, weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weight_head", ["smooth", "plus200"])
def test_the_jacobian_agrees_with_finite_differences(weight_head: head.WeightHead) -> None:
    """From the logits to the distance, through head and trebuchet."""
    logits = random_logits(300, seed=1)
    aimed = head.controls(logits, weight_head)
    shots = physics.shoot(aimed.wind, aimed.angle_rad, aimed.weight_kg)
    ours = head.jacobian(shots.d_wind, shots.d_angle, shots.d_weight, aimed)
    assert ours.shape == (300, 3)
    for argument in range(3):
        step = np.zeros(3)
        step[argument] = 1e-5
        slopes = [
            (
                distance(logits + width * step, weight_head)
                - distance(logits - width * step, weight_head)
            )
            / (2e-5 * width)
            for width in (1.0, 2.0)
        ]
        # Beside a jump of the distance neighbouring shots do not give its slope.
        smooth = np.abs(slopes[0] - slopes[1]) < 0.02
        assert smooth.mean() > 0.98
        np.testing.assert_allclose(ours[smooth, argument], slopes[0][smooth], rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_the_vector_jacobian_is_one_multiplication(shape: tuple[int, ...]) -> None:
    """An upstream gradient, `(batch,)` or `(batch, 1)`, scales the rows."""
    jacobian = np.arange(12.0).reshape(4, 3)
    upstream = np.array([1.0, -2.0, 0.0, 0.5]).reshape(shape)
    expected = [[0, 1, 2], [-6, -8, -10], [0, 0, 0], [4.5, 5, 5.5]]
    np.testing.assert_array_equal(head.vector_jacobian(upstream, jacobian), expected)


def test_a_logit_that_is_not_finite_moves_nothing() -> None:
    """A broken control gets a zero derivative instead of passing its nan on."""
    logits = [
        [0.0, math.nan, 0.0],
        [0.0, 0.0, math.nan],
        [math.nan, 0.0, 0.0],
        [0.0, 0.0, math.inf],
    ]
    aimed = head.controls(logits)
    shots = physics.shoot(aimed.wind, aimed.angle_rad, aimed.weight_kg)
    ours = head.jacobian(shots.d_wind, shots.d_angle, shots.d_weight, aimed)
    assert np.isfinite(ours).all()
    assert (ours[:3] == 0.0).all()


def test_wrong_shapes_and_heads_are_refused() -> None:
    """The errors show what came and what was expected."""
    with pytest.raises(ValueError, match=r"\(2,\).*\(batch, 3\)"):
        head.controls([1.0, 2.0])
    with pytest.raises(ValueError, match=r"'cubic'.*'smooth' or 'plus200'"):
        head.controls([[0.0, 0.0, 0.0]], "cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(3,\).*\(4, 1\)"):
        head.vector_jacobian(np.ones(3), np.ones((4, 3)))
