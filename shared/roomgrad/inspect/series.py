"""Long tables with growing numbers as fields: read them once, then only what is new."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import redis

from roomgrad.codec import unpack

READ_AHEAD = 64  # fields beyond the last known one; some numbers are missing
KEPT = 10_000
RELOAD_S = 5.0  # between two reads of the whole table
POINTS = 160  # of a curve on a page
TREND_WIDTH = 50  # values over which a trend is averaged

Point = list[float]


class Series:
    """The records of one table, ordered by number."""

    def __init__(self, key: str) -> None:
        self.records: dict[int, dict[str, Any]] = {}
        self._key = key
        self._loaded_at = -RELOAD_S

    def update(self, client: redis.Redis) -> None:
        """Read what is new, or the whole table if it was begun again."""
        while self._read_on(client):
            pass
        while len(self.records) > KEPT:
            del self.records[next(iter(self.records))]
        found: Any = client.hlen(self._key)
        length = min(found, KEPT)
        if length != len(self.records) and self._may_reload(length):
            self._loaded_at = time.monotonic()
            found = client.hgetall(self._key)
            numbers = sorted((int(field), value) for field, value in found.items())
            self.records = {number: unpack(value) for number, value in numbers[-KEPT:]}

    def _may_reload(self, length: int) -> bool:
        return length < len(self.records) or time.monotonic() - self._loaded_at >= RELOAD_S

    def _read_on(self, client: redis.Redis) -> bool:
        start = next(reversed(self.records), -1) + 1
        fields = [str(number) for number in range(start, start + READ_AHEAD)]
        found: Any = client.hmget(self._key, fields)
        for number, value in enumerate(found, start):
            if value is not None:
                self.records[number] = unpack(value)
        return any(value is not None for value in found)


def curve(points: list[Point], width: int = TREND_WIDTH) -> dict[str, Any]:
    """Return a curve for a page: its points, and its trend, the mean of the last `width` values.

    The values of single batches jump, so a page shows the last value of the trend.
    """
    means = moving_mean([value for _, value in points], width)
    trend = [[x, mean] for (x, _), mean in zip(points, means, strict=True)]
    return {"points": downsample(points), "trend": downsample(trend), "width": width}


def downsample(points: list[Point], most: int = POINTS) -> list[Point]:
    """Return at most so many points: means of neighbors, and the last point unchanged.

    A value that is not a number makes the mean of its neighbors none, so that a page shows it.
    """
    if len(points) <= most:
        return points
    values = np.array(points[:-1], dtype=float)  # null is NaN
    starts = np.linspace(0, len(values), most - 1, endpoint=False).astype(int)
    counts = np.diff([*starts, len(values)])
    means = np.add.reduceat(values, starts) / counts[:, None]
    return [*means.round(4).tolist(), points[-1]]


def moving_mean(values: list[float], width: int) -> list[float]:
    """Return for each value the mean of the last `width` values, or of as many as there are.

    Infinity and NaN are left out; where nothing else remains, the mean is NaN.
    """
    array = np.array(values, dtype=float)
    known = np.isfinite(array)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, array, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    ends = np.arange(1, len(array) + 1)
    starts = np.maximum(ends - width, 0)
    with np.errstate(invalid="ignore"):
        means = (sums[ends] - sums[starts]) / (counts[ends] - counts[starts])
    return [round(float(mean), 4) for mean in means]
