"""Curves of a page: thinned out, with a trend, whatever values a training records."""

from __future__ import annotations

import math

import numpy as np

from roomgrad.inspect.series import curve, downsample, moving_mean

NAN = float("nan")


def test_the_trend_is_the_mean_of_the_last_values() -> None:
    """The points stay as they are beside it."""
    values = [float(number % 7) for number in range(100)]
    found = curve([[step, value] for step, value in enumerate(values)], width=10)
    assert [value for _, value in found["points"]] == values
    assert found["trend"][-1] == [99, round(sum(values[-10:]) / 10, 4)]
    assert found["trend"][3] == [3, 1.5]
    assert found["width"] == 10


def test_the_trend_of_a_jumping_loss_hardly_jumps() -> None:
    random = np.random.default_rng(1)
    losses = [float(value) for value in random.uniform(0.4, 1.4, 400)]
    ends = [
        curve([[s, v] for s, v in enumerate(losses[:end])])["trend"][-1][1] for end in (398, 400)
    ]
    assert abs(ends[0] - ends[1]) < 0.05


def test_a_value_that_is_not_a_number_is_left_out_of_the_means_after_it() -> None:
    assert moving_mean([1.0, NAN, 3.0, math.inf, 5.0], 2) == [1.0, 1.0, 3.0, 3.0, 5.0]
    assert math.isnan(moving_mean([NAN, NAN], 2)[1])
    assert moving_mean([], 5) == []


def test_a_value_that_is_not_a_number_stays_one_when_points_are_thinned_out() -> None:
    points = [[step, 1.0] for step in range(1000)]
    points[500][1] = NAN
    values = [value for _, value in downsample(points)]
    assert sum(map(math.isnan, values)) == 1
    assert len(values) == 160
