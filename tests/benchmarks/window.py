"""How soon the trebuchet hits with four batches open, beside one: time to a miss of 0.5 m.

    python -m tests.benchmarks.window [--seeds 0 1 2 3 4] [--windows 1 4] [--steps 1000] [--json]

Each batch is drawn anew and measured before the network learns from it, so that its miss is one of
pairs that were held out; the time ends when the mean of 20 batches is 0.5 m, or never. Windows take
turns, seed by seed, on fresh servers, with the preset `learn`, whose rate falls over all steps.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from typing import Any

import redis
from rich.table import Table

from roomgrad import codec
from roomgrad.names import LOGGING, Names
from roomgrad.rooms import MessageType
from tests.benchmarks.training import components
from tests.benchmarks.transport.stage import console, fresh_server, ratio

RUN = "window"
MISS_M = 0.5
MEAN_OF = 20  # batches
Figures = dict[str, float]


def trained(window: int, seed: int, steps: int) -> Figures:
    """Seconds and steps to the miss, infinite if it is not reached, steps a second, last miss."""
    with (
        fresh_server(aof=True) as server,
        redis.Redis.from_url(server.url, protocol=2) as client,
        components(server.local_url, RUN, steps, window, seed),
    ):
        times, measured = zip(*misses(client, steps), strict=True)
    means = [
        statistics.mean(measured[at - MEAN_OF : at]) for at in range(MEAN_OF, len(measured) + 1)
    ]
    reached = next((at for at, mean in enumerate(means, MEAN_OF) if mean <= MISS_M), 0)
    return {
        "seconds": times[reached - 1] - times[0] if reached else math.inf,
        "steps": reached or math.inf,
        "steps_s": (steps - 1) / (times[-1] - times[0]),
        "last_m": means[-1],
    }


def misses(client: redis.Redis, steps: int) -> list[tuple[float, float]]:
    """When each batch was measured in seconds, and its mean miss in m, as they come."""
    key = Names(RUN).stream(LOGGING, MessageType.LOG_KPI)
    found: list[tuple[float, float]] = []
    after: Any = "0-0"
    while len(found) < steps:
        for _, entries in client.xread({key: after}, block=1000) or ():  # type: ignore[union-attr]
            for after, fields in entries:
                body = codec.parse_body(fields[b"m"])
                found.append((int(after.split(b"-")[0]) / 1000, float(body["MISS_M"])))
    return found


def main() -> None:
    """Print a line for each window, and what the others take of the first one's time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[int, list[Figures]] = {window: [] for window in arguments.windows}
    for seed in arguments.seeds:
        for window, runs in found.items():
            runs.append(trained(window, seed, arguments.steps))
    first = [each["seconds"] for each in found[arguments.windows[0]]]
    rows = [row(window, runs, first) for window, runs in found.items()]
    if arguments.json:
        print(json.dumps(rows))
        return
    heads = (
        "window",
        "steps/s",
        "steps",
        "seconds",
        "of the first's",
        "lowest",
        "highest",
        "last m",
    )
    table = Table(*heads, title=f"time to a miss of 0.5 m, load {os.getloadavg()[0]:.1f}")
    for each in rows:
        counts = [f"{each[name]:,.0f}" for name in ("window", "steps_s", "steps")]
        figures = ("seconds", "ratio", "lowest", "highest", "last_m")
        numbers = [f"{each[name]:.2f}" for name in figures]
        table.add_row(*counts, *numbers)
    console().print(table)


def row(window: int, runs: list[Figures], first: list[float]) -> Figures:
    """Medians of all seeds, and the spread of the ratios seed by seed."""
    seconds = [each["seconds"] for each in runs]
    ratios = [ours / theirs for ours, theirs in zip(seconds, first, strict=True)]
    return {
        "window": window,
        **{name: statistics.median(each[name] for each in runs) for name in runs[0]},
        "ratio": ratio(seconds, first),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


if __name__ == "__main__":
    main()
