"""Ratings, pairs, or both: what 100 answers of a rater that is a function are worth.

    python -m tests.benchmarks.melody_pairs [--seeds 10] [--ask ratings pairs both] [--pace 0.5]
        [--json]

Each seed is `roomgrad run melody --rater R --as-person --ask A`: the code of the page, one question
at a time, breeding free, no label at first. The rater is the simulated one with 10 % noise: as many
ratings are off by one, and as many preferences the wrong way round. What is true is its score,
which does not end where ratings do. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import redis
from rich.console import Console
from rich.table import Table

from roomgrad.names import Names
from roomgrad.testing import throwaway_server
from roomgrad_melody.commands import standing
from roomgrad_melody.contract import PAIRS_LOG
from roomgrad_melody.evolution.genetic import first
from roomgrad_melody.genome import SLOTS
from roomgrad_melody.rater.rater import preference, rating, score
from roomgrad_melody.sound import BPM
from roomgrad_melody.votes import Vote

NOISE, NOISE_SEED = 0.1, 1
ANSWERS = 100
KINDS = ("ratings", "pairs", "both")
LISTENING_S = SLOTS * 60 / BPM  # a melody, once

Row = dict[str, Any]

COLUMNS = {
    "mean": "population, mean",
    "best": "population, best",
    "listened_s": "listened to, s",
    "s_per_gain": "s for 0.1 of mean",
}


def noisy(genome: list[int], other: list[int] | None = None) -> int | str:
    """Rate a genome, or compare two: one answer in ten is wrong."""
    one = np.array(genome, np.uint8)
    if other is not None:
        return preference(one, np.array(other, np.uint8), NOISE, NOISE_SEED)
    return int(rating(one[None], NOISE, NOISE_SEED)[0])


def played(url: str, ask: str, seed: int, pace: float) -> Row:
    """Run to the last answer; return what the population is worth, and what it cost."""
    run = f"bench-pairs-{ask}-{seed}"
    command = [sys.executable, "-m", "roomgrad", "run", "melody", "--as-person", "--json"]
    command += ["--run", run, "--rater", "tests.benchmarks.melody_pairs:noisy", "--ask", ask]
    command += ["--labels", str(ANSWERS), "--seed", str(seed), "--pace", str(pace), "--fresh"]
    environ = {**os.environ, "REDIS_URL": url}
    subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environ)
    with redis.Redis.from_url(url) as client:
        row = figures(client, Names(run), seed)
    print(run, row, file=sys.stderr, flush=True)
    return {"ask": ask, "seed": seed, **row}


def figures(client: redis.Redis, names: Names, seed: int) -> Row:
    """Return the true scores of the last population, and the seconds of listening."""
    _, genomes = standing.population(client, names)
    _, best, _ = standing.best(client, names)
    scores, at_first = score(genomes), score(first(seed, len(genomes)))
    listened = LISTENING_S * listenings(client, names)
    gain = float(scores.mean() - at_first.mean())
    return {
        "mean": float(scores.mean()),
        "best": float(score(best[:1])[0]),
        "first": float(at_first.mean()),
        "listened_s": listened,
        "s_per_gain": 0.1 * listened / gain,
    }


def listenings(client: redis.Redis, names: Names) -> int:
    """Count how often a melody was heard: the winner of a vote need not be heard again."""
    answers = [*standing.log(client, names), *standing.log(client, names, PAIRS_LOG)]
    count, stays = 0, ""
    for answer in sorted(answers, key=lambda each: float(each["at"])):
        if "prefer" not in answer:
            count += 1
            continue
        count += sum(answer[side] != stays for side in ("first", "second"))
        vote = Vote(answer["first"], answer["second"], answer["prefer"], "", "", 0.0)
        stays = vote.winner
    return count


def show(rows: list[Row], console: Console) -> None:
    """Print a line per kind of question: means over seeds, the worst in brackets."""
    title = f"{ANSWERS} answers; the first population has {np.mean([r['first'] for r in rows]):.3f}"
    table = Table(title=title, title_justify="left", box=None)
    for name in ("asked", "seeds", *COLUMNS.values()):
        table.add_column(name, justify="right")
    for ask in KINDS:
        mine = [row for row in rows if row["ask"] == ask]
        if mine:
            table.add_row(ask, str(len(mine)), *(spread(mine, name) for name in COLUMNS))
    console.print(table)


def spread(rows: list[Row], name: str) -> str:
    """Return mean and worst."""
    numbers = [row[name] for row in rows]
    if name in ("mean", "best"):
        return f"{np.mean(numbers):.3f} ({min(numbers):.3f})"
    return f"{np.mean(numbers):.0f} ({max(numbers):.0f})"


def measure(seeds: range, kinds: list[str], pace: float, console: Console) -> list[Row]:
    """Run all kinds on the same seeds, and show them."""
    with throwaway_server() as server:
        rows = [played(server.url, ask, seed, pace) for seed in seeds for ask in kinds]
    show(rows, console)
    return rows


def main() -> None:
    """Print the table, and with --json one line for programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ask", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--pace", type=float, default=0.5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json, width=140)
    rows = measure(range(arguments.seeds), arguments.ask, arguments.pace, console)
    if arguments.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
