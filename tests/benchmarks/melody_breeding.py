"""What evolution makes of 100 labels, by the rater's truth, run after run of the whole system.

    python -m tests.benchmarks.melody_breeding [--seeds 10] [--labels 100] [--generations 40]
        [--json]

Each seed is `roomgrad run melody --rater simulated`: 40 labels of random melodies, the others asked
while 40 generations are bred, every component a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = ("seed", "true_mean_rating", "distinct", "mae", "accuracy", "ece", "seconds")
COUNTS = ("lost", "duplicates", "dead")


def bred(seed: int, labels: int, generations: int) -> dict[str, Any]:
    """What `roomgrad run --json` reports of one run."""
    command = [sys.executable, "-m", "roomgrad", "run", "melody", "--rater", "simulated", "--json"]
    command += ["--run", f"bench-melody-{seed}", "--fresh", "--seed", str(seed)]
    command += ["--labels", str(labels), "--generations", str(generations)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def show(results: list[dict[str, Any]], console: Console) -> None:
    """A line per seed, and what the worst of them are."""
    table = Table(title="The last generation, by the rater's truth", title_justify="left", box=None)
    for name in (*COLUMNS, *COUNTS):
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row in results:
        figures = [f"{row[name]:.4g}" for name in COLUMNS]
        table.add_row(*figures, *(str(row[name]) for name in COUNTS))
    console.print(table)
    ratings = [row["true_mean_rating"] for row in results]
    distinct = min(row["distinct"] for row in results)
    enough = sum(rating >= 4.8 for rating in ratings)
    console.print(
        f"true mean rating {statistics.mean(ratings):.3f}, the worst {min(ratings):.3f}; at least "
        f"4.8 in {enough} of {len(ratings)}; distinct at least {distinct}"
    )


def main() -> None:
    """Prints the table, and with --json one line for programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--generations", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = [bred(s, arguments.labels, arguments.generations) for s in range(arguments.seeds)]
    show(results, Console(stderr=arguments.json, width=120))
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
