"""How well evalnet learns a simulated rater's taste, and which questions help it most.

    python -m tests.benchmarks.melody_learning [--seeds 10] [--only person learning asking]
        [--noise 0.3] [--plot FILE] [--json]

- person: the whole system as at the page, by `tests.benchmarks.melody_person`.

The others run in this process, without Redis, with the functions that the components use.

- learning: 40 labels of random melodies, a training, then 5 labels more and a training at a time;
  on 2,000 melodies unseen, next to a ridge regression on one-hot slots.
- asking: the same with questions that each strategy chooses among bred and random candidates.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from roomgrad_melody.evalnet import model
from roomgrad_melody.evolution import genetic
from roomgrad_melody.genome import Genomes, canonical, distinct, random_genomes, values
from roomgrad_melody.learner import training
from roomgrad_melody.learner.strategy import DEFAULT, STRATEGIES, far_enough
from roomgrad_melody.ordinal import expected, lower_bound, mixture
from roomgrad_melody.rater import rater
from tests.benchmarks import melody_person
from tests.benchmarks.melody_person import spread

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SEED_LABELS, ASKED, MOST = 40, 5, 340
MARKS = (40, 100, 200, 340)
RECENT = 20  # labels from which questions keep a distance
POOL = 1000  # candidates, half of them bred
UNSEEN = canonical(random_genomes(2**40, 0, 2000))
TRUTH = rater.rating(UNSEEN)
ALPHAS = (3.0, 10.0, 30.0, 100.0)  # of the ridge regression


@dataclass
class Quality:
    """How far predictions are off on the unseen melodies."""

    mae: float
    accuracy: float
    calibration: float = float("nan")


def quality(probs: Floats) -> Quality:
    """Mean absolute error of the expected rating, share of hits, calibration error (10 bins)."""
    sure, hit = probs.max(axis=1), probs.argmax(axis=1) == TRUTH
    bins = np.minimum((sure * 10).astype(int), 9)
    gaps = [abs(sure[bins == one].sum() - hit[bins == one].sum()) for one in range(10)]
    mae = np.abs(expected(probs) - TRUTH).mean()
    return Quality(float(mae), float(hit.mean()), float(sum(gaps)) / len(TRUTH))


@dataclass
class Learner:
    """evalnet and the learner in one process, as the product has them in two."""

    seed: int
    genomes: Genomes
    ratings: Integers
    chains: int = 0
    seconds: float = 0.0
    """Of the latest training."""
    network: torch.nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.network = model.EvalNetwork()
        self.optimizer = model.optimizer(self.network.parameters())

    def scores(self, genomes: Genomes) -> Floats:
        """Scores `(n, 16)` of canonical genomes."""
        with torch.inference_mode():
            scores = self.network(torch.from_numpy(genomes.astype("<f4"))).numpy()
        return np.asarray(scores, np.float64)

    def probs(self, genomes: Genomes) -> Floats:
        """Probabilities `(n, 6)` of the ratings of canonical genomes."""
        return mixture(self.scores(genomes))

    def train(self) -> None:
        """One training on all labels."""
        started = time.perf_counter()
        weights = np.ones(len(self.genomes))
        answers = training.Answers.of_ratings(self.genomes, self.ratings, weights)
        for number in range(training.batches(len(answers))):
            rows, *known = training.batch(answers, self.seed, self.chains, number)
            scores = self.network(torch.from_numpy(rows))
            given = np.bincount(self.ratings, minlength=6).tolist()
            _, gradient = training.loss(scores.detach().numpy(), *known, given)
            self.optimizer.zero_grad()
            scores.backward(torch.from_numpy(gradient))
            self.optimizer.step()
        self.chains += 1
        self.seconds = time.perf_counter() - started

    def add(self, genomes: Genomes, noise: float) -> None:
        """Labels more, as the simulated rater gives them."""
        self.genomes = np.concatenate([self.genomes, genomes])
        self.ratings = np.concatenate([self.ratings, rater.rating(genomes, noise, self.seed)])


def beginner(seed: int, noise: float) -> Learner:
    """A learner that was trained on the seed labels."""
    genomes = canonical(random_genomes(seed, 10**6, SEED_LABELS))
    learner = Learner(seed, genomes, rater.rating(genomes, noise, seed))
    learner.train()
    return learner


def ridge(genomes: Genomes, ratings: Integers) -> Quality:
    """One-hot slots, 32 x 9, with the alpha that is best on the unseen melodies themselves."""

    def slots(rows: Genomes) -> Floats:
        return (values(rows)[:, :, None] == np.arange(9)).reshape(len(rows), -1).astype(float)

    rows, unseen, mean = slots(genomes), slots(UNSEEN), ratings.mean()
    centre = rows.mean(axis=0)
    rows, unseen = rows - centre, unseen - centre
    found = []
    for alpha in ALPHAS:
        weights = np.linalg.solve(
            rows.T @ rows + alpha * np.eye(rows.shape[1]), rows.T @ (ratings - mean)
        )
        guess = np.clip(unseen @ weights + mean, 0.0, 5.0)
        hits = float((np.floor(guess + 0.5) == TRUTH).mean())
        found.append(Quality(float(np.abs(guess - TRUTH).mean()), hits))
    return min(found, key=lambda one: one.mae)


def learning(seed: int, noise: float) -> list[dict[str, Any]]:
    """Rows of one seed: labels of random melodies, no choice."""
    learner = beginner(seed, noise)
    more = canonical(random_genomes(seed, 10**6 + 1, MOST - SEED_LABELS))
    rows = []
    while True:
        count = len(learner.genomes)
        if count in MARKS:
            for name, one in (
                ("evalnet", quality(learner.probs(UNSEEN))),
                ("ridge", ridge(learner.genomes, learner.ratings)),
            ):
                rows.append({"seed": seed, "model": name, "labels": count, **vars(one)})
        if count >= MOST:
            rows[-2]["train_s"] = learner.seconds
            return rows
        learner.add(more[count - SEED_LABELS : count - SEED_LABELS + ASKED], noise)
        learner.train()


@dataclass
class Population:
    """A breeding population."""

    seed: int
    genomes: Genomes
    generation: int = 0

    def breed(self, learner: Learner) -> None:
        """The next generation, by the network's taste."""
        fitness = lower_bound(learner.scores(canonical(self.genomes)))
        self.genomes = genetic.breed(self.genomes, fitness, self.seed, self.generation)
        self.generation += 1


def fresh(candidates: Genomes, labelled: Genomes) -> Genomes:
    """The candidates that sound unlike each other and unlike all that is labelled."""
    marks = distinct(np.concatenate([labelled, candidates]))
    return candidates[marks[len(labelled) :]]


def ask(
    learner: Learner, bred: Genomes, strange: Genomes, name: str, noise: float, turn: int
) -> None:
    """Label what a strategy chooses among bred and random candidates, and train."""
    candidates = fresh(canonical(np.concatenate([bred, strange])), learner.genomes)
    random = np.random.Generator(np.random.Philox(key=[learner.seed, turn]))
    candidates = candidates[far_enough(candidates, learner.genomes[-RECENT:])]
    scores, labels = learner.scores(candidates), len(learner.genomes)
    chosen = STRATEGIES[name](scores, labels, ASKED, random)
    learner.add(candidates[chosen], noise)
    learner.train()


def unasked(seed: int, noise: float) -> list[tuple[int, float]]:
    """Labels and mean absolute error when random melodies are labelled and none is bred."""
    learner = beginner(seed, noise)
    more = canonical(random_genomes(seed, 10**6 + 1, MOST - SEED_LABELS))
    curve = [(SEED_LABELS, quality(learner.probs(UNSEEN)).mae)]
    for start in range(0, len(more), ASKED):
        learner.add(more[start : start + ASKED], noise)
        learner.train()
        curve.append((len(learner.genomes), quality(learner.probs(UNSEEN)).mae))
    return curve


def asking(seed: int, name: str, noise: float) -> list[tuple[int, float]]:
    """Labels and mean absolute error, training after training."""
    learner = beginner(seed, noise)
    population = Population(seed, genetic.first(seed))
    bred = population.genomes
    curve = [(len(learner.genomes), quality(learner.probs(UNSEEN)).mae)]
    while len(learner.genomes) < MOST:
        population.breed(learner)
        bred = np.concatenate([bred, population.genomes])[-POOL // 2 :]
        strange = random_genomes(seed, 10**7 + population.generation, len(bred))
        ask(learner, bred, strange, name, noise, population.generation)
        curve.append((len(learner.genomes), quality(learner.probs(UNSEEN)).mae))
    return curve


def needed(curve: list[tuple[int, float]], goal: float) -> int:
    """The fewest labels with which the error, a mean of three trainings, is down at the goal."""
    smooth = np.convolve([error for _, error in curve], np.ones(3) / 3.0, mode="valid")
    reached = np.flatnonzero(smooth <= goal)
    return curve[int(reached[0]) + 2][0] if len(reached) else MOST + ASKED


def table(title: str, head: list[str], rows: list[list[str]], console: Console) -> None:
    """Prints one."""
    found = Table(title=title)
    for name in head:
        found.add_column(name, justify="right")
    for row in rows:
        found.add_row(*row)
    console.print(found)


def show_learning(rows: list[dict[str, Any]], console: Console) -> None:
    """Mean and worst seed per number of labels."""
    lines = []
    for labels in MARKS:
        for name in ("evalnet", "ridge"):
            mine = [row for row in rows if row["labels"] == labels and row["model"] == name]
            lines.append(
                [
                    str(labels),
                    name,
                    spread([row["mae"] for row in mine]),
                    spread([row["accuracy"] for row in mine], min),
                    spread([row["calibration"] for row in mine]) if name == "evalnet" else "",
                ]
            )
    head = ["labels", "model", "mean absolute error", "accuracy", "calibration error"]
    table("random labels: mean (worst) of the seeds", head, lines, console)


def measure_asking(seeds: range, noise: float, console: Console) -> list[dict[str, Any]]:
    """All strategies on the same seeds."""
    plain = [unasked(seed, noise) for seed in seeds]
    curves = {name: [asking(seed, name, noise) for seed in seeds] for name in STRATEGIES}
    rows, lines = [], []
    for name, mine in (("(no pool)", plain), *curves.items()):
        shares: dict[str, list[float]] = {"random": [], "(no pool)": []}
        for seed, curve, other, none in zip(seeds, mine, curves["random"], plain, strict=True):
            row: dict[str, Any] = {"seed": seed, "strategy": name, "curve": curve}
            for goal, theirs in (("random", other), ("(no pool)", none)):
                error = float(np.mean([one for _, one in theirs[-3:]]))
                row[f"labels for {goal}"] = needed(curve, error)
                shares[goal].append(needed(curve, error) / MOST)
            rows.append(row)
        marks = [spread([dict(curve)[mark] for curve in mine]) for mark in MARKS]
        lines.append([name, *marks, *(spread(one) for one in shares.values())])
    head = ["strategy", *(f"{mark}" for mark in MARKS), "of random's 340", "of no pool's 340"]
    table("error by strategy; share of 340 labels for the error at 340 of", head, lines, console)
    return rows


def plot(result: dict[str, Any], path: str) -> None:
    """Draws the mean error of all seeds over labels: by model, and by strategy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for name, style in (("evalnet", "o-"), ("ridge", "s--")):
        rows = [row for row in result.get("learning", ()) if row["model"] == name]
        means = [np.mean([r["mae"] for r in rows if r["labels"] == mark]) for mark in MARKS]
        label = "evalnet" if name == "evalnet" else "ridge regression on one-hot slots"
        left.plot(MARKS, means, style, label=label)
    for name in STRATEGIES:
        curves = [row["curve"] for row in result.get("asking", ()) if row["strategy"] == name]
        labels = [count for count, _ in curves[0]]
        error = np.mean([[mae for _, mae in curve] for curve in curves], axis=0)
        width = 2.5 if name == DEFAULT else 1.0
        right.plot(labels, error, linewidth=width, label=name)
    left.set(title="labels of random melodies", ylabel="mean absolute error of the rating")
    right.set(title="labels that a strategy asks for")
    for axes in (left, right):
        axes.set(xlabel="labels", ylim=(0.4, 0.9))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Prints tables on the terminal, and with --json one line for programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--noise", type=float, default=0.0, help="share of ratings off by one")
    parts = ("person", "learning", "asking")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--plot", help="draw error over labels into this file")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(file=sys.stderr if arguments.json else sys.stdout, width=160)
    seeds, noise = range(arguments.seeds), arguments.noise
    result: dict[str, Any] = {"seeds": arguments.seeds, "noise": noise, "default": DEFAULT}
    if "person" in arguments.only:
        names = melody_person.NAMES
        result["person"] = melody_person.measure(seeds, names, melody_person.PACE_S, console)
    if "learning" in arguments.only:
        result["learning"] = [row for seed in seeds for row in learning(seed, noise)]
        show_learning(result["learning"], console)
    if "asking" in arguments.only:
        result["asking"] = measure_asking(seeds, noise, console)
    if arguments.plot:
        plot(result, arguments.plot)
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
