"""One hop: half of a round trip between two processes, beside raw bytes over redis-py pub/sub.

    python -m tests.benchmarks.hops [--rounds 5] [--window-s 1] [--only "1 MB"] [--json]

One message is under way at a time: 4 KiB, 1 MB and 16 MB of float32. In turns: redis-py pub/sub
with RESP2, which keeps nothing; roomgrad; roomgrad with an append-only file each second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.transport.stage import fresh_server, ratio, start, told

PAIR = "tests.benchmarks.transport.pair"
SIZES = {"4 KiB": 1024, "1 MB": 250_000, "16 MB": 4_000_000}
BASE = "pubsub-raw"
CONTESTANTS = {  # name: kind, append-only file, about
    BASE: ("pubsub-raw", False, "redis-py pub/sub, raw bytes"),
    "rooms": ("rooms", False, "roomgrad, without an append-only file"),
    "rooms-aof": ("rooms", True, "roomgrad, append-only file each second"),
}


def measured(name: str, floats: int, window_s: float) -> dict[str, Any]:
    """The second window of a contestant; the first one is to warm up."""
    kind, aof, _ = CONTESTANTS[name]
    flags = (f"--floats={floats}", f"--window-s={window_s}")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(aof))
        start(stack, PAIR, kind, "pong", server.url, *flags)
        _, lines = start(stack, PAIR, kind, "ping", server.url, *flags, heard=True)
        told(lines)
        return told(lines)


def main() -> None:
    """Prints medians, and what they are of plain pub/sub."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window-s", type=float, default=1.0)
    parser.add_argument("--only", choices=SIZES, help="one size of message")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = [arguments.only] if arguments.only else list(SIZES)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(arguments.rounds):
        for size in sizes:
            for name in CONTESTANTS:
                once = measured(name, SIZES[size], arguments.window_s)
                found.setdefault((size, name), []).append(once)
    rows = [row(size, name, found) for size, name in found]
    if arguments.json:
        print(json.dumps(rows))
        return
    table = Table("", "", "p50", "p99", f"p50 of {BASE}'s", "p99", title="one hop in ms")
    for each in rows:
        times = [f"{each[key]:.3f}" for key in ("p50_ms", "p99_ms")]
        ratios = [f"{each[key]:.2f}" for key in ("p50_ratio", "p99_ratio")]
        table.add_row(each["size"], CONTESTANTS[each["name"]][2], *times, *ratios)
    Console().print(table)


def row(size: str, name: str, found: dict[tuple[str, str], list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of one contestant at one size."""
    result: dict[str, Any] = {"size": size, "name": name}
    for which in ("p50", "p99"):
        values, base = ([each[f"{which}_ms"] for each in found[size, who]] for who in (name, BASE))
        result[f"{which}_ms"] = statistics.median(values)
        result[f"{which}_ratio"] = ratio(values, base)
    return result


if __name__ == "__main__":
    main()
