"""What a step through rooms costs beside the same step in one process, by the size of the model.

    python -m tests.benchmarks.model_size [--sizes 2210,1m,9m,81m] [--replicas 1,4] [--rounds 3]
        [--seconds 30] [--threads 1] [--json [FILE]] [--before FILE] [--plot FILE]

The trebuchet's network, its hidden layers widened; Adam, batches of 100, one open at a time. 2,210
parameters are the trebuchet itself, with its simulator; larger ones have a loss that costs nothing,
and no component between. In turns: the six-hop chain of `transport`, the unit of what rooms cost;
one process; rooms with each number of replicas. Each has real processes and a fresh server with an
append-only file each second, which is not rewritten. A window lasts until three intervals between
snapshots are over, if there are any. The replica that works is killed afterwards; the only one is
started again at once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.model_size.measure import Figures, in_one_process, through_rooms
from tests.benchmarks.model_size.report import show
from tests.benchmarks.model_size.task import WIDENINGS, parameters
from tests.benchmarks.transport.__main__ import CONTESTANTS
from tests.benchmarks.transport.__main__ import measured as chain_rounds

CHAIN = next(each for each in CONTESTANTS if each.name == "rooms-aof")
CHAIN_S = 2.0
LIMIT_CHAINS = 1.2  # of which the rest of the cost is told in percent of one process


def turn(size: str, replicas: list[int], seconds: float, threads: int) -> list[Figures]:
    """Return the figures of one size, all contestants one after the other."""
    widening = WIDENINGS[size]
    chain_ms = 1e3 / chain_rounds(CHAIN, CHAIN_S)
    alone = in_one_process(widening, seconds, threads)
    rows: list[Figures] = []
    for count in replicas:
        rooms = through_rooms(widening, count, seconds, threads)
        rooms |= {"replicas": count, "load": os.getloadavg()[0]}
        rows.append(rooms | beyond(rooms["mean_ms"], alone, chain_ms))
        rows[-1]["of_fewest_replicas"] = rooms["mean_ms"] / rows[0]["mean_ms"]
        print(f"{size}, {count} replicas: {rows[-1]}", file=sys.stderr, flush=True)
    return rows


def beyond(rooms_ms: float, alone: Figures, chain_ms: float) -> Figures:
    """Return how much longer a step takes than in one process."""
    more = rooms_ms - alone["mean_ms"]
    return {
        "one_process_ms": alone["mean_ms"],
        "one_process_median_ms": alone["median_ms"],
        "one_process_worst_of_mean": alone["worst_of_mean"],
        "chain_ms": chain_ms,
        "times": rooms_ms / alone["mean_ms"],
        "beyond_chains": more / chain_ms,
        "beyond_percent": 100 * more / alone["mean_ms"],
        "percent_after_chains": 100 * (more - LIMIT_CHAINS * chain_ms) / alone["mean_ms"],
    }


def median_of(rows: list[Figures]) -> Figures:
    """Return the medians of the rounds."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def main() -> None:
    """Print the tables."""
    arguments = parsed()
    found: dict[tuple[str, int], list[Figures]] = {}
    for _ in range(arguments.rounds):
        for size in arguments.sizes:
            for row in turn(size, arguments.replicas, arguments.seconds, arguments.threads):
                found.setdefault((size, row["replicas"]), []).append(row)
    result = {
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "cores": os.cpu_count(),
        "rows": [
            {"size": size, "parameters": parameters(WIDENINGS[size]), **median_of(rows)}
            for (size, _), rows in found.items()
        ],
    }
    write(result, arguments)


def write(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Print and store the result as it is asked for."""
    if arguments.json == "-":
        print(json.dumps(result))
    else:
        show(result)
    if arguments.json not in (None, "-"):
        Path(arguments.json).write_text(json.dumps(result, indent=1) + "\n")
    if arguments.plot:
        from tests.benchmarks.model_size import picture

        before = json.loads(arguments.before.read_text())["rows"] if arguments.before else []
        picture.draw(arguments.plot, result["rows"], before)


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=sizes, default=list(WIDENINGS))
    parser.add_argument("--replicas", type=numbers, default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch, of each")
    parser.add_argument("--json", nargs="?", const="-", help="into a file, or printed")
    parser.add_argument("--before", type=Path, help="a former --json FILE, for the picture")
    parser.add_argument("--plot", type=Path, help="draw steps of one process over parameters")
    return parser.parse_args()


def sizes(text: str) -> list[str]:
    """Return the sizes that are named. Raises ArgumentTypeError for others."""
    found = text.split(",")
    if unknown := set(found) - set(WIDENINGS):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: expected some of {','.join(WIDENINGS)}"
        )
    return found


def numbers(text: str) -> list[int]:
    """Return numbers that are separated by commas."""
    return [int(each) for each in text.split(",")]


if __name__ == "__main__":
    main()
