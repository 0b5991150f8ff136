"""A differentiable trebuchet: wind, angle and counterweight in, distance and derivatives out.

The trebuchet is the one of virtualtrebuchet.com (equations of motion) and of Trebuchet.jl,
re-derived here with absolute angles. Origin at the pivot, x down range, y up, ground at
y = -PIVOT_HEIGHT; `alpha` turns the arm, `beta` the counterweight's hanger, `gamma` the sling:

    arm tip       = b (-sin alpha,  cos alpha)
    projectile    = arm tip + e (-sin gamma, cos gamma)
    counterweight = c (sin alpha, -cos alpha) + d (sin beta, -cos beta)

A shot has three stages. **Ground**: the projectile slides without friction until the ground no
longer pushes. **Hanging**: the sling swings as a rigid rod until the projectile's velocity first
points along the release angle. **Flight**: quadratic drag against the wind until the ground.

All derivatives come out of the same pass. The wind does not enter before release and the angle
only picks the moment of release, so the throw carries one tangent (the weight's), the angle has a
closed form, and the flight carries two tangents (the release velocity's components). The
acceleration is continuous at lift-off, since the ground's force passes through zero there, so the
tangent needs no correction at that event.

Everything is float64 in a fixed order of operations, one row after another: a row's result is the
same to the last bit whatever rows stand beside it.

The compiled kernel is cached beside this file, or in `NUMBA_CACHE_DIR` where that is set. Numba
reads no cache that it cannot write to: where none is writable, each process compiles for itself,
some six seconds.

It is one long file on purpose: numba's cache notices a change of the file that holds the kernel and
of no other, so a function moved out of it could be edited without any effect.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Row = tuple[float, ...]
Kernel = TypeVar("Kernel", bound=Callable[..., object])

FOOT_M = 0.3048
POUND_KG = 0.45359237

PIVOT_HEIGHT = 5.0 * FOOT_M
LONG_ARM = 6.792 * FOOT_M
SHORT_ARM = 1.75 * FOOT_M
HANGER = 2.0 * FOOT_M
SLING = 6.833 * FOOT_M
PROJECTILE_RADIUS = 0.1245 * FOOT_M
PROJECTILE_MASS = 0.328 * POUND_KG
ARM_MASS = 10.65 * POUND_KG
ARM_CENTRE = (LONG_ARM - SHORT_ARM) / 2.0
ARM_INERTIA = ARM_MASS * (LONG_ARM + SHORT_ARM) ** 2 / 12.0
WEIGHT_INERTIA = 1.0 * POUND_KG * FOOT_M**2
GRAVITY = 9.80665
# Air density and drag coefficient are both 1 in the published model.
DRAG = math.pi * PROJECTILE_RADIUS**2 / (2.0 * PROJECTILE_MASS)

START_ALPHA = math.pi / 2.0 + math.asin(PIVOT_HEIGHT / LONG_ARM)
START_GAMMA = 1.5 * math.pi
RESTING_X = SLING - LONG_ARM * math.sin(START_ALPHA)
# Below this counterweight the arm's own mass holds it down.
STARTING_WEIGHT = ARM_MASS * ARM_CENTRE / SHORT_ARM

# Derivatives (per m/s, rad, kg) are clamped to these: two wrong ones in 200,000 shots are enough to
# spoil an optimizer's second moment. Right ones pass only in a gale (the angle's above 18 m/s) and
# for weights that hardly lift the arm (the weight's below 15 kg).
DERIVATIVE_LIMITS = (10.0, 400.0, 4.0)

# A throw's step is THROW_STEP / (turn**2 + |turn'|)**(3/4) seconds, turn being the arm's speed
# against the hanger. The exponent follows the local error through the spike that the straightened
# hanger gives the arm; the factor keeps the release speed within 1e-4 m/s.
THROW_STEP = 0.5
LONGEST_THROW_STEP_S = 0.05
# A flight's step lets drag take about this share of the speed, and lasts at most
# FLIGHT_STEP / SLOWEST_DECAY seconds; it keeps the distance within 4e-4 m.
FLIGHT_STEP = 0.2
SLOWEST_DECAY = 0.5
# Below 7.1 kg the projectile slides for longer than this, and then drops beside the pivot.
LONGEST_STAGE_S = 5.4
MOST_STEPS = 2000
MOST_HALVINGS = 60

# Constants of the equations of motion.
_ARM_MASS = ARM_INERTIA + ARM_MASS * ARM_CENTRE**2 + PROJECTILE_MASS * LONG_ARM**2
_SLING_MASS = PROJECTILE_MASS * SLING**2
_ARM_SLING = PROJECTILE_MASS * LONG_ARM * SLING
_ARM_HANGER = SHORT_ARM * HANGER
_ARM_MOMENT = ARM_MASS * ARM_CENTRE + PROJECTILE_MASS * LONG_ARM


class Status(IntEnum):
    """What became of a shot; every row but an OK one answers zero derivatives."""

    OK = 0
    WEIGHT_NOT_POSITIVE = 1
    """The counterweight is zero or negative."""
    NOT_FINITE = 2
    """An input is nan or infinite, or so large that the result would be."""
    NO_MOTION = 3
    """The counterweight is too light to lift the arm."""
    NO_LIFT_OFF = 4
    """The projectile still slides on the ground when the stage's time is up."""
    NO_RELEASE = 5
    """The velocity never points along the release angle."""
    NO_LANDING = 6
    """The projectile is released under the ground, or never comes down."""

    @property
    def label(self) -> str:
        """The name in the reference data."""
        return "weight<=0" if self is Status.WEIGHT_NOT_POSITIVE else self.name.lower()


# Plain integers, which the compiler takes for constants.
_OK = int(Status.OK)
_WEIGHT_NOT_POSITIVE = int(Status.WEIGHT_NOT_POSITIVE)
_NOT_FINITE = int(Status.NOT_FINITE)
_NO_MOTION = int(Status.NO_MOTION)
_NO_LIFT_OFF = int(Status.NO_LIFT_OFF)
_NO_RELEASE = int(Status.NO_RELEASE)
_NO_LANDING = int(Status.NO_LANDING)


@dataclass(frozen=True)
class Shots:
    """A batch of shots; every field has the shape `(batch,)` and is float64 unless it says else."""

    distance_m: Floats
    """Where the projectile lands, from the pivot, signed."""
    d_wind: Floats
    """Derivative of the distance, m per m/s."""
    d_angle: Floats
    """Derivative of the distance, m per rad."""
    d_weight: Floats
    """Derivative of the distance, m per kg."""
    throw_time_s: Floats
    """From rest to release."""
    flight_time_s: Floats
    """From release to landing."""
    release_speed: Floats
    """m/s."""
    release_x: Floats
    """m."""
    release_y: Floats
    """m, above the pivot."""
    apex: Floats
    """The greatest height of the flight, m above the ground."""
    status: NDArray[np.int8]
    """A `Status`."""
    slack_in_swing: NDArray[np.bool_]
    """The sling pushes somewhere between lift-off and release: a rope would have gone slack."""
    behind_pivot: NDArray[np.bool_]
    """The projectile lands behind the pivot, at a negative distance."""


@dataclass(frozen=True)
class Trajectory:
    """Pictures of a batch of shots. The arm stands still after release."""

    times_s: Floats
    """`(batch, frames)`, from rest to landing; the first third of the frames shows the throw."""
    projectile: Floats
    """`(batch, frames, 2)`, x and y in m from the pivot."""
    arm_tip: Floats
    """`(batch, frames, 2)`, the end of the long arm."""
    counterweight: Floats
    """`(batch, frames, 2)`."""
    status: NDArray[np.int8]
    """`(batch,)`, a `Status`; only OK rows move."""


def _compiled(function: Kernel) -> Kernel:
    """Compile without reordering of floating point, which would break reproducibility."""
    return cast(Kernel, numba.njit(error_model="numpy")(function))


def _inlined(function: Kernel) -> Kernel:
    """The same, copied into each caller: a tenth of the time, for the innermost functions."""
    return cast(Kernel, numba.njit(error_model="numpy", forceinline=True)(function))


def _compiled_and_cached(signature: str) -> Callable[[Kernel], Kernel]:
    """Compile for one signature at import and keep the result on disk where that is possible."""

    def compile_kernel(function: Kernel) -> Kernel:
        try:
            kernel = numba.njit(signature, error_model="numpy", cache=True)(function)
        except RuntimeError:  # numba found no folder that it may write its cache to
            kernel = numba.njit(signature, error_model="numpy")(function)
        return cast(Kernel, kernel)

    return compile_kernel


@_inlined
def _advance(state: Row, rates: Row, step: float) -> Row:
    """`state + step * rates`, for twelve numbers."""
    return (
        state[0] + step * rates[0],
        state[1] + step * rates[1],
        state[2] + step * rates[2],
        state[3] + step * rates[3],
        state[4] + step * rates[4],
        state[5] + step * rates[5],
        state[6] + step * rates[6],
        state[7] + step * rates[7],
        state[8] + step * rates[8],
        state[9] + step * rates[9],
        state[10] + step * rates[10],
        state[11] + step * rates[11],
    )


def _dormand_prince(rates_of: Callable[..., Row]) -> Callable[..., Row]:
    """A step of the fifth-order method of Dormand and Prince (1980) for one set of equations.

    The step takes the state, the rates there (its first stage), the seconds, and whatever else
    `rates_of` takes after the state.
    """

    @_compiled
    def step(state: Row, k1: Row, h: float, *rest: float) -> Row:
        k2 = rates_of(_advance(state, k1, h / 5.0), *rest)

        stage = _advance(state, k1, h * (3.0 / 40.0))
        k3 = rates_of(_advance(stage, k2, h * (9.0 / 40.0)), *rest)

        stage = _advance(state, k1, h * (44.0 / 45.0))
        stage = _advance(stage, k2, h * (-56.0 / 15.0))
        k4 = rates_of(_advance(stage, k3, h * (32.0 / 9.0)), *rest)

        stage = _advance(state, k1, h * (19372.0 / 6561.0))
        stage = _advance(stage, k2, h * (-25360.0 / 2187.0))
        stage = _advance(stage, k3, h * (64448.0 / 6561.0))
        k5 = rates_of(_advance(stage, k4, h * (-212.0 / 729.0)), *rest)

        stage = _advance(state, k1, h * (9017.0 / 3168.0))
        stage = _advance(stage, k2, h * (-355.0 / 33.0))
        stage = _advance(stage, k3, h * (46732.0 / 5247.0))
        stage = _advance(stage, k4, h * (49.0 / 176.0))
        k6 = rates_of(_advance(stage, k5, h * (-5103.0 / 18656.0)), *rest)

        stage = _advance(state, k1, h * (35.0 / 384.0))
        stage = _advance(stage, k3, h * (500.0 / 1113.0))
        stage = _advance(stage, k4, h * (125.0 / 192.0))
        stage = _advance(stage, k5, h * (-2187.0 / 6784.0))
        return _advance(stage, k6, h * (11.0 / 84.0))

    return step


@_compiled
def _first_guess(
    step: float, value_0: float, rate_0: float, value_1: float, rate_1: float
) -> float:
    """Where a function that changes sign within a step is about zero.

    The cubic of the inverse function (value to time) through both ends where both slope upwards or
    both downwards, otherwise the chord.
    """
    change = value_1 - value_0
    share = -value_0 / change
    guess = share
    if rate_0 * rate_1 > 0.0:
        slope_0 = change / (rate_0 * step)
        slope_1 = change / (rate_1 * step)
        rest = 1.0 - share
        cubic = share * (
            rest * rest * slope_0 + share * (3.0 - 2.0 * share) - share * rest * slope_1
        )
        if 0.0 < cubic < 1.0:
            guess = cubic
    return step * guess


# The throw's state: alpha, beta, gamma, their speeds, and the weight's tangents of these six. A
# name that ends in `_t` is the tangent: the derivative for the counterweight at a fixed time.


@_inlined
def _sling_on_ground(state: Row) -> tuple[float, float, float, float, float, float]:
    """Sine and cosine of gamma, its speed per alpha's, its speed, and its two tangents.

    On the ground gamma follows from alpha, so nothing can drift away from the ground.
    """
    alpha, alpha_speed, alpha_t, alpha_speed_t = state[0], state[3], state[6], state[9]
    sin_alpha, cos_alpha = math.sin(alpha), math.cos(alpha)
    cos_gamma = -(PIVOT_HEIGHT + LONG_ARM * cos_alpha) / SLING
    sin_gamma = -math.sqrt(1.0 - cos_gamma * cos_gamma)
    ratio = -LONG_ARM * sin_alpha / (SLING * sin_gamma)
    gamma_speed = ratio * alpha_speed
    gamma_t = ratio * alpha_t
    bend = LONG_ARM * cos_alpha * alpha_t * alpha_speed + SLING * cos_gamma * gamma_t * gamma_speed
    gamma_speed_t = ratio * alpha_speed_t - bend / (SLING * sin_gamma)
    return sin_gamma, cos_gamma, ratio, gamma_speed, gamma_t, gamma_speed_t


@_compiled
def _slide(state: Row) -> Row:
    """The state with the sling where the ground holds it."""
    sin_gamma, cos_gamma, _, gamma_speed, gamma_t, gamma_speed_t = _sling_on_ground(state)
    gamma = 2.0 * math.pi + math.atan2(sin_gamma, cos_gamma)
    return (
        state[0],
        state[1],
        gamma,
        state[3],
        state[4],
        gamma_speed,
        state[6],
        state[7],
        gamma_t,
        state[9],
        state[10],
        gamma_speed_t,
    )


@_inlined
def _accelerations(
    masses: tuple[float, float, float, float],
    forces: tuple[float, float, float],
    grounded: bool,
    ratio: float,
    drift: float,
) -> tuple[float, float, float]:
    """Solve the equations of motion for the accelerations of alpha, beta and gamma.

    The rows of the hanger and the sling hold only their own acceleration and the arm's, so both
    are eliminated. On the ground gamma'' = ratio alpha'' + drift takes the sling's row instead,
    and the ground's force drops out of arm + ratio * sling.
    """
    arm_mass, per_hanger_mass, hanger_coupling, sling_coupling = masses
    arm_force, hanger_force, sling_force = forces
    arm_mass -= hanger_coupling * hanger_coupling * per_hanger_mass
    arm_force -= hanger_coupling * per_hanger_mass * hanger_force
    if grounded:
        both = sling_coupling + ratio * _SLING_MASS
        alpha_acc = (arm_force + ratio * sling_force - both * drift) / (
            arm_mass + ratio * (sling_coupling + both)
        )
        gamma_acc = ratio * alpha_acc + drift
    else:
        share = sling_coupling * (1.0 / _SLING_MASS)
        alpha_acc = (arm_force - share * sling_force) / (arm_mass - share * sling_coupling)
        gamma_acc = (sling_force - sling_coupling * alpha_acc) * (1.0 / _SLING_MASS)
    beta_acc = (hanger_force - hanger_coupling * alpha_acc) * per_hanger_mass
    return alpha_acc, beta_acc, gamma_acc


@_inlined
def _throw_motion(state: Row, weight: float, grounded: bool) -> tuple[Row, float]:
    """Time derivative of the throw's state, and the ground's force in N (0 while hanging).

    First the equations of motion, then the same equations differentiated for the weight; they
    have the same mass matrix, so the compiler divides once for both.
    """
    alpha, beta, gamma, alpha_speed, beta_speed, gamma_speed = state[:6]
    alpha_t, beta_t, gamma_t, alpha_speed_t, beta_speed_t, gamma_speed_t = state[6:]
    sin_alpha, cos_alpha = math.sin(alpha), math.cos(alpha)
    sin_beta, cos_beta = math.sin(beta), math.cos(beta)
    if grounded:
        sin_gamma, cos_gamma, ratio, gamma_speed, gamma_t, gamma_speed_t = _sling_on_ground(state)
    else:
        sin_gamma, cos_gamma, ratio = math.sin(gamma), math.cos(gamma), 0.0

    # D and E of the mass matrix, and the same products with a sine.
    hanger_cos = weight * _ARM_HANGER * (cos_beta * cos_alpha + sin_beta * sin_alpha)
    hanger_sin = weight * _ARM_HANGER * (sin_beta * cos_alpha - cos_beta * sin_alpha)
    sling_cos = _ARM_SLING * (cos_gamma * cos_alpha + sin_gamma * sin_alpha)
    sling_sin = _ARM_SLING * (sin_gamma * cos_alpha - cos_gamma * sin_alpha)
    moment = GRAVITY * (_ARM_MOMENT - weight * SHORT_ARM)
    masses = (
        _ARM_MASS + weight * SHORT_ARM**2,
        1.0 / (WEIGHT_INERTIA + weight * HANGER**2),
        hanger_cos,
        sling_cos,
    )
    forces = (
        hanger_sin * beta_speed**2 + sling_sin * gamma_speed**2 + sin_alpha * moment,
        -hanger_sin * alpha_speed**2 - GRAVITY * weight * HANGER * sin_beta,
        -sling_sin * alpha_speed**2 + GRAVITY * PROJECTILE_MASS * SLING * sin_gamma,
    )
    drift, force = 0.0, 0.0
    if grounded:
        drift = -(LONG_ARM * cos_alpha * alpha_speed**2 + SLING * cos_gamma * gamma_speed**2)
        drift /= SLING * sin_gamma
    alpha_acc, beta_acc, gamma_acc = _accelerations(masses, forces, grounded, ratio, drift)
    if grounded:
        force = forces[2] - sling_cos * alpha_acc - _SLING_MASS * gamma_acc
        force /= SLING * sin_gamma

    hanger_turn, sling_turn = beta_t - alpha_t, gamma_t - alpha_t
    hanger_cos_t = hanger_cos / weight - hanger_sin * hanger_turn
    hanger_sin_t = hanger_sin / weight + hanger_cos * hanger_turn
    sling_cos_t = -sling_sin * sling_turn
    sling_sin_t = sling_cos * sling_turn
    arm_force_t = (
        hanger_sin_t * beta_speed**2
        + 2.0 * hanger_sin * beta_speed * beta_speed_t
        + sling_sin_t * gamma_speed**2
        + 2.0 * sling_sin * gamma_speed * gamma_speed_t
        + cos_alpha * alpha_t * moment
        - sin_alpha * GRAVITY * SHORT_ARM
        - SHORT_ARM**2 * alpha_acc
        - hanger_cos_t * beta_acc
        - sling_cos_t * gamma_acc
        - force * LONG_ARM * cos_alpha * alpha_t
    )
    hanger_force_t = (
        -hanger_sin_t * alpha_speed**2
        - 2.0 * hanger_sin * alpha_speed * alpha_speed_t
        - GRAVITY * HANGER * (sin_beta + weight * cos_beta * beta_t)
        - hanger_cos_t * alpha_acc
        - HANGER**2 * beta_acc
    )
    sling_force_t = (
        -sling_sin_t * alpha_speed**2
        - 2.0 * sling_sin * alpha_speed * alpha_speed_t
        + GRAVITY * PROJECTILE_MASS * SLING * cos_gamma * gamma_t
        - sling_cos_t * alpha_acc
        - force * SLING * cos_gamma * gamma_t
    )
    drift_t = 0.0
    if grounded:
        drift_t = (
            LONG_ARM * sin_alpha * alpha_t * alpha_speed**2
            - 2.0 * LONG_ARM * cos_alpha * alpha_speed * alpha_speed_t
            + SLING * sin_gamma * gamma_t * gamma_speed**2
            - 2.0 * SLING * cos_gamma * gamma_speed * gamma_speed_t
            - LONG_ARM * cos_alpha * alpha_t * alpha_acc
            - SLING * cos_gamma * gamma_t * gamma_acc
        ) / (SLING * sin_gamma)
    forces_t = (arm_force_t, hanger_force_t, sling_force_t)
    alpha_acc_t, beta_acc_t, gamma_acc_t = _accelerations(
        masses, forces_t, grounded, ratio, drift_t
    )

    rates = (
        alpha_speed,
        beta_speed,
        gamma_speed,
        alpha_acc,
        beta_acc,
        gamma_acc,
        alpha_speed_t,
        beta_speed_t,
        gamma_speed_t,
        alpha_acc_t,
        beta_acc_t,
        gamma_acc_t,
    )
    return rates, force


@_inlined
def _throw_rates(state: Row, weight: float, grounded: bool) -> Row:
    """Time derivative of the throw's state."""
    return _throw_motion(state, weight, grounded)[0]


_throw_step = _dormand_prince(_throw_rates)


@_compiled
def _throw_step_length(rates: Row) -> float:
    """Seconds of the next step of the throw."""
    turn = rates[0] - rates[1]
    square = turn * turn + abs(rates[3] - rates[4]) + 1e-9
    return min(THROW_STEP / math.sqrt(square * math.sqrt(square)), LONGEST_THROW_STEP_S)


@_compiled
def _projectile(state: Row) -> tuple[float, float, float, float]:
    """The projectile's x, y and velocity on the sling."""
    alpha, _, gamma, alpha_speed, _, gamma_speed = state[:6]
    arm_x, arm_y = -LONG_ARM * math.sin(alpha), LONG_ARM * math.cos(alpha)
    sling_x, sling_y = -SLING * math.sin(gamma), SLING * math.cos(gamma)
    return (
        arm_x + sling_x,
        arm_y + sling_y,
        -arm_y * alpha_speed - sling_y * gamma_speed,
        arm_x * alpha_speed + sling_x * gamma_speed,
    )


@_compiled
def _projectile_acceleration(state: Row, rates: Row) -> tuple[float, float]:
    """The projectile's acceleration on the sling."""
    alpha, _, gamma, alpha_speed, _, gamma_speed = state[:6]
    arm_x, arm_y = -LONG_ARM * math.sin(alpha), LONG_ARM * math.cos(alpha)
    sling_x, sling_y = -SLING * math.sin(gamma), SLING * math.cos(gamma)
    return (
        -arm_y * rates[3]
        - arm_x * alpha_speed * alpha_speed
        - sling_y * rates[5]
        - sling_x * gamma_speed * gamma_speed,
        arm_x * rates[3]
        - arm_y * alpha_speed * alpha_speed
        + sling_x * rates[5]
        - sling_y * gamma_speed * gamma_speed,
    )


@_compiled
def _projectile_tangent(state: Row) -> tuple[float, float, float, float]:
    """The weight's tangents of the projectile's x, y and velocity."""
    alpha, _, gamma, alpha_speed, _, gamma_speed, alpha_t, _, gamma_t = state[:9]
    alpha_speed_t, gamma_speed_t = state[9], state[11]
    arm_x, arm_y = -LONG_ARM * math.sin(alpha), LONG_ARM * math.cos(alpha)
    sling_x, sling_y = -SLING * math.sin(gamma), SLING * math.cos(gamma)
    return (
        -arm_y * alpha_t - sling_y * gamma_t,
        arm_x * alpha_t + sling_x * gamma_t,
        -arm_x * alpha_t * alpha_speed
        - arm_y * alpha_speed_t
        - sling_x * gamma_t * gamma_speed
        - sling_y * gamma_speed_t,
        -arm_y * alpha_t * alpha_speed
        + arm_x * alpha_speed_t
        - sling_y * gamma_t * gamma_speed
        + sling_x * gamma_speed_t,
    )


@_compiled
def _aim(state: Row, rates: Row, cos_angle: float, sin_angle: float) -> tuple[float, float, float]:
    """How far the velocity has turned past the release angle, its rate, and the forward speed.

    The first is speed * sin(release angle - direction): it rises through zero at release.
    """
    _, _, speed_x, speed_y = _projectile(state)
    acc_x, acc_y = _projectile_acceleration(state, rates)
    return (
        speed_x * sin_angle - speed_y * cos_angle,
        acc_x * sin_angle - acc_y * cos_angle,
        speed_x * cos_angle + speed_y * sin_angle,
    )


@_compiled
def _pushes(state: Row, rates: Row) -> bool:
    """Whether the sling pushes the projectile instead of pulling it."""
    acc_x, acc_y = _projectile_acceleration(state, rates)
    gamma = state[2]
    return -acc_x * math.sin(gamma) + (acc_y + GRAVITY) * math.cos(gamma) > 0.0


@_compiled
def _note(nodes: Floats, count: int, time: float, state: Row, rates: Row) -> int:
    """Write a node (time, six numbers of the state, their rates) where there is room for it."""
    if count >= nodes.shape[0]:
        return count
    nodes[count, 0] = time
    nodes[count, 1], nodes[count, 2], nodes[count, 3] = state[0], state[1], state[2]
    nodes[count, 4], nodes[count, 5], nodes[count, 6] = state[3], state[4], state[5]
    nodes[count, 7], nodes[count, 8], nodes[count, 9] = rates[0], rates[1], rates[2]
    nodes[count, 10], nodes[count, 11], nodes[count, 12] = rates[3], rates[4], rates[5]
    return count + 1


@_compiled
def _lift_off(
    state: Row, rates: Row, force: float, step: float, after_force: float, weight: float
) -> tuple[float, Row]:
    """The part of a step after which the ground's force vanishes, and the state there.

    The motion is continuous up to the acceleration, so the error is the square of the miss.
    """
    low, low_force, high, high_force = 0.0, force, step, after_force
    part, middle = step, state
    for _ in range(MOST_HALVINGS):
        part = low + (high - low) * low_force / (low_force - high_force)
        middle = _throw_step(state, rates, part, weight, True)
        middle_force = _throw_motion(middle, weight, True)[1]
        if abs(middle_force) < 1e-4 * (force - after_force):
            break
        # Halving the end that stays keeps the secant from creeping up on one side (Illinois).
        if middle_force > 0.0:
            low, low_force, high_force = part, middle_force, 0.5 * high_force
        else:
            high, high_force, low_force = part, middle_force, 0.5 * low_force
    return part, middle


@_compiled
def _crest(
    state: Row, rates: Row, step: float, weight: float, cos_angle: float, sin_angle: float
) -> tuple[float, float, float]:
    """A moment inside a step where the aim is past zero, or else at its crest; aim and rate there.

    The aim rises at the beginning of the step and falls at its end.
    """
    low, high = 0.0, step
    part, aim, rate = 0.0, -1.0, 0.0
    for _ in range(MOST_HALVINGS):
        part = 0.5 * (low + high)
        middle = _throw_step(state, rates, part, weight, False)
        middle_rates = _throw_rates(middle, weight, False)
        aim, rate, _ = _aim(middle, middle_rates, cos_angle, sin_angle)
        if aim >= 0.0 or high - low < 1e-6 * step:
            break
        if rate > 0.0:
            low = part
        else:
            high = part
    return part, aim, rate


@_compiled
def _release(
    state: Row,
    rates: Row,
    guess: float,
    high: float,
    weight: float,
    cos_angle: float,
    sin_angle: float,
) -> tuple[float, Row, Row]:
    """The part of a step, up to `high`, after which the aim is zero; the state and rates there."""
    low, part = 0.0, guess
    middle, middle_rates = state, rates
    for _ in range(MOST_HALVINGS):
        middle = _throw_step(state, rates, part, weight, False)
        middle_rates = _throw_rates(middle, weight, False)
        aim, rate, forward = _aim(middle, middle_rates, cos_angle, sin_angle)
        if abs(aim) < 1e-11 * forward:
            break
        if aim < 0.0:
            low = part
        else:
            high = part
        part -= aim / rate
        if not low < part < high:
            part = 0.5 * (low + high)
    return part, middle, middle_rates


@_compiled
def _release_bracket(
    state: Row,
    rates: Row,
    aim: float,
    aim_rate: float,
    step: float,
    after_aim: float,
    after_aim_rate: float,
    weight: float,
    cos_angle: float,
    sin_angle: float,
) -> tuple[float, float]:
    """The end of a stretch at whose beginning the aim is below zero, and where it is about zero.

    The end is -1 where the aim stays below zero. The direction may dip below the release angle and
    come back within one step: a crest is looked for where both ends' tangents meet above zero.
    """
    if after_aim >= 0.0:
        return step, _first_guess(step, aim, aim_rate, after_aim, after_aim_rate)
    if aim_rate > 0.0 and after_aim_rate < 0.0:
        meeting = (after_aim - aim - after_aim_rate * step) / (aim_rate - after_aim_rate)
        if aim + aim_rate * meeting >= 0.0:
            high, crest_aim, crest_rate = _crest(state, rates, step, weight, cos_angle, sin_angle)
            if crest_aim >= 0.0:
                return high, _first_guess(high, aim, aim_rate, crest_aim, crest_rate)
    return -1.0, 0.0


@_compiled
def _slide_and_lift(weight: float, nodes: Floats) -> tuple[int, float, Row, int]:
    """The ground stage: status, time, state at lift-off, nodes written."""
    state = _slide((START_ALPHA, 0.0, START_GAMMA, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    rates, force = _throw_motion(state, weight, True)
    time = 0.0
    count = _note(nodes, 0, time, state, rates)
    for _ in range(MOST_STEPS):
        step = _throw_step_length(rates)
        after = _throw_step(state, rates, step, weight, True)
        after_rates, after_force = _throw_motion(after, weight, True)
        if after_force < 0.0:
            step, after = _lift_off(state, rates, force, step, after_force, weight)
            return _OK, time + step, _slide(after), count
        state, rates, force = _slide(after), after_rates, after_force
        time += step
        count = _note(nodes, count, time, state, rates)
        if not time < LONGEST_STAGE_S:
            break
    return _NO_LIFT_OFF, time, state, count


@_compiled
def _swing_and_release(
    weight: float,
    cos_angle: float,
    sin_angle: float,
    state: Row,
    time: float,
    nodes: Floats,
    count: int,
) -> tuple[int, float, Row, Row, bool, int]:
    """The hanging stage: status, time, state, rates, whether the sling pushed, nodes written."""
    end = time + LONGEST_STAGE_S
    rates = _throw_rates(state, weight, False)
    count = _note(nodes, count, time, state, rates)
    pushed = _pushes(state, rates)
    aim, aim_rate, _ = _aim(state, rates, cos_angle, sin_angle)
    for _ in range(MOST_STEPS):
        step = _throw_step_length(rates)
        after = _throw_step(state, rates, step, weight, False)
        after_rates = _throw_rates(after, weight, False)
        after_aim, after_aim_rate, forward = _aim(after, after_rates, cos_angle, sin_angle)
        if aim < 0.0 and forward > 0.0:
            high, guess = _release_bracket(
                state,
                rates,
                aim,
                aim_rate,
                step,
                after_aim,
                after_aim_rate,
                weight,
                cos_angle,
                sin_angle,
            )
            if high > 0.0:
                step, state, rates = _release(
                    state, rates, guess, high, weight, cos_angle, sin_angle
                )
                time += step
                count = _note(nodes, count, time, state, rates)
                return _OK, time, state, rates, pushed or _pushes(state, rates), count
        state, rates, aim, aim_rate = after, after_rates, after_aim, after_aim_rate
        time += step
        count = _note(nodes, count, time, state, rates)
        pushed = pushed or _pushes(state, rates)
        if not time < end:
            break
    return _NO_RELEASE, time, state, rates, pushed, count


@_compiled
def _flight_rates(state: Row) -> Row:
    """Time derivative in the frame that moves with the wind.

    State: x, y and their speeds, then their tangents for the first initial speed and the second.
    """
    speed_x, speed_y = state[2], state[3]
    speed = math.sqrt(speed_x * speed_x + speed_y * speed_y)
    drag = DRAG * speed
    per_speed = DRAG / (speed + 1e-300)
    drag_a = per_speed * (speed_x * state[6] + speed_y * state[7])
    drag_b = per_speed * (speed_x * state[10] + speed_y * state[11])
    return (
        speed_x,
        speed_y,
        -drag * speed_x,
        -GRAVITY - drag * speed_y,
        state[6],
        state[7],
        -drag * state[6] - drag_a * speed_x,
        -drag * state[7] - drag_a * speed_y,
        state[10],
        state[11],
        -drag * state[10] - drag_b * speed_x,
        -drag * state[11] - drag_b * speed_y,
    )


_flight_step = _dormand_prince(_flight_rates)


@_compiled
def _top(state: Row, rates: Row, step: float) -> float:
    """The greatest height inside a step that begins upwards and ends downwards."""
    low, high, part, height = 0.0, step, min(state[3] / GRAVITY, 0.5 * step), state[1]
    for _ in range(MOST_HALVINGS):
        middle = _flight_step(state, rates, part)
        height = middle[1]
        if abs(middle[3]) < 1e-4:
            break
        if middle[3] > 0.0:
            low = part
        else:
            high = part
        part += middle[3] / GRAVITY
        if not low < part < high:
            part = 0.5 * (low + high)
    return height


@_compiled
def _landing(state: Row, rates: Row, guess: float, high: float) -> tuple[float, Row]:
    """The part of a step, up to `high`, after which the projectile is on the ground."""
    low, part, middle = 0.0, guess, state
    for _ in range(MOST_HALVINGS):
        middle = _flight_step(state, rates, part)
        above = middle[1] + PIVOT_HEIGHT
        if abs(above) < 1e-10:
            break
        if above > 0.0:
            low = part
        else:
            high = part
        part -= above / middle[3]
        if not low < part < high:
            part = 0.5 * (low + high)
    return part, middle


@_compiled
def _fly(
    x: float, y: float, speed_x: float, speed_y: float, nodes: Floats
) -> tuple[int, float, Row, float, int]:
    """From release to the ground: status, time, state, apex, nodes written."""
    state: Row = (x, y, speed_x, speed_y, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    rates = _flight_rates(state)
    time, apex = 0.0, y
    count = _note(nodes, 0, time, state, rates)
    for _ in range(MOST_STEPS):
        if state[1] <= -PIVOT_HEIGHT and state[3] <= 0.0:
            break
        speed = math.sqrt(state[2] * state[2] + state[3] * state[3])
        step = FLIGHT_STEP / (DRAG * speed + SLOWEST_DECAY)
        after = _flight_step(state, rates, step)
        if state[3] > 0.0 and after[3] <= 0.0:
            apex = max(apex, _top(state, rates, step))
        landed = after[1] <= -PIVOT_HEIGHT and state[1] > -PIVOT_HEIGHT
        if landed:
            above, below = state[1] + PIVOT_HEIGHT, after[1] + PIVOT_HEIGHT
            guess = _first_guess(step, above, state[3], below, after[3])
            step, after = _landing(state, rates, guess, step)
        state, rates = after, _flight_rates(after)
        time += step
        count = _note(nodes, count, time, state, rates)
        if landed:
            return _OK, time, state, apex, count
    return _NO_LANDING, time, state, apex, count


@_compiled
def _clamped(value: float, limit: float) -> float:
    """The value within plus and minus the limit."""
    return min(max(value, -limit), limit)


@_compiled
def _shoot_row(
    wind: float, angle: float, weight: float, throw_nodes: Floats, flight_nodes: Floats
) -> tuple[int, bool, int, int, tuple[float, ...]]:
    """One shot: status, whether the sling pushed, node counts, and ten numbers of `Shots`."""
    resting = (RESTING_X, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, RESTING_X, -PIVOT_HEIGHT, 0.0)
    if not (math.isfinite(wind) and math.isfinite(angle) and math.isfinite(weight)):
        return _NOT_FINITE, False, 0, 0, resting
    if weight <= 0.0:
        return _WEIGHT_NOT_POSITIVE, False, 0, 0, resting
    if weight <= STARTING_WEIGHT:
        return _NO_MOTION, False, 0, 0, resting

    # Beyond the vertical an angle counts as its mirror image, so that all of them lie forward.
    mirrored = math.cos(angle) < 0.0
    cos_angle, sin_angle = abs(math.cos(angle)), math.sin(angle)

    status, throw_time, state, throw_count = _slide_and_lift(weight, throw_nodes)
    rates, pushed = state, False
    if status == _OK:
        status, throw_time, state, rates, pushed, throw_count = _swing_and_release(
            weight, cos_angle, sin_angle, state, throw_time, throw_nodes, throw_count
        )
    x, y, speed_x, speed_y = _projectile(state)
    if status != _OK:
        if not math.isfinite(x + y):
            return _NOT_FINITE, False, 0, 0, resting
        return (
            status,
            pushed,
            0,
            0,
            (x, 0.0, 0.0, 0.0, throw_time, 0.0, 0.0, x, y, y + PIVOT_HEIGHT),
        )

    status, flight_time, landed, apex, flight_count = _fly(
        x, y, speed_x - wind, speed_y, flight_nodes
    )
    distance = landed[0] + wind * flight_time
    release_speed = math.sqrt(speed_x * speed_x + speed_y * speed_y)
    finite = math.isfinite(distance + apex)
    if status != _OK or not finite:
        still = (x, 0.0, 0.0, 0.0, throw_time, 0.0, release_speed, x, y, y + PIVOT_HEIGHT)
        return status if finite else _NOT_FINITE, pushed, 0, 0, still

    # Of the distance, for the release's height and velocity: the landing moves along the ground.
    slope = (landed[2] + wind) / landed[3]
    by_y = -slope
    by_speed_x = landed[4] - slope * landed[5]
    by_speed_y = landed[8] - slope * landed[9]
    acc_x, acc_y = _projectile_acceleration(state, rates)
    by_release_time = speed_x + by_y * speed_y + by_speed_x * acc_x + by_speed_y * acc_y
    x_t, y_t, speed_x_t, speed_y_t = _projectile_tangent(state)
    by_weight = x_t + by_y * y_t + by_speed_x * speed_x_t + by_speed_y * speed_y_t

    # Of the release time, from d(aim) = 0.
    aim_rate = acc_x * sin_angle - acc_y * cos_angle
    aim_by_weight = speed_x_t * sin_angle - speed_y_t * cos_angle
    by_angle = -by_release_time * release_speed / aim_rate
    by_weight -= by_release_time * aim_by_weight / aim_rate
    by_wind = flight_time - by_speed_x
    if mirrored:
        by_angle = -by_angle
    if not math.isfinite(by_wind + by_angle + by_weight):
        by_wind, by_angle, by_weight = 0.0, 0.0, 0.0

    numbers = (
        distance,
        _clamped(by_wind, DERIVATIVE_LIMITS[0]),
        _clamped(by_angle, DERIVATIVE_LIMITS[1]),
        _clamped(by_weight, DERIVATIVE_LIMITS[2]),
        throw_time,
        flight_time,
        release_speed,
        x,
        y,
        apex + PIVOT_HEIGHT,
    )
    return _OK, pushed, throw_count, flight_count, numbers


@_compiled_and_cached(
    "void(float64[::1], float64[::1], float64[::1], float64[:, ::1], int8[::1], boolean[::1],"
    "float64[:, ::1], float64[:, ::1], int64[::1])"
)
def _shoot_rows(
    wind: Floats,
    angle: Floats,
    weight: Floats,
    numbers: Floats,
    status: NDArray[np.int8],
    pushed: NDArray[np.bool_],
    throw_nodes: Floats,
    flight_nodes: Floats,
    counts: NDArray[np.int64],
) -> None:
    """Fill `numbers` `(10, batch)`, `status` and `pushed` `(batch,)`, one row after another.

    The nodes `(room, 13)` and their two counts are those of the last row.
    """
    for row in range(wind.shape[0]):
        row_status, row_pushed, counts[0], counts[1], row_numbers = _shoot_row(
            wind[row], angle[row], weight[row], throw_nodes, flight_nodes
        )
        status[row] = row_status
        pushed[row] = row_pushed
        for index, number in enumerate(row_numbers):
            numbers[index, row] = number


def _columns(
    wind: ArrayLike, angle_rad: ArrayLike, weight_kg: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """The three inputs as contiguous float64 of one shape `(batch,)`."""
    columns = [np.ascontiguousarray(c, dtype=np.float64) for c in (wind, angle_rad, weight_kg)]
    shapes = [column.shape for column in columns]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1:
        raise ValueError(
            f"wind, angle and weight have the shapes {shapes}; expected three (batch,)"
        )
    return columns[0], columns[1], columns[2]


def _shoot_with_nodes(
    columns: tuple[Floats, Floats, Floats], room: int
) -> tuple[Shots, Floats, Floats]:
    """The shots, and up to `room` nodes `(nodes, 13)` of the last row's throw and flight."""
    batch = columns[0].shape[0]
    numbers = np.empty((10, batch))
    status = np.empty(batch, dtype=np.int8)
    pushed = np.empty(batch, dtype=np.bool_)
    throw_nodes, flight_nodes = np.empty((room, 13)), np.empty((room, 13))
    counts = np.zeros(2, dtype=np.int64)
    _shoot_rows(*columns, numbers, status, pushed, throw_nodes, flight_nodes, counts)
    behind_pivot = (numbers[0] < 0.0) & (status == Status.OK)
    shots = Shots(
        distance_m=numbers[0],
        d_wind=numbers[1],
        d_angle=numbers[2],
        d_weight=numbers[3],
        throw_time_s=numbers[4],
        flight_time_s=numbers[5],
        release_speed=numbers[6],
        release_x=numbers[7],
        release_y=numbers[8],
        apex=numbers[9],
        status=status,
        slack_in_swing=pushed,
        behind_pivot=behind_pivot,
    )
    return shots, throw_nodes[: counts[0]], flight_nodes[: counts[1]]


def shoot(wind: ArrayLike, angle_rad: ArrayLike, weight_kg: ArrayLike) -> Shots:
    """Shoot a batch: wind in m/s (positive a tail wind), release angle, counterweight, `(batch,)`.

    No row is ever nan or infinite: a row that cannot be shot answers a status, the place where
    the projectile is, and zero derivatives. An angle beyond the vertical counts as its mirror
    image.
    """
    return _shoot_with_nodes(_columns(wind, angle_rad, weight_kg), 0)[0]


def _between(nodes: Floats, times: Floats) -> Floats:
    """The six numbers of the state `(times, 6)`, by cubics through the nodes `(nodes, 13)`."""
    index = np.clip(np.searchsorted(nodes[:, 0], times, side="right") - 1, 0, len(nodes) - 2)
    left, right = nodes[index], nodes[index + 1]
    step = (right[:, 0] - left[:, 0])[:, None]
    share = (times[:, None] - left[:, :1]) / np.where(step > 0.0, step, 1.0)
    rest = 1.0 - share
    return (
        rest**2 * (1.0 + 2.0 * share) * left[:, 1:7]
        + share**2 * (1.0 + 2.0 * rest) * right[:, 1:7]
        + step * share * rest * (rest * left[:, 7:] - share * right[:, 7:])
    )


def _towards(length: float, angle: Floats) -> Floats:
    """A rod `(frames, 2)` of this length, turned by the angle `(frames,)` from upright."""
    return length * np.stack([-np.sin(angle), np.cos(angle)], axis=-1)


def _filmed_row(
    columns: tuple[Floats, Floats, Floats], frames: int
) -> tuple[Floats, Floats, Floats, Floats, int]:
    """Times, projectile, arm tip, counterweight and status of a batch of one."""
    shots, throw_nodes, flight_nodes = _shoot_with_nodes(columns, MOST_STEPS)
    alpha, beta, gamma = (
        np.full(frames, START_ALPHA),
        np.zeros(frames),
        np.full(frames, START_GAMMA),
    )
    times, in_flight = np.zeros(frames), np.zeros((0, 2))
    if shots.status[0] == Status.OK:
        throw_frames = max(frames // 3, 1)
        throw_end, end = shots.throw_time_s[0], shots.throw_time_s[0] + shots.flight_time_s[0]
        times[:throw_frames] = np.linspace(0.0, throw_end, throw_frames)
        times[throw_frames:] = np.linspace(throw_end, end, frames - throw_frames + 1)[1:]
        angles = _between(throw_nodes, np.minimum(times, throw_end))
        alpha, beta, gamma = angles[:, 0], angles[:, 1], angles[:, 2]
        since_release = times[throw_frames:] - throw_end
        in_flight = _between(flight_nodes, since_release)[:, :2]
        in_flight[:, 0] += columns[0] * since_release  # the flight's frame moves with the wind
    arm_tip = _towards(LONG_ARM, alpha)
    projectile = arm_tip + _towards(SLING, gamma)
    projectile[frames - len(in_flight) :] = in_flight
    counterweight = _towards(-SHORT_ARM, alpha) + _towards(-HANGER, beta)
    return times, projectile, arm_tip, counterweight, int(shots.status[0])


def trajectory(
    wind: ArrayLike, angle_rad: ArrayLike, weight_kg: ArrayLike, frames: int = 120
) -> Trajectory:
    """Film a batch, `(batch,)` each as in `shoot`, with at least two frames a shot."""
    if frames < 2:
        raise ValueError(f"frames is {frames}; a picture needs at least 2")
    columns = _columns(wind, angle_rad, weight_kg)
    batch = columns[0].shape[0]
    shape = (batch, frames)
    film = Trajectory(
        np.empty(shape),
        np.empty((*shape, 2)),
        np.empty((*shape, 2)),
        np.empty((*shape, 2)),
        np.empty(batch, dtype=np.int8),
    )
    for row in range(batch):
        one = (columns[0][row : row + 1], columns[1][row : row + 1], columns[2][row : row + 1])
        times, projectile, arm_tip, counterweight, status = _filmed_row(one, frames)
        film.times_s[row], film.status[row] = times, status
        film.projectile[row], film.arm_tip[row] = projectile, arm_tip
        film.counterweight[row] = counterweight
    return film
