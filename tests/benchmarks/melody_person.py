"""The melody maker as a person meets it, by raters that are functions, from no label to 70.

    python -m tests.benchmarks.melody_person [--seeds 10] [--raters simulated never_five noisy other
        repeating changing] [--pace 0.5] [--json]

Each seed is `roomgrad run melody --rater R --as-person`: the code of the page, one question at a
time, breeding free, no label at first. It stops at 10 and at 70 labels to be evaluated. `changing`
has the taste of the simulated rater for 100 labels, and the other taste from then on. The network
sees the direction of steps because `other` likes falling lines; nothing was chosen by `repeating`.

- Guesses: by how much those of the last 20 answers miss, minus the floor, what the best possible
  guess would miss by. It is the mean distance of these answers from what is true: 0 for a rater
  that always answers the same, for the noisy one the mean of its noise.
- Share of the best: the true mean rating of the population, divided by the highest rating that a
  search with the true rater finds: the same genetic algorithm, population, and generations, with
  the true rating as fitness.
- Error on 2,000 random melodies, whose goal is that of an earlier release in lock-step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from roomgrad_melody import formats
from roomgrad_melody.commands.standing import LATELY
from roomgrad_melody.commands.unattended import Rate, rater
from roomgrad_melody.evolution import genetic
from roomgrad_melody.genome import Genomes, degrees, distinct
from roomgrad_melody.rater.rater import previous, rating, score

NOISE, NOISE_SEED = 0.2, 1
MIDDLE, SPREAD = 0.59, 0.08  # of the other taste, in random melodies
HERE = "tests.benchmarks.melody_person"
PACE_S = 0.5
FIRST, ENOUGH, CHANGED, AFTER = 10, 70, 100, 140  # labels

LOCKSTEP = {40: 0.74, 100: 0.52, 200: 0.46, 340: 0.45}  # labels; error on random melodies
GOAL = float(np.interp(ENOUGH, [*LOCKSTEP], [*LOCKSTEP.values()]))

COLUMNS: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "true_mean_rating": ("population, true", min),
    "share": ("share of the best (goal 0.9)", min),
    "gap": ("|believed - true| (goal 0.3)", max),
    "guess_error": (f"last {LATELY} guesses miss by", max),
    "floor": ("floor", max),
    "excess": ("minus floor (goal 0.3)", max),
    "question_distance": ("distance of questions", min),
    "first_mae": (f"error at {FIRST} labels", max),
    "mae": (f"error (goal {GOAL:.2f})", max),
}
"""Title of each column, and which of the seeds is the worst."""

Row = dict[str, Any]


def never_five(genome: list[int]) -> int:
    """Rate as the simulated rater, with the whole scale below 5."""
    strict = np.floor(4 * (score(one(genome)) - 0.27) / 0.55 + 0.5)
    return int(np.clip(strict, 0, 4)[0])


def noisy(genome: list[int]) -> int:
    """Rate as the simulated rater, one melody in five too high or too low by one."""
    return int(rating(one(genome), NOISE, NOISE_SEED)[0])


def other(genome: list[int]) -> int:
    """Rate by another taste: few notes, few on the first beat, falling lines, low notes."""
    notes = degrees(one(genome))
    sounding = notes >= 0
    count = max(1, int(sounding.sum()))
    density = np.interp(sounding.mean(axis=1), [0, 0.3, 0.5, 1], [0.2, 1, 0.9, 0])
    falls = falling(notes) / max(1, count - 1)
    depth = np.where(sounding, 7 - notes, 0).sum(axis=1) / count / 7
    offbeat = (notes[:, ::4] < 0).mean(axis=1)
    found = 0.3 * density + 0.3 * np.minimum(1, falls * 1.6) + 0.2 * depth + 0.2 * offbeat
    return int(np.clip(np.floor(2.5 + (found - MIDDLE) / SPREAD * 1.1), 0, 5)[0])


def repeating(genome: list[int]) -> int:
    """Rate by the form AABA of the bars, which the network cannot see: it counts them alike."""
    bars = degrees(one(genome)).reshape(2, 4, 4)

    def alike(other: int) -> float:
        return float(((bars[:, 0] == bars[:, other]) & (bars[:, 0] >= 0)).mean())

    return int(np.clip(np.floor(1.5 + 8 * ((alike(1) + alike(3)) / 2 - alike(2))), 0, 5))


def falling(notes: NDArray[np.int8]) -> NDArray[np.int64]:
    """Count the notes of degrees `(n, 32)` that are 1 to 3 degrees below the note before."""
    sounding = notes >= 0
    before = previous(sounding)
    rise = notes - np.take_along_axis(notes, np.maximum(before, 0), axis=1)
    falls = sounding & (before >= 0) & (rise < 0) & (rise > -4)
    return np.asarray(falls.sum(axis=1))


def one(genome: list[int]) -> Genomes:
    """Return a genome as an array `(1, 128)`."""
    return np.array([genome], np.uint8)


RATERS = {
    "simulated": ("simulated", "simulated"),
    "never_five": (f"{HERE}:never_five", f"{HERE}:never_five"),
    "noisy": (f"{HERE}:noisy", "simulated"),
    "other": (f"{HERE}:other", f"{HERE}:other"),
    "repeating": (f"{HERE}:repeating", f"{HERE}:repeating"),
}
"""Which rater answers, and which one says what is true."""

NAMES = (*RATERS, "changing")


def played(run: str, rater: str, labels: int, seed: int, pace: float, *, fresh: bool) -> Row:
    """Go on with a run until it has so many labels; return its report."""
    options = ["run", "melody", "--as-person", "--json", "--rater", rater, "--labels", str(labels)]
    options += ["--seed", str(seed), "--pace", str(pace), *(["--fresh"] if fresh else [])]
    result: Row = json.loads(roomgrad(*options, "--run", run).splitlines()[-1])
    figures = {name: result[name] for name in ("mean_rating", "true_mean_rating", "mae")}
    print(run, rater, labels, figures, file=sys.stderr, flush=True)
    return result


def roomgrad(*words: str) -> str:
    """Return what a command prints."""
    command = [sys.executable, "-m", "roomgrad", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def floor(run: str, truth: Rate) -> float:
    """Return the mean distance of the run's last 20 ratings from the truth."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "labels.csv"
        roomgrad("labels", "export", str(file), "--run", run)
        rows = formats.read(file).rows
    genomes = np.array([row.genome for row in rows], np.uint8)
    ratings = np.array([row.rating for row in rows])
    latest = np.flatnonzero(distinct(genomes))[-LATELY:]  # without those that were asked again
    return float(np.abs(ratings[latest] - truth(genomes[latest])).mean())


def searched(truth: Rate, seed: int, generations: int) -> int:
    """Return the highest rating that breeding by the truth itself finds."""
    genomes = genetic.first(seed)
    for generation in range(generations):
        genomes = genetic.breed(genomes, truth(genomes).astype(float), seed, generation)
    return int(truth(genomes).max())  # elites survive, so the best is in the last one


def learned(name: str, seed: int, pace: float) -> Row:
    """Return the report of one rater and seed at 70 labels, with the error at 10."""
    answers, truth = RATERS[name]
    run = f"bench-person-{name}-{seed}"
    early = played(run, answers, FIRST, seed, pace, fresh=True)
    late = played(run, answers, ENOUGH, seed, pace, fresh=False)
    if truth != answers:
        late |= played(run, truth, ENOUGH, seed, pace, fresh=False)
    least = floor(run, rater(truth))
    best = searched(rater(truth), seed, late["generations"])
    return {
        **late,
        "rater": name,
        "seed": seed,
        "share": late["true_mean_rating"] / best,
        "gap": abs(late["mean_rating"] - late["true_mean_rating"]),
        "floor": least,
        "excess": late["guess_error"] - least,
        "first_mae": early["mae"],
    }


def changed(seed: int, pace: float) -> Row:
    """Return what the other taste says of the population before the change and 40 labels after."""
    run, taste = f"bench-person-changing-{seed}", f"{HERE}:other"
    before = played(run, "simulated", CHANGED, seed, pace, fresh=True)
    lost = played(run, taste, CHANGED, seed, pace, fresh=False)
    after = played(run, taste, AFTER, seed, pace, fresh=False)
    ratings = {
        "before": before["true_mean_rating"],
        "lost": lost["true_mean_rating"],
        "after": after["true_mean_rating"],
    }
    share = (ratings["after"] - ratings["lost"]) / max(0.01, ratings["before"] - ratings["lost"])
    gap = abs(after["mean_rating"] - after["true_mean_rating"])
    return {"rater": "changing", "seed": seed, **ratings, "won_back": share, "gap": gap}


def show(rows: list[Row], console: Console) -> None:
    """Print a line per rater: means over seeds, the worst in brackets."""
    table = Table(title=f"As a person, {ENOUGH} labels", title_justify="left", box=None)
    for title in ("rater", *(title for title, _ in COLUMNS.values())):
        table.add_column(title, justify="right")
    for name in RATERS:
        mine = [row for row in rows if row["rater"] == name]
        if mine:
            cells = (spread([row[key] for row in mine], w) for key, (_, w) in COLUMNS.items())
            table.add_row(name, *cells)
    console.print(table)
    for row in rows:
        if row["rater"] == "changing":
            console.print(
                f"changing, seed {row['seed']}: the population rates {row['before']:.2f} before "
                f"the change, {row['lost']:.2f} by the new taste, and {row['after']:.2f} after "
                f"{AFTER - CHANGED} labels; {row['won_back']:.0%} are won back"
            )


def spread(
    numbers: Sequence[float], worst: Callable[[Sequence[float]], float] = max, digits: int = 2
) -> str:
    """Return mean and worst of all seeds."""
    return f"{np.mean(numbers):.{digits}f} ({worst(numbers):.{digits}f})"


def measure(seeds: range, names: Sequence[str], pace: float, console: Console) -> list[Row]:
    """Run and show all raters on the same seeds."""
    rows = [learned(name, seed, pace) for name in names if name in RATERS for seed in seeds]
    rows += [changed(seed, pace) for seed in seeds if "changing" in names]
    show(rows, console)
    return rows


def main() -> None:
    """Print the table, and with --json one line for programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--raters", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--pace", type=float, default=PACE_S)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json, width=160)
    rows = measure(range(arguments.seeds), arguments.raters, arguments.pace, console)
    if arguments.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
