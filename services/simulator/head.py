"""The simulator's control head: logits in, radians and kilograms out, with their derivatives.

The head maps numbers of any size to angles and weights within the bounds of a trebuchet. The bounds
are smooth, since a clamped weight has no gradient.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
WeightHead = Literal["smooth", "plus200"]

STEEPEST_ANGLE = math.pi / 2.0
LIGHTEST_WEIGHT = 50.0
WEIGHT_SPAN = 950.0
# A logit of 0 gives 197 kg, about the 200 kg that the original's controls start from.
WEIGHT_SHIFT = 1.7
PLUS_WEIGHT = 200.0


@dataclass(frozen=True)
class Controls:
    """The controls of a batch of shots; every field is float64 `(batch,)`."""

    wind: Floats
    """m/s, as given."""
    angle_rad: Floats
    """The release angle, rad."""
    weight_kg: Floats
    """The counterweight, kg."""
    d_angle: Floats
    """Derivative of the angle with respect to its logit, rad."""
    d_weight: Floats
    """Derivative of the weight with respect to its logit, kg."""


def sigmoid(logit: Floats) -> tuple[Floats, Floats]:
    """Return the sigmoid and its derivative, of any shape, without overflow or cancellation."""
    small = np.exp(-np.abs(logit))
    value = np.where(logit >= 0.0, 1.0, small) / (1.0 + small)
    return value, small / (1.0 + small) ** 2


def controls(logits: ArrayLike, weight_head: WeightHead = "smooth") -> Controls:
    """Return the controls for `(batch, 3)` wind in m/s, angle logit, weight logit.

    The angle is pi/2 sigmoid(logit). The weight is 50 + 950 sigmoid(logit - 1.7) kg ("smooth"), or
    logit + 200 kg ("plus200"), which may be negative. Raises ValueError for another shape or head.
    """
    rows = np.asarray(logits, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 3:
        raise ValueError(f"the controls have the shape {rows.shape}; expected (batch, 3)")
    wind, angle_logit, weight_logit = rows.T
    share, d_share = sigmoid(angle_logit)
    if weight_head == "smooth":
        load, d_load = sigmoid(weight_logit - WEIGHT_SHIFT)
        weight, d_weight = LIGHTEST_WEIGHT + WEIGHT_SPAN * load, WEIGHT_SPAN * d_load
    elif weight_head == "plus200":
        weight, d_weight = weight_logit + PLUS_WEIGHT, np.ones_like(weight_logit)
    else:
        raise ValueError(f"weight_head is {weight_head!r}; expected 'smooth' or 'plus200'")
    return Controls(wind.copy(), STEEPEST_ANGLE * share, weight, STEEPEST_ANGLE * d_share, d_weight)


def jacobian(
    by_wind: ArrayLike, by_angle: ArrayLike, by_weight: ArrayLike, head: Controls
) -> Floats:
    """Return d distance / d (wind, angle logit, weight logit), float64 `(batch, 3)`.

    by_wind, by_angle, by_weight: the shots' derivatives `(batch,)`, m per m/s, rad and kg. The
    derivative for a logit that is nan or infinite is 0.
    """
    columns = np.stack(
        [
            np.asarray(by_wind, dtype=np.float64),
            np.asarray(by_angle, dtype=np.float64) * head.d_angle,
            np.asarray(by_weight, dtype=np.float64) * head.d_weight,
        ],
        axis=-1,
    )
    return np.where(np.isfinite(columns), columns, 0.0)


def vector_jacobian(upstream: ArrayLike, jacobian: Floats) -> Floats:
    """Return the gradient `(batch, 3)` of the controls for an upstream `(batch,)` or `(batch, 1)`.

    Raises ValueError for an upstream gradient of another shape.
    """
    gradient = np.asarray(upstream, dtype=np.float64)
    batch = jacobian.shape[0]
    if gradient.shape not in ((batch,), (batch, 1)):
        raise ValueError(f"the gradient has the shape {gradient.shape}; expected ({batch}, 1)")
    return gradient.reshape(batch, 1) * jacobian
