"""Whether a message costs the same in a large system as in a small one.

    python -m tests.benchmarks.flat [--rounds 5] [--window-s 1] [--json]

Half of a round trip between two processes, 4 KiB, in turns: with 1, 16 and 1,000 rooms in the
system, of which a component is in 16 at most; with 1 and with 100,000 open roots in the memory of
the component that is asked; with 2 components, and with 64 that run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from roomgrad.names import Names
from tests.benchmarks.transport.pair import CROWD, PING, PONG, RUN, remember
from tests.benchmarks.transport.stage import fresh_server, ratio, start, told
from tests.waiting import until

PAIR = ("tests.benchmarks.transport.pair", "rooms")
# name: rooms, open roots beside the one under way, components
SETTINGS = {
    "1 room, 2 components": (1, None, 2),
    "16 rooms": (16, None, 2),
    "1,000 rooms": (1000, None, 2),
    "64 components": (1, None, 64),
    "1 open root": (1, 0, 2),
    "100,000 open roots": (1, 99_999, 2),
}
PAIRS = (
    ("16 rooms", "1 room, 2 components"),
    ("1,000 rooms", "16 rooms"),
    ("64 components", "1 room, 2 components"),
    ("100,000 open roots", "1 open root"),
)


def measured(name: str, window_s: float) -> float:
    """Median of a hop in ms, in the second window of time."""
    rooms, roots, components = SETTINGS[name]
    flags = [f"--rooms={rooms}", f"--components={components}", f"--window-s={window_s}"]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(aof=False))
        if roots is not None:
            flags.append("--remembers")
            remember(server.url, roots)
        if components > 2:
            start(stack, *PAIR, CROWD, server.url, *flags)
            wait_alive(server.url, components - 2)
        start(stack, *PAIR, PONG, server.url, *flags)
        _, lines = start(stack, *PAIR, PING, server.url, *flags, heard=True)
        told(lines)
        return float(told(lines)["p50_ms"])


def wait_alive(url: str, count: int) -> None:
    """Waits until so many replicas beat."""
    with redis.Redis.from_url(url) as client:
        hearts = Names(RUN).alive("*")
        until(lambda: len(list(client.scan_iter(hearts, count=1000))) >= count, timeout_s=60)


def main() -> None:
    """Prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window-s", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for _ in range(arguments.rounds):
        for name, values in found.items():
            values.append(measured(name, arguments.window_s))
    rows: list[dict[str, Any]] = [
        {
            "large": large,
            "small": small,
            "large_ms": statistics.median(found[large]),
            "small_ms": statistics.median(found[small]),
            "ratio": ratio(found[large], found[small]),
        }
        for large, small in PAIRS
    ]
    if arguments.json:
        print(json.dumps(rows))
        return
    table = Table("", "ms a hop", "beside", "ms a hop", "ratio")
    for row in rows:
        times = [f"{row[key]:.3f}" for key in ("large_ms", "small_ms")]
        table.add_row(row["large"], times[0], row["small"], times[1], f"{row['ratio']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
