"""One hop: half of a round trip between two processes, beside redis-py pub/sub.

    python -m tests.benchmarks.hops [--rounds 5] [--window-s 1] [--only "1 MB"] [--json]

One message is under way at a time: 4 KiB, 1 MB and 16 MB of float32. In turns: redis-py pub/sub,
which keeps nothing, as its documentation shows it and with one held connection and RESP2; roomgrad;
roomgrad with an append-only file each second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
from typing import Any

from rich.table import Table

from tests.benchmarks.transport.stage import console, fresh_server, ratio, start, told

PAIR = "tests.benchmarks.transport.pair"
SIZES = {"4 KiB": 1024, "1 MB": 250_000, "16 MB": 4_000_000}
CONTESTANTS = {  # name: kind, append-only file, about
    "pubsub-raw": ("pubsub-raw", False, "redis-py pub/sub, raw bytes"),
    "pubsub-raw-held": ("pubsub-raw-held", False, "the same, RESP2, one connection held"),
    "pubsub-json-held": ("pubsub-json-held", False, "the same, orjson"),
    "rooms": ("rooms", False, "roomgrad, without an append-only file"),
    "rooms-aof": ("rooms", True, "roomgrad, append-only file each second"),
}
BASES = {"raw": "pubsub-raw", "held": "pubsub-raw-held"}
QUANTILES = ("p50", "p99")
ONLY_SMALL = ("pubsub-json-held",)  # arrays of a megabyte are not sent as JSON


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
    """Print medians, and what they are of plain pub/sub."""
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
                if name in ONLY_SMALL and size != "4 KiB":
                    continue
                once = measured(name, SIZES[size], arguments.window_s)
                found.setdefault((size, name), []).append(once)
    rows = [row(size, name, found) for size, name in found]
    if arguments.json:
        print(json.dumps(rows))
        return
    heads = ("", "", "p50", "p99", "p50 of raw", "p99", "p50 of held", "p99")
    table = Table(*heads, title=f"one hop in ms, load {os.getloadavg()[0]:.1f}")
    for each in rows:
        times = [f"{each[key]:.3f}" for key in ("p50_ms", "p99_ms")]
        ratios = [f"{each[f'{which}_of_{base}']:.2f}" for base in BASES for which in QUANTILES]
        table.add_row(each["size"], CONTESTANTS[each["name"]][2], *times, *ratios)
    console().print(table)


def row(size: str, name: str, found: dict[tuple[str, str], list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of one contestant at one size."""
    result: dict[str, Any] = {"size": size, "name": name}
    for which in QUANTILES:
        values = [each[f"{which}_ms"] for each in found[size, name]]
        result[f"{which}_ms"] = statistics.median(values)
        for short, base in BASES.items():
            others = [each[f"{which}_ms"] for each in found[size, base]]
            result[f"{which}_of_{short}"] = ratio(values, others)
    return result


if __name__ == "__main__":
    main()
