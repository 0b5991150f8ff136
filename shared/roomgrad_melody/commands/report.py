"""The report of an unattended run."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table

from roomgrad import exact_json
from roomgrad.cli import output
from roomgrad.display import format_number

GUESSES = 20  # first and last answers that are compared


@dataclass(frozen=True)
class Point:
    """One generation: the number of labels then, and its mean rating by the rater."""

    generation: int
    labels: int
    true_mean_rating: float


@dataclass(frozen=True)
class Report:
    """The figures of one run."""

    run: str
    labels: int
    """All labels; `seed_labels` of them were stored before the run began."""

    pairs: int
    """Votes, which of two melodies is better."""

    seed_labels: int
    generations: int
    seconds: float
    """From the start of the command until the last generation was rated; processes start first."""

    true_mean_rating: float
    """Mean rating of the last generation by the rater itself."""

    first_true_mean_rating: float
    """Mean rating of the first generation by the rater itself."""

    mean_rating: float
    """Mean expected rating of the last generation, by the network."""

    guess_error: float | None
    """Mean distance of the network's guesses from the last 20 answers."""

    question_distance: float | None
    """Slots in which one of the last 20 questions differs from the nearest of the 20 before it."""

    distinct: int
    """Melodies of the last generation that differ by sound."""

    accuracy: float
    mae: float
    ece: float
    lost: int
    """Batches and answers that were lost; see `standing.Account`."""

    duplicates: int
    """Steps and revisions of labels that were applied twice; see `standing.Account`."""

    dead: int
    training_runs: int
    steps: int
    weights_sha256: str
    population_sha256: str
    seed: int
    rater: str
    strategy: str
    ask: str
    replicas: dict[str, int]
    server: str
    restarts: int
    curve: list[Point] = field(default_factory=list)
    means: dict[int, float] = field(default_factory=dict)
    """Mean expected rating of each generation."""

    guesses: list[tuple[int, float]] = field(default_factory=list)
    """For each answer: the number of labels then, and the error of the network's guess."""

    logs: str = ""

    def json(self) -> str:
        """Return the figures as one line of JSON."""
        figures = asdict(self)
        for name in ("curve", "means", "guesses", "logs"):
            del figures[name]
        return exact_json.dumps(figures, nulls=True).decode()


def show(console: Console, report: Report) -> None:
    """Print the report for a person."""
    console.print()
    output.say("Mean ratings of a generation", style="bold")
    console.print(_table(report))
    console.print()
    if math.isnan(report.true_mean_rating):
        output.say(f"{report.rater} compares melodies and rates none.", *_summary(report))
        return
    last = f"The last generation rates {report.true_mean_rating:.2f} of 5"
    output.say_marked(
        last,
        "bold",
        f" by {report.rater}, the first {report.first_true_mean_rating:.2f}; {report.distinct} of "
        f"its melodies differ by sound.",
    )
    output.say(*_summary(report))


def _table(report: Report) -> Table:
    table = Table(box=None)
    for name in ("generation", "labels", "by the network", "by the rater"):
        table.add_column(name, justify="right")
    last = Point(report.generations, report.labels, report.true_mean_rating)
    for point in [each for each in report.curve if each.generation < last.generation] + [last]:
        mean = report.means.get(point.generation)
        table.add_row(
            str(point.generation),
            str(point.labels),
            "" if mean is None else format_number(mean),
            f"{point.true_mean_rating:.2f}",
        )
    return table


def _summary(report: Report) -> list[str]:
    lines = [
        *_accuracy(report),
        *_guesses(report.guesses),
        f"{report.labels} labels ({report.seed_labels} given), {report.pairs} votes, "
        f"{report.training_runs} trainings, "
        f"{report.steps} steps in {report.seconds:.1f} s; {report.lost} lost, "
        f"{report.duplicates} doubled.",
        f"Weights {report.weights_sha256[:16]}, seed {report.seed}, {report.server}.",
    ]
    if report.restarts:
        lines.append(f"Components were started again {report.restarts} times.")
    lines.append(f"Logs: {os.path.relpath(report.logs)}")
    return lines


def _accuracy(report: Report) -> list[str]:
    if math.isnan(report.accuracy):
        return []
    return [
        f"On 2,000 random melodies the network is right {report.accuracy:.0%} of the time, off by "
        f"{report.mae:.2f} on average, calibrated to {report.ece:.3f}."
    ]


def _guesses(guesses: list[tuple[int, float]]) -> list[str]:
    if len(guesses) < 2 * GUESSES:
        return []
    first, last = (
        float(np.mean([miss for _, miss in some]))
        for some in (guesses[:GUESSES], guesses[-GUESSES:])
    )
    return [
        f"Its guesses missed the first {GUESSES} answers by {first:.2f}, the last by {last:.2f}."
    ]
