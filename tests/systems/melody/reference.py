"""The melody maker in lock-step in one process: the same pure functions, without rooms."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from roomgrad.models import ForwardPass
from roomgrad_melody.contract import EVALNET, EVOLUTION, LEARNER
from roomgrad_melody.evalnet.handlers import component
from roomgrad_melody.evalnet.model import expected, probabilities
from roomgrad_melody.evalnet.settings import EvalnetSettings
from roomgrad_melody.evolution.genetic import breed, first
from roomgrad_melody.evolution.settings import EvolutionSettings
from roomgrad_melody.genome import Genomes, canonical, from_text, packed, random_genomes, texts
from roomgrad_melody.learner.pool import Pool
from roomgrad_melody.learner.settings import LearnerSettings
from roomgrad_melody.learner.strategy import choose
from roomgrad_melody.learner.training import batch, batches, cross_entropy
from tests.systems.melody.play import Flags, Result, hashes, sha256, simulated

Ratings = dict[str, int]


@dataclass
class Played:
    """What a run leaves: the same that `Run.result` says, and how it came to it."""

    labels: Ratings
    result: Result
    chains: list[list[float]]
    """The losses of each training run."""

    means: list[float]
    """Of the ratings of each generation."""


class Network:
    """evalnet with its weights, and all training runs so far."""

    def __init__(self, settings: EvalnetSettings, learner: LearnerSettings) -> None:
        self._model = component.make_model(settings)
        self._learner = learner
        self.chains: list[list[float]] = []

    @property
    def state(self) -> bytes:
        return bytes(self._model.dump())

    def train(self, labels: Ratings) -> None:
        """A training run on all labels, if there are any."""
        if not labels:
            return
        names, losses = sorted(labels), []
        data = (from_texts(names), np.array([labels[name] for name in names]))
        size, augment, seed = (
            getattr(self._learner, name) for name in ("batch_size", "augment", "seed")
        )
        for number in range(batches(len(names), size, self._learner.epochs)):
            rows, targets = batch(*data, seed, len(self.chains), number, size, augment)
            made = ForwardPass({"DATA": rows}, 0, "")
            loss, gradient = cross_entropy(self._model.forward(made, "key")["DATA"], targets)
            upstream = {"DATA": gradient}
            of_parameters, _ = self._model.backward("key", made, upstream, lambda: None)
            update = self._model.prepare(of_parameters, made, moved_on=False, staleness=0)
            self._model.apply(update)
            losses.append(loss)
        self.chains.append(losses)

    def rate(self, genomes: Genomes) -> NDArray[np.float64]:
        """Probabilities of the ratings of `(n, 128)` genomes, `(n, 6)`."""
        rows = genomes.astype("<f4")
        logits = self._model.forward(ForwardPass({"DATA": rows}, 0, ""), None)["DATA"]
        return probabilities(logits)


@dataclass
class Questions:
    """The candidates, and which of them the simulated rater is asked about."""

    settings: LearnerSettings
    labels: Ratings
    pool: Pool = field(default_factory=Pool.empty)
    gathered: int = 0

    def gather(self, genomes: Genomes, probs: NDArray[np.float64]) -> None:
        """A generation, and random melodies beside."""
        melodies = canonical(genomes)
        fresh = np.array([name not in self.labels for name in texts(melodies)])
        before = len(self.pool)
        pool = self.pool.add(melodies[fresh], self.settings.pool)
        pool = pool.score(melodies, probs.astype("<f4"))
        share, self.gathered = self.settings.outside, self.gathered + 1
        count = round((len(pool) - before) * share / (1 - share))
        others = random_genomes(self.settings.seed, self.gathered, count)
        self.pool = pool.add(canonical(others), self.settings.pool)

    def score(self, network: Network) -> None:
        """What is not scored yet is, in one message."""
        unscored = self.pool.genomes[~self.pool.scored]
        if len(unscored):
            self.pool = self.pool.score(unscored, network.rate(unscored).astype("<f4"))

    def answers(self) -> Ratings:
        """A round of questions and their answers; nothing where nobody is to be asked."""
        settings, pool = self.settings, self.pool
        count = settings.active_labels
        if settings.max_labels:
            count = min(count, settings.max_labels - len(self.labels))
        if count <= 0 or len(pool) < settings.nr_of_unlabeled_data:
            return {}
        probs = pool.probs.astype(np.float64)
        known = from_texts(sorted(self.labels))
        luck = np.random.default_rng(0)  # the default strategy leaves nothing to it
        chosen = choose(settings.strategy, probs, pool.genomes, known, count, luck)
        names = texts(pool.genomes[chosen])
        return dict(zip(names, simulated(names), strict=True))

    def answered(self, answers: Ratings) -> None:
        """The labels grow, and evalnet is another one than that of the scores."""
        self.labels |= answers
        self.pool = self.pool.without(answers).unscored()


def play(flags: Flags, labels: Ratings) -> Played:
    """A run in lock-step with the simulated rater, from these labels to its last generation.

    No melody may be asked twice: `again` is 0.
    """
    learner = LearnerSettings(**_named(flags[LEARNER]))
    evolution = EvolutionSettings(**_named(flags[EVOLUTION]))
    assert learner.again == 0
    network = Network(EvalnetSettings(**_named(flags[EVALNET])), learner)
    questions = Questions(learner, dict(labels))
    network.train(questions.labels)
    genomes, fitness = first(evolution.seed, evolution.population), np.empty(0)
    means = []
    for generation in range(evolution.generations + 1):
        if generation > 0:
            genomes = breed(
                genomes,
                fitness,  # of the generation before, by the network of that time
                evolution.seed,
                generation - 1,
                tournament=evolution.tournament,
                crossover=evolution.crossover,
                flips=evolution.flips,
                elite=evolution.elite,
            )
        probs = network.rate(genomes)
        fitness = expected(probs)
        means.append(float(fitness.mean()))
        questions.gather(genomes, probs)
        questions.score(network)
        due = generation % learner.ask_every == 0
        if due and (answers := questions.answers()):
            questions.answered(answers)
            network.train(questions.labels)
            questions.score(network)
    population = str(evolution.generations).encode() + packed(genomes).tobytes()
    result = Result(
        *hashes(network.state),
        sum(map(len, network.chains)),
        sha256(population + fitness.tobytes()),
        sha256(repr(sorted(questions.labels.items())).encode()),
    )
    return Played(questions.labels, result, network.chains, means)


def from_texts(names: list[str]) -> Genomes:
    return np.array([from_text(name) for name in names], np.uint8).reshape(-1, 128)


def _named(flags: dict[str, object]) -> dict[str, object]:
    return {name.replace("-", "_"): value for name, value in flags.items()}
