"""The trebuchet against reference shots, finite differences and its degenerate cases."""

import csv
import dataclasses
import math
import re
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from roomgrad_trebuchet.simulator import physics

Floats = NDArray[np.float64]
REFERENCE = Path(__file__).parents[2] / "data" / "trebuchet-shots.csv"
NUMBERS = [
    field.name
    for field in dataclasses.fields(physics.Shots)
    if field.name not in ("status", "slack_in_swing", "behind_pivot")
]
DERIVATIVES = ("d_wind", "d_angle", "d_weight")

# wind, degrees, kg: distance, flight time, release speed, d/dwind, d/dangle, d/dweight
GOLDEN = [
    ((0, 45, 90.718474), (78.794025, 5.137033, 51.585636, 3.844951, -51.28063, 0.1901903)),
    ((0, 45, 200), (89.791796, 5.597619, 62.063327, 4.428846, -59.32984, 0.0552072)),
    ((5, 30, 200), (116.807216, 4.545256, 65.351931, 3.727886, 16.40236, 0.0755290)),
    ((-5, 60, 300), (46.890840, 6.454914, 62.169235, 4.856138, -108.36075, 0.0137128)),
    ((10, 20, 90.718474), (106.767687, 3.330637, 55.707739, 2.486464, 93.38309, 0.2943484)),
    ((3, 75, 500), (55.907456, 7.325107, 65.375635, 4.995311, -217.38452, 0.0063868)),
]


class Reference:
    """The reference shots, column by column."""

    def __init__(self) -> None:
        """Read the file."""
        with REFERENCE.open(newline="") as file:
            self.rows = list(csv.DictReader(file))
        self.shots = physics.shoot(
            self.column("wind"), np.deg2rad(self.column("angle_deg")), self.column("weight_kg")
        )
        margin = self.column("jump_margin_deg")
        # Right on a jump two answers are as good as each other.
        self.clear = ~(np.abs(margin) < 0.01)
        self.ok = self.clear & (np.array([row["status"] for row in self.rows]) == "ok")

    def column(self, name: str) -> Floats:
        """One column, float64 `(224,)`."""
        return np.array([float(row[name]) for row in self.rows])


@pytest.fixture(scope="module")
def reference() -> Reference:
    """The reference shots and ours."""
    return Reference()


def random_shots(batch: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Wind N(0, 5) m/s, angle 1 to 89 degrees, weight 50 to 1000 kg."""
    generator = np.random.default_rng(seed)
    return (
        generator.normal(0.0, 5.0, batch),
        np.deg2rad(generator.uniform(1.0, 89.0, batch)),
        generator.uniform(50.0, 1000.0, batch),
    )


def one(wind: float, angle_deg: float, weight_kg: float) -> physics.Shots:
    """A batch of one shot."""
    return physics.shoot([wind], [math.radians(angle_deg)], [weight_kg])


def test_distances_agree_with_the_reference(reference: Reference) -> None:
    """Every distance lies within 0.01 m, 99 of 100 within 0.001 m."""
    error = np.abs(reference.shots.distance_m - reference.column("distance"))[reference.clear]
    assert len(error) == len(reference.rows)
    assert error.max() < 0.01
    assert np.quantile(error, 0.99) < 0.001


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_agree_with_the_reference(reference: Reference, name: str) -> None:
    """Every derivative lies within 1e-3, relative, or absolute near zero."""
    limit = physics.DERIVATIVE_LIMITS[DERIVATIVES.index(name)]
    # One reference shot, of 12 kg, has a larger derivative than the clamp lets pass.
    expected = np.clip(reference.column(name), -limit, limit)[reference.ok]
    actual = getattr(reference.shots, name)[reference.ok]
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


def test_weight_derivatives_keep_their_sign_where_they_are_small(reference: Reference) -> None:
    """Heavy weights hardly change the distance; their derivatives are right all the same."""
    expected = reference.column("d_weight")[reference.ok]
    small = np.abs(expected) < 1e-2
    assert small.sum() > 50
    np.testing.assert_allclose(
        reference.shots.d_weight[reference.ok][small], expected[small], rtol=5e-3, atol=1e-7
    )


@pytest.mark.parametrize(
    ("name", "column", "tolerance"),
    [
        ("flight_time_s", "flight_time", 1e-4),
        ("release_speed", "release_speed", 1e-3),
        ("release_x", "release_x", 1e-4),
        ("release_y", "release_y", 1e-4),
    ],
)
def test_the_release_agrees_with_the_reference(
    reference: Reference, name: str, column: str, tolerance: float
) -> None:
    """Time, place and speed of the release agree."""
    expected = reference.column(column)[reference.ok]
    actual = getattr(reference.shots, name)[reference.ok]
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=tolerance)


def test_the_total_time_is_throw_and_flight(reference: Reference) -> None:
    """Both stages' times add up to the reference's total."""
    total = reference.shots.throw_time_s + reference.shots.flight_time_s
    expected = reference.column("total_time")
    np.testing.assert_allclose(total[reference.ok], expected[reference.ok], rtol=0.0, atol=1e-4)


def test_the_apex_is_just_above_the_highest_reference_sample(reference: Reference) -> None:
    """The reference's apex is the highest of its samples, so the true one is no lower."""
    above = (reference.shots.apex - reference.column("apex"))[reference.ok]
    assert above.min() > -1e-4
    assert above.max() < 0.1


def test_statuses_agree_with_the_reference(reference: Reference) -> None:
    """Each row gets the reference's status."""
    labels = np.array([physics.Status(int(status)).label for status in reference.shots.status])
    expected = np.array([row["status"] for row in reference.rows])
    np.testing.assert_array_equal(labels[reference.clear], expected[reference.clear])
    assert set(expected) == {"ok", "weight<=0", "no_motion"}


@pytest.mark.parametrize("flag", ["slack_in_swing", "behind_pivot"])
def test_flags_agree_with_the_reference(reference: Reference, flag: str) -> None:
    """Each row gets the reference's flags."""
    expected = reference.column(flag).astype(bool)
    assert expected.any()
    np.testing.assert_array_equal(
        getattr(reference.shots, flag)[reference.clear], expected[reference.clear]
    )


@pytest.mark.parametrize(("control", "golden"), GOLDEN)
def test_golden_shots(control: tuple[float, ...], golden: tuple[float, ...]) -> None:
    """Six shots agree with an integration of relative tolerance 1e-12."""
    shots = one(*control)
    actual = [
        getattr(shots, name)[0]
        for name in ("distance_m", "flight_time_s", "release_speed", *DERIVATIVES)
    ]
    np.testing.assert_allclose(actual[:3], golden[:3], rtol=0.0, atol=1e-3)
    np.testing.assert_allclose(actual[3:], golden[3:], rtol=1e-3)


def test_two_hundred_thousand_shots_stay_finite_and_within_the_limits() -> None:
    """No random shot of the control's range fails, is nan, or has an excessive derivative."""
    shots = physics.shoot(*random_shots(200_000))
    assert (shots.status == physics.Status.OK).all()
    for name in NUMBERS:
        assert np.isfinite(getattr(shots, name)).all(), name
    for name, limit in zip(DERIVATIVES, physics.DERIVATIVE_LIMITS, strict=True):
        assert np.abs(getattr(shots, name)).max() <= limit, name


def test_the_clamp_only_binds_in_a_gale() -> None:
    """Below 18 m/s no derivative of the control's range is cut off."""
    wind, angle, weight = random_shots(50_000, seed=1)
    shots = physics.shoot(np.clip(wind, -18.0, 18.0), angle, weight)
    for name, limit in zip(DERIVATIVES, physics.DERIVATIVE_LIMITS, strict=True):
        assert np.abs(getattr(shots, name)).max() < limit, name


@pytest.mark.parametrize(("argument", "step"), [(0, 1e-3), (1, 1e-5), (2, 1e-3)])
def test_derivatives_agree_with_finite_differences(argument: int, step: float) -> None:
    """Away from the jumps the tangents are what two neighbouring shots say."""
    control = random_shots(3000, seed=2)
    shots = physics.shoot(*control)
    differences = []
    for width in (step, 2.0 * step):
        ahead, behind = list(control), list(control)
        ahead[argument] = control[argument] + width
        behind[argument] = control[argument] - width
        far = physics.shoot(*ahead).distance_m - physics.shoot(*behind).distance_m
        differences.append(far / (2.0 * width))
    # A jump between the neighbours makes the two widths disagree wildly.
    smooth = np.abs(differences[0] - differences[1]) < 1.0
    assert smooth.mean() > 0.995
    np.testing.assert_allclose(
        getattr(shots, DERIVATIVES[argument])[smooth],
        differences[0][smooth],
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize(("weight", "edge"), [(200.0, 78.1), (500.0, 70.7), (1000.0, 65.3)])
def test_the_first_crossing_releases_where_the_direction_dips(weight: float, edge: float) -> None:
    """The distance jumps at the dip's lowest direction: above it the early crossing counts."""
    angles = np.deg2rad(np.linspace(edge - 0.3, edge + 0.3, 601))
    shots = physics.shoot(np.zeros(601), angles, np.full(601, weight))
    drop = np.diff(shots.throw_time_s)
    at = int(drop.argmin())
    assert drop[at] < -1e-3
    assert np.degrees(angles[at]) == pytest.approx(edge, abs=0.1)
    # One jump only: the dip is found however narrowly it passes the angle.
    assert (np.delete(np.abs(drop), at) < 1e-3).all()


@pytest.mark.parametrize(
    ("weight", "edge"),
    [(130.0, 80.95), (160.0, 79.7), (200.0, 78.1), (500.0, 70.7), (1000.0, 65.3)],
)
def test_a_dip_inside_a_step_is_found(weight: float, edge: float) -> None:
    """Just above the jump the release is at the bottom of the dip: the direction stands still.

    There the derivative for the angle is without bounds; a dip seen only at the ends of steps would
    be missed until it is wide, and its release would have an ordinary derivative.
    """
    late, early = math.radians(edge - 0.2), math.radians(edge + 0.2)
    throw_times = physics.shoot([0.0, 0.0], [late, early], [weight, weight]).throw_time_s
    for _ in range(60):
        middle = 0.5 * (late + early)
        if physics.shoot([0.0], [middle], [weight]).throw_time_s[0] > throw_times.mean():
            late = middle
        else:
            early = middle
    assert abs(physics.shoot([0.0], [early], [weight]).d_angle[0]) == physics.DERIVATIVE_LIMITS[1]


@pytest.mark.parametrize(
    ("control", "status"),
    [
        ((0.0, 45.0, 0.0), physics.Status.WEIGHT_NOT_POSITIVE),
        ((0.0, 45.0, -200.0), physics.Status.WEIGHT_NOT_POSITIVE),
        ((math.nan, 45.0, 200.0), physics.Status.NOT_FINITE),
        ((0.0, math.nan, 200.0), physics.Status.NOT_FINITE),
        ((0.0, 45.0, math.nan), physics.Status.NOT_FINITE),
        ((math.inf, 45.0, 200.0), physics.Status.NOT_FINITE),
        ((0.0, -math.inf, 200.0), physics.Status.NOT_FINITE),
        ((0.0, 45.0, math.inf), physics.Status.NOT_FINITE),
        ((0.0, 45.0, -math.inf), physics.Status.NOT_FINITE),
        ((1e300, 45.0, 200.0), physics.Status.NOT_FINITE),
        ((0.0, 45.0, 6.95), physics.Status.NO_MOTION),
        ((0.0, 45.0, 7.0), physics.Status.NO_LIFT_OFF),
    ],
)
def test_bad_rows_answer_a_status(
    control: tuple[float, float, float], status: physics.Status
) -> None:
    """A row that cannot be shot has a status, zero derivatives and a finite place."""
    shots = one(*control)
    assert shots.status[0] == status
    assert [getattr(shots, name)[0] for name in DERIVATIVES] == [0.0, 0.0, 0.0]
    assert all(np.isfinite(getattr(shots, name)[0]) for name in NUMBERS)
    assert not shots.behind_pivot[0]


def test_a_trebuchet_that_does_not_move_keeps_the_projectile() -> None:
    """The resting place is 0.68157 m down range."""
    shots = physics.shoot([0.0] * 3, [0.7] * 3, [-1.0, math.nan, 5.0])
    np.testing.assert_allclose(shots.distance_m, 0.6815707596, atol=1e-9)


def test_no_lift_off_leaves_the_projectile_where_it_slid() -> None:
    """A weight that hardly starts the arm has dragged the projectile backwards."""
    assert one(0.0, 45.0, 7.0).distance_m[0] < 0.6


def test_an_angle_beyond_the_vertical_is_mirrored() -> None:
    """135 degrees throws like 45, and its derivative has the other sign."""
    forward, backward = one(0.0, 45.0, 200.0), one(0.0, 135.0, 200.0)
    assert backward.distance_m[0] == pytest.approx(forward.distance_m[0], abs=1e-9)
    assert backward.d_angle[0] == pytest.approx(-forward.d_angle[0], rel=1e-9)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.floats(), st.floats(), st.floats()), min_size=1, max_size=8))
def test_nothing_makes_a_nan(rows: list[tuple[float, float, float]]) -> None:
    """Whatever three floats come in, finite numbers and a known status go out."""
    shots = physics.shoot(*np.array(rows).T)
    for name in NUMBERS:
        assert np.isfinite(getattr(shots, name)).all(), name
    assert {int(status) for status in shots.status} <= set(physics.Status)


@pytest.mark.parametrize("parts", [2, 7, 100])
def test_a_row_does_not_depend_on_its_batch(parts: int) -> None:
    """Any split of a batch gives the same bits."""
    control = random_shots(100, seed=3)
    whole = physics.shoot(*control)
    pieces = [
        physics.shoot(*rows)
        for rows in zip(*(np.array_split(column, parts) for column in control), strict=True)
    ]
    for field in dataclasses.fields(physics.Shots):
        joined = np.concatenate([getattr(piece, field.name) for piece in pieces])
        assert joined.tobytes() == getattr(whole, field.name).tobytes(), field.name


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """In whatever order, and among rows that fail in every way, a shot has the same bits."""
    control = random_shots(100, seed=3)
    whole = physics.shoot(*control)
    bad = np.array([[0.0, 0.7, -1.0], [math.nan, 0.7, 200.0], [0.0, 0.7, 7.0], [1e300, 0.7, 1e300]])
    mixed = np.concatenate([np.stack(control, axis=-1), np.repeat(bad, 10, axis=0)])
    order = np.random.default_rng(7).permutation(len(mixed))
    shots = physics.shoot(*mixed[order].T)
    back = np.argsort(order)[:100]
    for field in dataclasses.fields(physics.Shots):
        found = getattr(shots, field.name)[back]
        assert found.tobytes() == getattr(whole, field.name).tobytes(), field.name


@pytest.mark.parametrize("attempt", ["_try_slides", "_try_swings", "_try_flights"])
def test_an_attempt_is_made_of_vector_instructions(attempt: str) -> None:
    """A branch or a call in the loop over lanes would silently cost most of the speed."""
    function = getattr(physics, attempt)
    function.compile((numba.float64[::1],))
    llvm = function.inspect_llvm((numba.float64[::1],))
    products = re.findall(r"fmul contract (<\d+ x )?double", llvm)
    assert len(products) > 100
    assert all(products)


def test_inputs_of_any_layout_give_the_same_shots() -> None:
    """Columns of a float32 control array are taken as they are; nothing is written to them."""
    control = np.stack(random_shots(10), axis=-1).astype(np.float32)
    control.flags.writeable = False
    strided = physics.shoot(*control.T)
    plain = physics.shoot(*control.astype(np.float64).T.copy())
    np.testing.assert_array_equal(strided.distance_m, plain.distance_m)


def test_an_empty_batch_gives_no_shots() -> None:
    """A batch of zero rows is a batch."""
    assert physics.shoot([], [], []).distance_m.shape == (0,)


def test_unequal_shapes_are_refused() -> None:
    """The error shows the shapes that came."""
    with pytest.raises(ValueError, match=r"\(2,\).*\(1,\)"):
        physics.shoot([0.0, 1.0], [0.7], [200.0])


def test_a_batch_of_a_hundred_takes_at_most_two_milliseconds() -> None:
    """Values and all derivatives of a batch, on one core."""
    control = random_shots(100)
    durations = []
    for _ in range(100):
        start = time.process_time()
        physics.shoot(*control)
        durations.append(time.process_time() - start)
    assert min(durations) < 2e-3


def test_the_kernel_compiles_where_no_cache_can_be_written() -> None:
    """A function without a source file has no place for a cache, and works all the same."""
    namespace: dict[str, object] = {}
    exec(compile("def twice(x):\n    return 2.0 * x\n", "<nowhere>", "exec"), namespace)
    twice = physics._compiled_and_cached("float64(float64)")(namespace["twice"])  # type: ignore[type-var]
    assert twice(1.5) == 3.0  # type: ignore[operator]


def test_a_trajectory_runs_from_rest_to_the_landing() -> None:
    """It starts at the resting place, ends on the ground at the shot's distance, in order."""
    control = random_shots(20, seed=4)
    shots, film = physics.shoot(*control), physics.trajectory(*control, frames=90)
    assert film.projectile.shape == (20, 90, 2)
    np.testing.assert_allclose(film.projectile[:, 0, 0], physics.RESTING_X, atol=1e-12)
    np.testing.assert_allclose(film.projectile[:, -1, 0], shots.distance_m, atol=1e-9)
    np.testing.assert_allclose(film.projectile[:, -1, 1], -physics.PIVOT_HEIGHT, atol=1e-9)
    np.testing.assert_allclose(film.times_s[:, -1], shots.throw_time_s + shots.flight_time_s)
    assert (np.diff(film.times_s, axis=1) > 0.0).all()


def test_a_trajectory_keeps_arm_and_sling_at_their_lengths() -> None:
    """The arm is rigid throughout, the sling until release, and nothing sinks into the ground."""
    film = physics.trajectory(*random_shots(20, seed=5), frames=90)
    np.testing.assert_allclose(np.linalg.norm(film.arm_tip, axis=-1), physics.LONG_ARM)
    sling = np.linalg.norm((film.projectile - film.arm_tip)[:, :30], axis=-1)
    np.testing.assert_allclose(sling, physics.SLING)
    hanger = film.counterweight + film.arm_tip * (physics.SHORT_ARM / physics.LONG_ARM)
    np.testing.assert_allclose(np.linalg.norm(hanger, axis=-1), physics.HANGER)
    assert film.projectile[..., 1].min() > -physics.PIVOT_HEIGHT - 1e-3


def test_a_trajectory_passes_through_release_and_apex() -> None:
    """The pictures are of the same solution as the shot."""
    control = random_shots(20, seed=6)
    shots, film = physics.shoot(*control), physics.trajectory(*control, frames=900)
    release = np.stack([shots.release_x, shots.release_y], axis=-1)
    np.testing.assert_allclose(film.projectile[:, 299], release, atol=1e-9)
    top = film.projectile[:, 299:, 1].max(axis=1) + physics.PIVOT_HEIGHT
    np.testing.assert_allclose(top, shots.apex, atol=1e-3)
    assert (film.counterweight[:, 299, 1] < film.counterweight[:, 0, 1]).all()


def test_a_trajectory_of_a_bad_row_stands_still() -> None:
    """A row that cannot be shot shows the resting trebuchet in every frame."""
    film = physics.trajectory([0.0], [math.nan], [200.0], frames=5)
    assert film.status[0] == physics.Status.NOT_FINITE
    np.testing.assert_allclose(film.projectile[0], [[0.6815707596, -1.524]] * 5, atol=1e-9)
    with pytest.raises(ValueError, match="frames is 1"):
        physics.trajectory([0.0], [0.7], [200.0], frames=1)
