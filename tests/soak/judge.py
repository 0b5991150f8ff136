"""What grows: a straight line through the second half of the samples, and a bound for its slope."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tests.soak.samples import Sample

ERRORS = 3.0  # standard errors by which a slope has to be above the bound
HOUR_S = 3600.0
MIB = 2**20

# What is judged, and which growth within the second half does not count whatever the share: what a
# process or a server takes and gives back in its course.
FLOORS = {
    "rss": 2 * MIB,
    "files": 2,
    "threads": 1,
    "used memory": 2 * MIB,
    "clients": 2,
    "keys": 2,
    "length": 64,
    "bytes": 256 * 1024,
    "seconds": 30,
    "log": 64 * 1024,
}
# A component says every five seconds that it works, in a line of at most so many bytes. Its file
# begins anew at `roomgrad.log.MAX_BYTES`, so this pace is no growth.
LINE_BYTES, LINE_S = 256, 5.0

# What may fill up, to what length; a table, a set or a stream that is full stays so. Of the memory
# of the server these keys are taken away, and judged by themselves.
LIMITS = {
    r":ledger:[^:]+$": 100_000,
    r":losses$": 10_000,
    r":generations$": 10_000,
    r":_logging:.+$": 10_100,
    r":done:.+$": 4_000,
    r":[^:@]+:(DATA|COMMAND|LOG)/[A-Z]+$": 4_000,
    r":(labels|labels:log|curve|questions)$": 1_000,  # as many as there are labels, which end here
}


# A log of the steps of so many seconds: it is as long as the machine is fast, which changes. The
# seconds are judged, and its memory is taken away from that of the server, too.
PACED = r":model:[^:]+:steps$"


@dataclass(frozen=True)
class Trend:
    """How a figure went in the second half."""

    name: str
    first: float
    last: float
    mean: float
    per_hour: float
    error: float
    """One standard error of `per_hour`. Neighbouring samples are taken for independent."""

    bound: float
    """The slope per hour that still counts as flat."""

    grows: bool
    reason: str = ""
    """Why a growth is no fault."""


def judged(samples: Sequence[Sample], share: float) -> list[Trend]:
    """Every figure that is judged, of two samples or more in the second half.

    share: of its mean, which a figure may grow by within the second half.
    """
    peak = samples[-1].get("peak memory", 0.0)
    half = [net(sample, peak) for sample in samples[len(samples) // 2 :]]
    names = {name: None for sample in half for name in sample}
    trends = (trend(name, half, share) for name in names if floor(name) is not None)
    return [each for each in trends if each is not None]


def net(sample: Sample, peak: float) -> Sample:
    """The sample, the server's memory without what the load explains.

    Of what is used, the keys that fill up to a limit or follow a pace are taken away. What is
    resident is as much as was used at most, and what the allocator loses to gaps, which is in
    proportion to it (a quarter of glibc's): it is that of a server which had used its `peak`, in
    bytes, from the first.
    """
    found = dict(sample)
    if "used memory" in sample:
        found["used memory"] -= held(sample, [*LIMITS, PACED])
    if "rss server" in sample and "peak memory" in sample:
        found["rss server"] *= peak / sample["peak memory"]
    return found


def held(sample: Sample, patterns: Iterable[str]) -> float:
    """The bytes of all keys of which the name matches a pattern."""
    sizes = ((name, value) for name, value in sample.items() if name.startswith("bytes "))
    return sum(value for name, value in sizes if any(re.search(each, name) for each in patterns))


def floor(name: str) -> float | None:
    """The growth that does not count; None for what is not judged."""
    if re.search(PACED, name) and not name.startswith("seconds "):
        return None
    return FLOORS.get(name, FLOORS.get(name.split()[0]))


def trend(name: str, half: Sequence[Sample], share: float) -> Trend | None:
    """The line through one figure; None where it was seen less than thrice."""
    points = [(sample["time"] / HOUR_S, sample[name]) for sample in half if name in sample]
    if len(points) < 3:
        return None
    hours, values = np.array(points).T
    slope, error = line(hours, values)
    lasted = (half[-1]["time"] - half[0]["time"]) / HOUR_S
    mean, last = float(values.mean()), float(values[-1])
    bound = max(floor(name) or 0.0, share * mean) / lasted
    if name.startswith("log "):
        bound = max(bound, LINE_BYTES / LINE_S * HOUR_S)
    above = slope - ERRORS * error > bound
    reason = excuse(name, last, half[-1]) if above else ""
    first = float(values[0])
    return Trend(name, first, last, mean, slope, error, bound, above and not reason, reason)


def line(x: Any, y: Any) -> tuple[float, float]:
    """Slope of the straight line through `(n,)` points, and its standard error."""
    away = x - x.mean()
    spread = float((away**2).sum())
    if not spread:
        return 0.0, 0.0
    slope = float((away * (y - y.mean())).sum()) / spread
    rest = y - y.mean() - slope * away
    return slope, float(np.sqrt((rest**2).sum() / max(1, len(x) - 2) / spread))


def excuse(name: str, last: float, end: Sample) -> str:
    """Why this may grow: it fills up to a limit and has not reached it."""
    kind, _, key = name.partition(" ")
    length = end.get(f"length {key}", last)
    if kind not in ("length", "bytes"):
        return ""
    for pattern, limit in LIMITS.items():
        if re.search(pattern, key) and length <= limit:
            return f"fills up to {limit:,}"
    return ""


def report(samples: Sequence[Sample], share: float) -> dict[str, Any]:
    """All of it for programs."""
    first, last = samples[0], samples[-1]
    lasted = last["time"] - first["time"]
    peaks = {name: max(each.get(name, 0) for each in samples) for name in last}
    trends = judged(samples, share)
    return {
        "seconds": round(lasted, 1),
        "samples": len(samples),
        "steps": last["steps"] - first["steps"],
        "steps_s": round((last["steps"] - first["steps"]) / lasted, 1),
        "commands": last["commands"] - first["commands"],
        "restarts": last["restarts"],
        "keys": last["keys"],
        "used_memory_mib": round(last["used memory"] / MIB, 1),
        "used_memory_peak_mib": round(last["peak memory"] / MIB, 1),
        "rss_server_peak_mib": round(peaks["rss server"] / MIB, 1),
        "append_only_peak_mib": round(peaks["append-only file"] / MIB, 1),
        "append_only_base_mib": round(last["append-only base"] / MIB, 1),
        "log_kib": round(sum(last[name] for name in last if name.startswith("log ")) / 1024, 1),
        "trends": [asdict(each) for each in trends],
        "grows": [each.name for each in trends if each.grows],
    }
