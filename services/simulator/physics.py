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

Several shots are computed side by side, in the lanes of the processor's vector instructions. All is
float64 in a fixed order of operations, the same in each lane, and lanes are independent: a row's
result is the same to the last bit whatever other rows the batch has. (Processors of another kind
may fuse other multiplications with additions, and differ in the last bits.)

The compiled kernel is cached beside this file, or in `NUMBA_CACHE_DIR` if that is set. Numba reads
no cache that it cannot write to: if none is writable, each process compiles for some six seconds.

It is one long file on purpose: numba's cache is invalidated by a change of the file of the kernel
alone, so a change of a function in another file would have no effect.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar, cast

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
    """The outcome of a shot; the derivatives of a row that is not OK are zero."""

    OK = 0
    WEIGHT_NOT_POSITIVE = 1
    """The counterweight is zero or negative."""
    NOT_FINITE = 2
    """An input is nan or infinite, or so large that the result would be."""
    NO_MOTION = 3
    """The counterweight is too light to lift the arm."""
    NO_LIFT_OFF = 4
    """The projectile still slides on the ground at the end of the stage's time."""
    NO_RELEASE = 5
    """The velocity never points along the release angle."""
    NO_LANDING = 6
    """The projectile is released under the ground, or never comes down."""

    @property
    def label(self) -> str:
        """The name of the status in the reference data."""
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
    """A batch of shots; every field is `(batch,)`, float64 unless stated otherwise."""

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
    """The motion of a batch of shots. The arm rests after release."""

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


# A product may be fused with a sum, which rounds once instead of twice. Nothing else is allowed:
# reordering would break reproducibility, and a nan has to stay one.
_ARITHMETIC: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}
# Functions that only compiled ones call need no wrapper for Python, which takes time to compile.
_INTERNAL: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_ARITHMETIC}


def _compiled(function: Kernel) -> Kernel:
    """Compile for the types that the function is called with."""
    return cast(Kernel, numba.njit(**_INTERNAL)(function))


def _inlined(function: Kernel) -> Kernel:
    """Compile a function and inline it in its callers: a loop over lanes must have no call."""
    return cast(Kernel, numba.njit(forceinline=True, **_INTERNAL)(function))


def _written_in(function: Kernel) -> Kernel:
    """Inline a function before compilation, as if it were written in its caller."""
    return cast(Kernel, numba.njit(inline="always", **_ARITHMETIC)(function))


def _compiled_and_cached(signature: str) -> Callable[[Kernel], Kernel]:
    """Compile for one signature at import, and cache the result on disk if possible."""

    def compile_kernel(function: Kernel) -> Kernel:
        try:
            kernel = numba.njit(signature, cache=True, **_ARITHMETIC)(function)
        except RuntimeError:  # numba found no folder that it may write its cache to
            kernel = numba.njit(signature, **_ARITHMETIC)(function)
        return cast(Kernel, kernel)

    return compile_kernel


@_inlined
def _advance(state: Row, rates: Row, step: float) -> Row:
    """Return `state + step * rates`, twelve numbers."""
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
    """Return a step of the fifth-order method of Dormand and Prince (1980) for some equations.

    The step takes the state, the rates there (its first stage), the seconds, and whatever else
    `rates_of` takes after the state.
    """

    @_inlined
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
    """Estimate when a function that changes sign within a step of `step` seconds is zero, in s.

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


# Taylor's coefficients of sine and cosine, up to the last that shows on a quarter of a turn.
_SINE = tuple((-1.0) ** n / math.factorial(2 * n + 1) for n in range(7))
_COSINE = tuple((-1.0) ** n / math.factorial(2 * n) for n in range(8))
# Pi in two parts (Cody and Waite 1980): a whole number times the first is exact.
_PI_HIGH = 3.141592651605606
_PI_LOW = 1.984187159361081e-09
_TO_WHOLE = 1.5 * 2.0**52  # added and subtracted, it rounds to a whole number


@_inlined
def _sine_and_cosine(angle: float) -> tuple[float, float]:
    """Return both to 1e-13 for angles (rad) below 1e6, without a branch or a call.

    The angle's distance to the nearest whole number of half turns is halved, expanded, and doubled
    again; an odd number of half turns changes both signs.
    """
    turns = (angle * (1.0 / math.pi) + _TO_WHOLE) - _TO_WHOLE
    half = 0.5 * ((angle - turns * _PI_HIGH) - turns * _PI_LOW)
    pairs = (turns * 0.5 + _TO_WHOLE) - _TO_WHOLE
    sign = 1.0 - 2.0 * abs(turns - 2.0 * pairs)
    square = half * half
    sine, cosine = _SINE[6], _COSINE[7]
    sine = sine * square + _SINE[5]
    sine = sine * square + _SINE[4]
    sine = sine * square + _SINE[3]
    sine = sine * square + _SINE[2]
    sine = sine * square + _SINE[1]
    sine = half + half * square * sine
    cosine = cosine * square + _COSINE[6]
    cosine = cosine * square + _COSINE[5]
    cosine = cosine * square + _COSINE[4]
    cosine = cosine * square + _COSINE[3]
    cosine = cosine * square + _COSINE[2]
    cosine = cosine * square + _COSINE[1]
    cosine = 1.0 + square * cosine
    sine = sign * sine
    return 2.0 * sine * cosine, sign * (1.0 - 2.0 * (sine * sine))


# The throw's state: alpha, beta, gamma, their speeds, and the weight's tangents of these six. A
# name that ends in `_t` is the tangent: the derivative for the counterweight at a fixed time.


@_inlined
def _sling_on_ground(state: Row) -> tuple[float, float, float, float, float, float, float]:
    """Return sine and cosine of gamma, its speed per alpha's, its speed, its tangents, 1 / height.

    The height is that of the sling, `SLING * sin(gamma)`; it divides often, so it is inverted once.

    On the ground gamma follows from alpha, so nothing can drift away from the ground.
    """
    alpha, alpha_speed, alpha_t, alpha_speed_t = state[0], state[3], state[6], state[9]
    sin_alpha, cos_alpha = _sine_and_cosine(alpha)
    cos_gamma = (PIVOT_HEIGHT + LONG_ARM * cos_alpha) * (-1.0 / SLING)
    sin_gamma = -math.sqrt(1.0 - cos_gamma * cos_gamma)
    per_height = 1.0 / (SLING * sin_gamma)
    ratio = -LONG_ARM * sin_alpha * per_height
    gamma_speed = ratio * alpha_speed
    gamma_t = ratio * alpha_t
    bend = LONG_ARM * cos_alpha * alpha_t * alpha_speed + SLING * cos_gamma * gamma_t * gamma_speed
    gamma_speed_t = ratio * alpha_speed_t - bend * per_height
    return sin_gamma, cos_gamma, ratio, gamma_speed, gamma_t, gamma_speed_t, per_height


@_compiled
def _slide(state: Row) -> Row:
    """Return the state with the sling on the ground."""
    sin_gamma, cos_gamma, _, gamma_speed, gamma_t, gamma_speed_t, _ = _sling_on_ground(state)
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
        per_mass = 1.0 / (arm_mass + ratio * (sling_coupling + both))
        alpha_acc = (arm_force + ratio * sling_force - both * drift) * per_mass
        gamma_acc = ratio * alpha_acc + drift
    else:
        share = sling_coupling * (1.0 / _SLING_MASS)
        per_mass = 1.0 / (arm_mass - share * sling_coupling)
        alpha_acc = (arm_force - share * sling_force) * per_mass
        gamma_acc = (sling_force - sling_coupling * alpha_acc) * (1.0 / _SLING_MASS)
    beta_acc = (hanger_force - hanger_coupling * alpha_acc) * per_hanger_mass
    return alpha_acc, beta_acc, gamma_acc


@_inlined
def _throw_motion(state: Row, weight: float, grounded: bool) -> tuple[Row, float]:
    """Return the time derivative of the throw's state, and the ground's force in N (0 if hanging).

    First the equations of motion, then the same equations differentiated for the weight; they
    have the same mass matrix, so the compiler divides once for both.
    """
    alpha, beta, gamma, alpha_speed, beta_speed, gamma_speed = state[:6]
    alpha_t, beta_t, gamma_t, alpha_speed_t, beta_speed_t, gamma_speed_t = state[6:]
    sin_alpha, cos_alpha = _sine_and_cosine(alpha)
    sin_beta, cos_beta = _sine_and_cosine(beta)
    if grounded:
        on_ground = _sling_on_ground(state)
        sin_gamma, cos_gamma, ratio, gamma_speed, gamma_t, gamma_speed_t, per_height = on_ground
    else:
        sin_gamma, cos_gamma = _sine_and_cosine(gamma)
        ratio, per_height = 0.0, 0.0

    # D and E of the mass matrix, and the same products with a sine.
    hanger_cos_per_kg = _ARM_HANGER * (cos_beta * cos_alpha + sin_beta * sin_alpha)
    hanger_sin_per_kg = _ARM_HANGER * (sin_beta * cos_alpha - cos_beta * sin_alpha)
    hanger_cos, hanger_sin = weight * hanger_cos_per_kg, weight * hanger_sin_per_kg
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
        drift *= per_height
    alpha_acc, beta_acc, gamma_acc = _accelerations(masses, forces, grounded, ratio, drift)
    if grounded:
        force = forces[2] - sling_cos * alpha_acc - _SLING_MASS * gamma_acc
        force *= per_height

    hanger_turn, sling_turn = beta_t - alpha_t, gamma_t - alpha_t
    hanger_cos_t = hanger_cos_per_kg - hanger_sin * hanger_turn
    hanger_sin_t = hanger_sin_per_kg + hanger_cos * hanger_turn
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
        ) * per_height
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
def _slide_rates(state: Row, weight: float) -> Row:
    """Return the time derivative of the throw's state on the ground."""
    return _throw_motion(state, weight, True)[0]


@_inlined
def _swing_rates(state: Row, weight: float) -> Row:
    """Return the time derivative of the throw's state while hanging."""
    return _throw_motion(state, weight, False)[0]


_slide_step = _dormand_prince(_slide_rates)
_swing_step = _dormand_prince(_swing_rates)


@_inlined
def _throw_step_length(rates: Row) -> float:
    """Return the length of the throw's next step, s."""
    turn = rates[0] - rates[1]
    square = turn * turn + abs(rates[3] - rates[4]) + 1e-9
    return min(THROW_STEP / math.sqrt(square * math.sqrt(square)), LONGEST_THROW_STEP_S)


@_inlined
def _rods(alpha: float, gamma: float) -> tuple[float, float, float, float]:
    """Return x and y of the long arm and of the sling, m."""
    sin_alpha, cos_alpha = _sine_and_cosine(alpha)
    sin_gamma, cos_gamma = _sine_and_cosine(gamma)
    return -LONG_ARM * sin_alpha, LONG_ARM * cos_alpha, -SLING * sin_gamma, SLING * cos_gamma


@_inlined
def _projectile(state: Row) -> tuple[float, float, float, float]:
    """Return x, y (m) and velocity (m/s) of the projectile on the sling."""
    alpha, _, gamma, alpha_speed, _, gamma_speed = state[:6]
    arm_x, arm_y, sling_x, sling_y = _rods(alpha, gamma)
    return (
        arm_x + sling_x,
        arm_y + sling_y,
        -arm_y * alpha_speed - sling_y * gamma_speed,
        arm_x * alpha_speed + sling_x * gamma_speed,
    )


@_inlined
def _projectile_acceleration(state: Row, rates: Row) -> tuple[float, float]:
    """Return the acceleration of the projectile on the sling, m/s^2."""
    alpha, _, gamma, alpha_speed, _, gamma_speed = state[:6]
    arm_x, arm_y, sling_x, sling_y = _rods(alpha, gamma)
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


@_inlined
def _projectile_tangent(state: Row) -> tuple[float, float, float, float]:
    """Return the derivatives of the projectile's x, y and velocity by the weight, per kg."""
    alpha, _, gamma, alpha_speed, _, gamma_speed, alpha_t, _, gamma_t = state[:9]
    alpha_speed_t, gamma_speed_t = state[9], state[11]
    arm_x, arm_y, sling_x, sling_y = _rods(alpha, gamma)
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


@_inlined
def _aim(state: Row, rates: Row, cos_angle: float, sin_angle: float) -> tuple[float, float, float]:
    """Return how far the velocity has turned past the release angle, its rate, the forward speed.

    The first is speed * sin(release angle - direction): it rises through zero at release.
    """
    _, _, speed_x, speed_y = _projectile(state)
    acc_x, acc_y = _projectile_acceleration(state, rates)
    return (
        speed_x * sin_angle - speed_y * cos_angle,
        acc_x * sin_angle - acc_y * cos_angle,
        speed_x * cos_angle + speed_y * sin_angle,
    )


@_inlined
def _push(state: Row, rates: Row) -> float:
    """Return the force of the sling on the projectile per mass, m/s^2; it pulls if negative."""
    acc_x, acc_y = _projectile_acceleration(state, rates)
    sin_gamma, cos_gamma = _sine_and_cosine(state[2])
    return -acc_x * sin_gamma + (acc_y + GRAVITY) * cos_gamma


@_compiled
def _note(nodes: Floats, count: int, time: float, state: Row, rates: Row) -> int:
    """Write a node (time, six numbers of the state, their rates) if there is room for it."""
    if count >= nodes.shape[0]:
        return count
    nodes[count, 0] = time
    nodes[count, 1], nodes[count, 2], nodes[count, 3] = state[0], state[1], state[2]
    nodes[count, 4], nodes[count, 5], nodes[count, 6] = state[3], state[4], state[5]
    nodes[count, 7], nodes[count, 8], nodes[count, 9] = rates[0], rates[1], rates[2]
    nodes[count, 10], nodes[count, 11], nodes[count, 12] = rates[3], rates[4], rates[5]
    return count + 1


# LANES shots are computed at a time. The attempts (`_try_...`) are loops over lanes without branch
# or call, so that the compiler makes vector instructions of them. Each lane tries a step; where
# nothing happens inside it, the lane goes on from its end, and where something does, a scalar
# function (`_decide_...`) says what the lane tries next from the same beginning. A lane whose shot
# is done with the stage takes the next shot. Eight numbers fill the widest vector registers.
LANES = 8

# Where the fields of the lanes begin in their one array: LANES numbers each, a lane's own after as
# many others. One array, so that the compiler sees that no field overlaps another.
_STATE, _RATES, _AFTER, _AFTER_RATES = (12 * LANES * place for place in range(4))
(
    _STEP,
    _TIME,
    _TRIES,
    _MODE,
    _EVENT,
    _LOW,  # the bracket of a search
    _HIGH,
    _VALUE,  # what a search is about: the ground's force, or the aim
    _VALUE_RATE,
    _AFTER_VALUE,
    _AFTER_VALUE_RATE,
    _LOW_VALUE,
    _HIGH_VALUE,
    _LAST_VALUE,
    _TOLERANCE,
    _WHOLE,  # the step in which a crest is looked for
    _WEIGHT,
    _COS_ANGLE,
    _SIN_ANGLE,
    _END,
    _FORWARD,
    _PUSH,
    _PUSHED,
    _APEX,
    _ROOM,
) = (LANES * place for place in range(48, 73))

# Modes of a lane: make steps, make one without a check, search for an event, or for the aim's peak.
_MARCH, _PASS, _SEARCH, _CREST = 0.0, 1.0, 2.0, 3.0
# What an attempt was: an ordinary step, one with an event inside, one where an event may be inside,
# the stage's last, or part of a search.
_NOTHING, _CROSSED, _PERHAPS, _OVER, _TRIED = 0.0, 1.0, 2.0, 3.0, 4.0

# Columns of the table of shots. The state and rates are those at lift-off, then those at release.
_BEGIN, _BEGIN_RATES, _LANDED = 0, 12, 24
_STATUS, _WIND, _KILOGRAMS, _COS, _SIN, _MIRRORED = 36, 37, 38, 39, 40, 41
_THROW_TIME, _FLIGHT_TIME, _HARDEST_PUSH, _HIGHEST = 42, 43, 44, 45
_COLUMNS = 46

_SLIDE, _SWING, _FLIGHT = 0, 1, 2


@_inlined
def _get_row(lanes: Floats, first: int) -> Row:
    """Return a lane's twelve numbers, from the index of the first one on."""
    return (
        lanes[first],
        lanes[first + 1 * LANES],
        lanes[first + 2 * LANES],
        lanes[first + 3 * LANES],
        lanes[first + 4 * LANES],
        lanes[first + 5 * LANES],
        lanes[first + 6 * LANES],
        lanes[first + 7 * LANES],
        lanes[first + 8 * LANES],
        lanes[first + 9 * LANES],
        lanes[first + 10 * LANES],
        lanes[first + 11 * LANES],
    )


@_inlined
def _put_row(lanes: Floats, first: int, row: Row) -> None:
    """Set a lane's twelve numbers, from the index of the first on."""
    lanes[first] = row[0]
    lanes[first + 1 * LANES] = row[1]
    lanes[first + 2 * LANES] = row[2]
    lanes[first + 3 * LANES] = row[3]
    lanes[first + 4 * LANES] = row[4]
    lanes[first + 5 * LANES] = row[5]
    lanes[first + 6 * LANES] = row[6]
    lanes[first + 7 * LANES] = row[7]
    lanes[first + 8 * LANES] = row[8]
    lanes[first + 9 * LANES] = row[9]
    lanes[first + 10 * LANES] = row[10]
    lanes[first + 11 * LANES] = row[11]


@_inlined
def _chosen(first: bool, one: Row, other: Row) -> Row:
    """Return one or the other, twelve numbers."""
    return (
        one[0] if first else other[0],
        one[1] if first else other[1],
        one[2] if first else other[2],
        one[3] if first else other[3],
        one[4] if first else other[4],
        one[5] if first else other[5],
        one[6] if first else other[6],
        one[7] if first else other[7],
        one[8] if first else other[8],
        one[9] if first else other[9],
        one[10] if first else other[10],
        one[11] if first else other[11],
    )


@_inlined
def _go_on(
    lanes: Floats,
    lane: int,
    event: float,
    before: tuple[Row, Row],
    after: tuple[Row, Row],
    next_step: float,
) -> None:
    """Accept an attempt; if no event happened, the next attempt begins at its end."""
    stays = event != _NOTHING
    time, step, mode = lanes[_TIME + lane], lanes[_STEP + lane], lanes[_MODE + lane]
    tries = lanes[_TRIES + lane]
    _put_row(lanes, _AFTER + lane, after[0])
    _put_row(lanes, _AFTER_RATES + lane, after[1])
    _put_row(lanes, _STATE + lane, _chosen(stays, before[0], after[0]))
    _put_row(lanes, _RATES + lane, _chosen(stays, before[1], after[1]))
    lanes[_TIME + lane] = time if stays else time + step
    lanes[_STEP + lane] = step if stays else next_step
    lanes[_MODE + lane] = mode if stays else _MARCH
    lanes[_TRIES + lane] = tries + 1.0
    lanes[_EVENT + lane] = event


@_inlined
def _search(lanes: Floats, lane: int, high: float, guess: float) -> None:
    """Search for an event between the beginning of the step and `high`."""
    lanes[_MODE + lane] = _SEARCH
    lanes[_LOW + lane] = 0.0
    lanes[_HIGH + lane] = high
    lanes[_STEP + lane] = guess
    lanes[_TRIES + lane] = 0.0


@_inlined
def _narrow(lanes: Floats, lane: int, is_low: bool, correction: float) -> None:
    """Make a Newton step from the attempt, or halve the bracket if the step would leave it."""
    tried = lanes[_STEP + lane]
    lanes[(_LOW if is_low else _HIGH) + lane] = tried
    low, high = lanes[_LOW + lane], lanes[_HIGH + lane]
    step = tried + correction
    lanes[_STEP + lane] = step if low < step < high else 0.5 * (low + high)


# The ground stage.


@_compiled
def _try_slides(lanes: Floats) -> None:
    """Make an attempt in each lane on the ground. The sling's four numbers are not updated."""
    for lane in range(LANES):
        state, rates = _get_row(lanes, _STATE + lane), _get_row(lanes, _RATES + lane)
        step, weight = lanes[_STEP + lane], lanes[_WEIGHT + lane]
        force, mode = lanes[_VALUE + lane], lanes[_MODE + lane]
        end = _slide_step(state, rates, step, weight)
        end = (end[0], end[1], 0.0, end[3], end[4], 0.0, end[6], end[7], 0.0, end[9], end[10], 0.0)
        end_rates, end_force = _throw_motion(end, weight, True)
        goes_on = (lanes[_TIME + lane] + step < LONGEST_STAGE_S) & (
            lanes[_TRIES + lane] < MOST_STEPS
        )
        event = _NOTHING if goes_on else _OVER
        event = _CROSSED if (end_force < 0.0) & (mode == _MARCH) else event
        event = _TRIED if mode == _SEARCH else event
        next_step = _throw_step_length(end_rates)
        _go_on(lanes, lane, event, (state, rates), (end, end_rates), next_step)
        lanes[_AFTER_VALUE + lane] = end_force
        lanes[_VALUE + lane] = force if event != _NOTHING else end_force


@_compiled
def _decide_slide(lanes: Floats, lane: int) -> int:
    """Find lift-off, where the ground's force vanishes. Return a status, or -1 to try on.

    The motion is continuous up to the acceleration, so the error is the square of the miss.
    """
    event, step = lanes[_EVENT + lane], lanes[_STEP + lane]
    force = lanes[_AFTER_VALUE + lane]
    if event == _OVER:
        return _NO_LIFT_OFF
    if event == _CROSSED:
        _search(lanes, lane, step, step)
        lanes[_LOW_VALUE + lane] = lanes[_VALUE + lane]
        lanes[_HIGH_VALUE + lane] = force
        lanes[_TOLERANCE + lane] = 1e-6 * (lanes[_VALUE + lane] - force)
    elif abs(force) < lanes[_TOLERANCE + lane] or lanes[_TRIES + lane] >= MOST_HALVINGS:
        return _OK
    # Halving an end that stays twice keeps the secant from creeping up on one side (Illinois).
    elif force > 0.0:
        lanes[_LOW + lane] = step
        lanes[_LOW_VALUE + lane] = force
        if lanes[_LAST_VALUE + lane] > 0.0:
            lanes[_HIGH_VALUE + lane] *= 0.5
    else:
        lanes[_HIGH + lane] = step
        lanes[_HIGH_VALUE + lane] = force
        if lanes[_LAST_VALUE + lane] < 0.0:
            lanes[_LOW_VALUE + lane] *= 0.5
    lanes[_LAST_VALUE + lane] = force
    low, high = lanes[_LOW + lane], lanes[_HIGH + lane]
    low_force, high_force = lanes[_LOW_VALUE + lane], lanes[_HIGH_VALUE + lane]
    lanes[_STEP + lane] = low + (high - low) * low_force / (low_force - high_force)
    return -1


# The hanging stage. Its value is the aim.


@_compiled
def _try_swings(lanes: Floats) -> None:
    """Make an attempt in each lane while the sling swings freely.

    The direction may dip below the release angle and come back within one step: that may be where
    both ends' tangents meet above zero.
    """
    for lane in range(LANES):
        state, rates = _get_row(lanes, _STATE + lane), _get_row(lanes, _RATES + lane)
        step, weight = lanes[_STEP + lane], lanes[_WEIGHT + lane]
        aim, aim_rate = lanes[_VALUE + lane], lanes[_VALUE_RATE + lane]
        mode, tries = lanes[_MODE + lane], lanes[_TRIES + lane]
        end = _swing_step(state, rates, step, weight)
        end_rates = _swing_rates(end, weight)
        end_aim, end_aim_rate, forward = _aim(
            end, end_rates, lanes[_COS_ANGLE + lane], lanes[_SIN_ANGLE + lane]
        )
        goes_on = (lanes[_TIME + lane] + step < lanes[_END + lane]) & (tries < MOST_STEPS)
        may_cross = (mode == _MARCH) & (aim < 0.0) & (forward > 0.0)
        meeting = (end_aim - aim - end_aim_rate * step) / (aim_rate - end_aim_rate)
        meets = (aim_rate > 0.0) & (end_aim_rate < 0.0) & (aim + aim_rate * meeting >= 0.0)
        event = _NOTHING if goes_on else _OVER
        event = _PERHAPS if may_cross & meets else event
        event = _CROSSED if may_cross & (end_aim >= 0.0) else event
        event = _TRIED if (mode == _SEARCH) | (mode == _CREST) else event
        stays = event != _NOTHING
        pushed, push = lanes[_PUSHED + lane], _push(end, end_rates)
        next_step = _throw_step_length(end_rates)
        _go_on(lanes, lane, event, (state, rates), (end, end_rates), next_step)
        lanes[_PUSHED + lane] = push if (push > pushed) & (not stays) else pushed
        lanes[_PUSH + lane] = push
        lanes[_FORWARD + lane] = forward
        lanes[_AFTER_VALUE + lane] = end_aim
        lanes[_AFTER_VALUE_RATE + lane] = end_aim_rate
        lanes[_VALUE + lane] = aim if stays else end_aim
        lanes[_VALUE_RATE + lane] = aim_rate if stays else end_aim_rate


@_compiled
def _decide_swing(lanes: Floats, lane: int) -> int:
    """Find the release, the aim's first rise through zero. Return a status, or -1 to try on."""
    event, step, mode = lanes[_EVENT + lane], lanes[_STEP + lane], lanes[_MODE + lane]
    aim, aim_rate = lanes[_AFTER_VALUE + lane], lanes[_AFTER_VALUE_RATE + lane]
    if event == _OVER:
        return _NO_RELEASE
    if event == _PERHAPS:
        lanes[_MODE + lane] = _CREST
        lanes[_LOW + lane] = 0.0
        lanes[_HIGH + lane] = step
        lanes[_WHOLE + lane] = step
        lanes[_STEP + lane] = 0.5 * step
    elif event == _CROSSED or (mode == _CREST and aim >= 0.0):
        before, rate_before = lanes[_VALUE + lane], lanes[_VALUE_RATE + lane]
        _search(lanes, lane, step, _first_guess(step, before, rate_before, aim, aim_rate))
    elif mode == _CREST:
        whole = lanes[_WHOLE + lane]
        if lanes[_HIGH + lane] - lanes[_LOW + lane] < 1e-6 * whole:  # the crest is below zero
            lanes[_MODE + lane] = _PASS
            lanes[_STEP + lane] = whole
        else:
            _narrow(lanes, lane, aim_rate > 0.0, math.inf)
    else:
        close = abs(aim) < 1e-11 * lanes[_FORWARD + lane]
        if close or lanes[_TRIES + lane] >= MOST_HALVINGS:
            return _OK
        _narrow(lanes, lane, aim < 0.0, -aim / aim_rate)
    return -1


# The flight, in the frame that moves with the wind.


@_inlined
def _flight_rates(state: Row) -> Row:
    """Return the time derivative of the flight's state, in the frame that moves with the wind.

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


@_inlined
def _flight_step_length(state: Row) -> float:
    """Return the length of the flight's next step, s."""
    speed = math.sqrt(state[2] * state[2] + state[3] * state[3])
    return FLIGHT_STEP / (DRAG * speed + SLOWEST_DECAY)


@_compiled
def _height_inside(before: Row, after: Row, step: float, part: float) -> float:
    """Interpolate the height (m) within a step, by height, speed, acceleration at both ends.

    It is Hermite's polynomial of degree five, written as two halves, one for each end.
    """
    share = part / step
    rest = 1.0 - share
    from_before = before[0] + part * (
        before[1]
        + 3.0 * before[0] / step
        + part * (0.5 * before[2] + 3.0 * before[1] / step + 6.0 * before[0] / step**2)
    )
    back = step - part
    from_after = after[0] - back * (
        after[1]
        - 3.0 * after[0] / step
        - back * (0.5 * after[2] - 3.0 * after[1] / step + 6.0 * after[0] / step**2)
    )
    return rest**3 * from_before + share**3 * from_after


@_compiled
def _try_flights(lanes: Floats) -> None:
    """Make an attempt in each lane in flight."""
    for lane in range(LANES):
        state, rates = _get_row(lanes, _STATE + lane), _get_row(lanes, _RATES + lane)
        step, mode = lanes[_STEP + lane], lanes[_MODE + lane]
        end = _flight_step(state, rates, step)
        end_rates = _flight_rates(end)
        lost = (end[1] <= -PIVOT_HEIGHT) & (end[3] <= 0.0)
        landed = (end[1] <= -PIVOT_HEIGHT) & (state[1] > -PIVOT_HEIGHT)
        goes_on = (lanes[_TRIES + lane] < MOST_STEPS) & (end[1] == end[1])
        event = _NOTHING if goes_on & (not lost) else _OVER
        event = _PERHAPS if (state[3] > 0.0) & (end[3] <= 0.0) & (not lost) else event
        event = _CROSSED if landed & (mode == _MARCH) else event
        event = _TRIED if mode == _SEARCH else event
        _go_on(lanes, lane, event, (state, rates), (end, end_rates), _flight_step_length(end))


@_compiled
def _decide_flight(lanes: Floats, lane: int) -> int:
    """Find the landing, and the apex before it. Return a status, or -1 to try on."""
    event, step = lanes[_EVENT + lane], lanes[_STEP + lane]
    state, rates = _get_row(lanes, _STATE + lane), _get_row(lanes, _RATES + lane)
    end, end_rates = _get_row(lanes, _AFTER + lane), _get_row(lanes, _AFTER_RATES + lane)
    before, after = (state[1], state[3], rates[3]), (end[1], end[3], end_rates[3])
    if event == _OVER:
        return _NO_LANDING
    if event == _TRIED:
        above = end[1] + PIVOT_HEIGHT
        correction = -above / end[3]
        if abs(correction) < 1e-6 or lanes[_TRIES + lane] >= MOST_HALVINGS:
            # So short a time that its square does not show.
            _put_row(lanes, _AFTER + lane, _advance(end, end_rates, correction))
            lanes[_STEP + lane] = step + correction
            return _OK
        _narrow(lanes, lane, above > 0.0, correction)
        return -1
    if state[3] > 0.0 and end[3] <= 0.0:
        top = _first_guess(step, state[3], rates[3], end[3], end_rates[3])
        height = _height_inside(before, after, step, top)
        lanes[_APEX + lane] = max(lanes[_APEX + lane], height)
    if event == _CROSSED:
        guess = _first_guess(step, state[1] + PIVOT_HEIGHT, state[3], end[1] + PIVOT_HEIGHT, end[3])
        for _ in range(3):
            speed = state[3] + (end[3] - state[3]) * guess / step
            guess -= (_height_inside(before, after, step, guess) + PIVOT_HEIGHT) / speed
        _search(lanes, lane, step, min(max(guess, 0.0), step))
        return -1
    _put_row(lanes, _STATE + lane, end)
    _put_row(lanes, _RATES + lane, end_rates)
    lanes[_TIME + lane] += step
    lanes[_STEP + lane] = _flight_step_length(end)
    lanes[_EVENT + lane] = _NOTHING
    lanes[_MODE + lane] = _MARCH
    return -1


# The stages, each for all shots.


@_inlined
def _twelve(numbers: Floats) -> Row:
    """Return the first twelve numbers."""
    return (
        numbers[0],
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4],
        numbers[5],
        numbers[6],
        numbers[7],
        numbers[8],
        numbers[9],
        numbers[10],
        numbers[11],
    )


@_compiled
def _load(stage: int, lanes: Floats, lane: int, shot: Floats) -> None:
    """Put a shot into a lane. Its first attempt has length 0, and finds the rates there."""
    state: Row = (START_ALPHA, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    time = 0.0
    if stage == _SWING:
        state, time = _twelve(shot[_BEGIN:]), shot[_THROW_TIME]
    elif stage == _FLIGHT:
        x, y, speed_x, speed_y = _projectile(_twelve(shot[_BEGIN:]))
        speed_x -= shot[_WIND]
        state = (x, y, speed_x, speed_y, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    _put_row(lanes, _STATE + lane, state)
    for index in range(12):
        lanes[_RATES + index * LANES + lane] = 0.0
    lanes[_STEP + lane] = 0.0
    lanes[_TIME + lane] = time
    lanes[_TRIES + lane] = 0.0
    lanes[_MODE + lane] = _PASS
    lanes[_END + lane] = time + LONGEST_STAGE_S
    lanes[_WEIGHT + lane] = shot[_KILOGRAMS]
    lanes[_COS_ANGLE + lane], lanes[_SIN_ANGLE + lane] = shot[_COS], shot[_SIN]
    lanes[_PUSHED + lane] = 0.0
    lanes[_APEX + lane] = state[1]


@_written_in
def _attempt(stage: int, lanes: Floats) -> None:
    """Make an attempt in each lane."""
    if stage == _SLIDE:
        _try_slides(lanes)
    elif stage == _SWING:
        _try_swings(lanes)
    else:
        _try_flights(lanes)


@_written_in
def _decide(stage: int, lanes: Floats, lane: int) -> int:
    """Decide what a lane tries next. Return a status when its shot has ended, otherwise -1."""
    if stage == _SLIDE:
        return _decide_slide(lanes, lane)
    if stage == _SWING:
        return _decide_swing(lanes, lane)
    return _decide_flight(lanes, lane)


@_compiled
def _keep(stage: int, lanes: Floats, lane: int, shot: Floats) -> None:
    """Write a shot at the end of a stage."""
    lanes[_TIME + lane] += lanes[_STEP + lane]
    if stage == _SLIDE:
        _put_row(lanes, _AFTER + lane, _slide(_get_row(lanes, _AFTER + lane)))
    first = _LANDED if stage == _FLIGHT else _BEGIN
    for index in range(12):
        shot[first + index] = lanes[_AFTER + index * LANES + lane]
    if stage == _FLIGHT:
        shot[_FLIGHT_TIME], shot[_HIGHEST] = lanes[_TIME + lane], lanes[_APEX + lane]
    else:
        for index in range(12):
            shot[_BEGIN_RATES + index] = lanes[_AFTER_RATES + index * LANES + lane]
        shot[_THROW_TIME] = lanes[_TIME + lane]
    if stage == _SWING:
        shot[_HARDEST_PUSH] = max(lanes[_PUSHED + lane], lanes[_PUSH + lane])


@_compiled
def _node(stage: int, lanes: Floats, place: int, nodes: Floats, count: int) -> int:
    """Note where a lane's attempt begins (place: `_STATE + lane`), or ended (`_AFTER + lane`)."""
    state, rates = _get_row(lanes, place), _get_row(lanes, place + _RATES)
    if stage == _SLIDE:
        state = _slide(state)
    return _note(nodes, count, lanes[_TIME + place % LANES], state, rates)


@_written_in
def _take_through(
    stage: int, shots: Floats, lanes: Floats, rows: NDArray[np.int64], nodes: Floats, count: int
) -> int:
    """Take all OK shots `(batch, columns)` through a stage; return how many nodes there are then.

    A row's shot is in one of the lanes, whose rows `(LANES,)` are -1 before and after.
    """
    row, busy = 0, 0
    while True:
        for lane in range(LANES):
            while rows[lane] < 0 and row < len(shots):
                if shots[row, _STATUS] == _OK:
                    _load(stage, lanes, lane, shots[row])
                    rows[lane] = row
                    busy += 1
                row += 1
        if busy == 0:
            return count
        _attempt(stage, lanes)
        for lane in range(LANES):
            if rows[lane] < 0:
                continue
            status = -1
            if lanes[_EVENT + lane] != _NOTHING:
                status = _decide(stage, lanes, lane)
            if len(nodes) > 0 and lanes[_EVENT + lane] == _NOTHING:
                count = _node(stage, lanes, _STATE + lane, nodes, count)
            if status >= 0:
                _keep(stage, lanes, lane, shots[rows[lane]])
                if len(nodes) > 0:
                    count = _node(stage, lanes, _AFTER + lane, nodes, count)
                shots[rows[lane], _STATUS] = status
                rows[lane] = -1
                busy -= 1


@_compiled
def _check(wind: float, angle: float, weight: float, shot: Floats) -> None:
    """Write the initial state of a shot, and a status if it cannot be shot."""
    for column in range(_COLUMNS):
        shot[column] = 0.0
    shot[_WIND], shot[_KILOGRAMS] = wind, weight
    # Beyond the vertical an angle counts as its mirror image, so that all of them lie forward.
    shot[_MIRRORED] = 1.0 if math.cos(angle) < 0.0 else 0.0
    shot[_COS], shot[_SIN] = abs(math.cos(angle)), math.sin(angle)
    if not (math.isfinite(wind) and math.isfinite(angle) and math.isfinite(weight)):
        shot[_STATUS] = _NOT_FINITE
    elif weight <= 0.0:
        shot[_STATUS] = _WEIGHT_NOT_POSITIVE
    elif weight <= STARTING_WEIGHT:
        shot[_STATUS] = _NO_MOTION
    else:
        shot[_STATUS] = _OK


@_compiled
def _clamped(value: float, limit: float) -> float:
    """Return the value, limited to plus and minus the limit."""
    return min(max(value, -limit), limit)


@_compiled
def _result(shot: Floats) -> tuple[int, tuple[float, ...]]:
    """Return the status and ten numbers of `Shots` for a shot after all stages."""
    resting = (RESTING_X, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, RESTING_X, -PIVOT_HEIGHT, 0.0)
    status, wind = int(shot[_STATUS]), shot[_WIND]
    if status in (_NOT_FINITE, _WEIGHT_NOT_POSITIVE, _NO_MOTION):
        return status, resting
    state, rates = _twelve(shot[_BEGIN:]), _twelve(shot[_BEGIN_RATES:])
    throw_time, flight_time = shot[_THROW_TIME], shot[_FLIGHT_TIME]
    x, y, speed_x, speed_y = _projectile(state)
    if status in (_NO_LIFT_OFF, _NO_RELEASE):
        if not math.isfinite(x + y):
            return _NOT_FINITE, resting
        return status, (x, 0.0, 0.0, 0.0, throw_time, 0.0, 0.0, x, y, y + PIVOT_HEIGHT)

    landed, apex = _twelve(shot[_LANDED:]), shot[_HIGHEST]
    distance = landed[0] + wind * flight_time
    release_speed = math.sqrt(speed_x * speed_x + speed_y * speed_y)
    finite = math.isfinite(distance + apex)
    if status != _OK or not finite:
        still = (x, 0.0, 0.0, 0.0, throw_time, 0.0, release_speed, x, y, y + PIVOT_HEIGHT)
        return status if finite else _NOT_FINITE, still

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
    cos_angle, sin_angle = shot[_COS], shot[_SIN]
    aim_rate = acc_x * sin_angle - acc_y * cos_angle
    aim_by_weight = speed_x_t * sin_angle - speed_y_t * cos_angle
    by_angle = -by_release_time * release_speed / aim_rate
    by_weight -= by_release_time * aim_by_weight / aim_rate
    by_wind = flight_time - by_speed_x
    if shot[_MIRRORED] > 0.0:
        by_angle = -by_angle
    if not math.isfinite(by_wind + by_angle + by_weight):
        by_wind, by_angle, by_weight = 0.0, 0.0, 0.0
    return _OK, (
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


@_compiled_and_cached(
    "void(float64[::1], float64[::1], float64[::1], float64[:, ::1], float64[::1], int64[::1],"
    "float64[:, ::1], int8[::1], boolean[::1], float64[:, ::1], float64[:, ::1], int64[::1])"
)
def _shoot_rows(
    wind: Floats,
    angle: Floats,
    weight: Floats,
    shots: Floats,
    lanes: Floats,
    rows: NDArray[np.int64],
    numbers: Floats,
    status: NDArray[np.int8],
    pushed: NDArray[np.bool_],
    throw_nodes: Floats,
    flight_nodes: Floats,
    counts: NDArray[np.int64],
) -> None:
    """Fill `numbers` `(10, batch)`, `status` and `pushed` `(batch,)`.

    The nodes `(room, 13)` and their two counts are those of a batch of one; others have no room.
    """
    for row in range(len(wind)):
        _check(wind[row], angle[row], weight[row], shots[row])
    for stage in range(_FLIGHT + 1):
        film = stage // _FLIGHT
        nodes = flight_nodes if film else throw_nodes
        counts[film] = _take_through(stage, shots, lanes, rows, nodes, counts[film])
    for row in range(len(wind)):
        status[row], row_numbers = _result(shots[row])
        pushed[row] = shots[row, _HARDEST_PUSH] > 0.0 and status[row] != _NOT_FINITE
        for index, number in enumerate(row_numbers):
            numbers[index, row] = number


def _columns(
    wind: ArrayLike, angle_rad: ArrayLike, weight_kg: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """Return the three inputs as contiguous float64 of one shape `(batch,)`."""
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
    """Shoot; return also up to `room` nodes `(nodes, 13)` of the last row's throw and flight."""
    batch = columns[0].shape[0]
    numbers = np.empty((10, batch))
    status = np.empty(batch, dtype=np.int8)
    pushed = np.empty(batch, dtype=np.bool_)
    throw_nodes, flight_nodes = np.empty((room, 13)), np.empty((room, 13))
    counts = np.zeros(2, dtype=np.int64)
    table, lanes, rows = np.empty((batch, _COLUMNS)), np.zeros(_ROOM), np.full(LANES, -1)
    workspace, nodes = (table, lanes, rows), (throw_nodes, flight_nodes)
    _shoot_rows(*columns, *workspace, numbers, status, pushed, *nodes, counts)
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
    """Shoot a batch: wind (positive is a tail wind), release angle and counterweight.

    Inputs are `(batch,)` or numbers, in m/s, rad and kg. No field is ever nan or infinite: a row
    that cannot be shot has a status, the position of the projectile, and zero derivatives. An angle
    beyond the vertical counts as its mirror image. Raises ValueError for inputs of other shapes.
    """
    return _shoot_with_nodes(_columns(wind, angle_rad, weight_kg), 0)[0]


def _between(nodes: Floats, times: Floats) -> Floats:
    """Interpolate six numbers of the state `(times, 6)` by cubics through nodes `(nodes, 13)`."""
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
    """Return a rod of a length (m), turned by angles `(frames,)` from upright: `(frames, 2)`."""
    return length * np.stack([-np.sin(angle), np.cos(angle)], axis=-1)


def _filmed_row(
    columns: tuple[Floats, Floats, Floats], frames: int
) -> tuple[Floats, Floats, Floats, Floats, int]:
    """Return times, projectile, arm tip, counterweight and status of a batch of one."""
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
    """Simulate a batch as in `shoot`, with at least two frames per shot. Raises ValueError."""
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
