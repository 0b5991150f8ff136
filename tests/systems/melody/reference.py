"""The melody maker in lock-step in one process: the same pure functions, without rooms."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from roomgrad.models import ForwardPass
from roomgrad_melody.contract import EVALNET, EVOLUTION, LEARNER, RATINGS
from roomgrad_melody.evalnet.handlers import component
from roomgrad_melody.evalnet.settings import EvalnetSettings
from roomgrad_melody.evolution.genetic import breed, first
from roomgrad_melody.evolution.settings import EvolutionSettings
from roomgrad_melody.genome import (
    Genomes,
    canonical,
    from_texts,
    packed,
    random_genomes,
    spread_genomes,
    texts,
)
from roomgrad_melody.learner.pool import Pool
from roomgrad_melody.learner.settings import LearnerSettings
from roomgrad_melody.learner.state import RECENT
from roomgrad_melody.learner.strategy import choose, far_enough
from roomgrad_melody.learner.training import (
    REMEMBERED,
    Answers,
    batch,
    batches,
    fading,
    loss,
    surprise,
)
from roomgrad_melody.ordinal import expected, lower_bound, mixture, of_scale
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

    def train(self, labels: Ratings, weights: dict[str, float]) -> None:
        """A training run on all labels, if there are any."""
        if not labels:
            return
        names, losses = sorted(labels), []
        columns = ([each[name] for name in names] for each in (labels, weights))
        answers = Answers.of_ratings(from_texts(names), *map(np.array, columns))
        size, seed = self._learner.batch_size, self._learner.seed
        for number in range(batches(len(names), size, self._learner.epochs)):
            rows, *known = batch(answers, seed, len(self.chains), number, size)
            made = ForwardPass({"DATA": rows}, 0, "")
            scores = self._model.forward(made, "key")["DATA"]
            mean, gradient = loss(scores, *known, histogram(labels))
            upstream = {"DATA": gradient}
            of_parameters, _ = self._model.backward("key", made, upstream, lambda: None)
            update = self._model.prepare(of_parameters, made, moved_on=False, staleness=0)
            self._model.apply(update)
            losses.append(mean)
        self.chains.append(losses)

    def rate(self, genomes: Genomes) -> NDArray[np.float32]:
        """Scores of `(n, 128)` genomes, `(n, 16)`."""
        rows = genomes.astype("<f4")
        return self._model.forward(ForwardPass({"DATA": rows}, 0, ""), None)["DATA"]


@dataclass
class Questions:
    """The candidates, and which of them the simulated rater is asked about."""

    settings: LearnerSettings
    labels: Ratings
    pool: Pool = field(init=False)
    gathered: int = 0
    age: float = 0.0
    ages: dict[str, float] = field(default_factory=dict)
    surprises: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = self.settings
        first = spread_genomes(settings.seed, settings.nr_of_unlabeled_data)
        self.pool = Pool.empty().add(first, settings.pool).without(self.labels)

    def gather(self, genomes: Genomes, scores: NDArray[np.float32]) -> None:
        """A generation, and random melodies beside."""
        melodies = canonical(genomes)
        fresh = np.array([name not in self.labels for name in texts(melodies)])
        before = len(self.pool)
        pool = self.pool.add(melodies[fresh], self.settings.pool)
        pool = pool.score(melodies, scores)
        share, self.gathered = self.settings.outside, self.gathered + 1
        count = round((len(pool) - before) * share / (1 - share))
        others = random_genomes(self.settings.seed, self.gathered, count)
        self.pool = pool.add(canonical(others), self.settings.pool)

    def score(self, network: Network) -> None:
        """What is not scored yet is, in one message."""
        unscored = self.pool.genomes[~self.pool.scored]
        if len(unscored):
            self.pool = self.pool.score(unscored, network.rate(unscored))

    def answers(self) -> Ratings:
        """A round of questions and their answers; nothing where nobody is to be asked."""
        settings, pool = self.settings, self.pool
        count = settings.active_labels
        if settings.max_labels:
            count = min(count, settings.max_labels - len(self.labels))
        if count <= 0 or len(pool) < settings.nr_of_unlabeled_data:
            return {}
        recent = from_texts(list(self.labels)[-RECENT:])
        far = pool.only(far_enough(pool.genomes, recent))
        pool = far if len(far) >= count else pool
        scores, luck = pool.scores.astype(np.float64), np.random.default_rng(0)
        # The default strategy leaves nothing to luck.
        chosen = choose(settings.strategy, scores, len(self.labels), count, luck)
        names = texts(pool.genomes[chosen])
        answers = dict(zip(names, simulated(names), strict=True))
        believed = of_scale(mixture(scores[chosen]), histogram(self.labels))
        for (name, rating), probs in zip(answers.items(), believed, strict=True):
            guessed = [round(float(p), 4) for p in probs]
            self.surprises = [*self.surprises, surprise(rating, guessed)][-REMEMBERED:]
            self.age += fading(self.surprises)
            self.ages[name] = self.age
        return answers

    def weights(self) -> dict[str, float]:
        """What each label counts."""
        return {name: 0.5 ** (self.age - self.ages.get(name, 0.0)) for name in self.labels}

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
    network.train(questions.labels, questions.weights())
    questions.score(network)
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
        scores = network.rate(genomes)
        fitness = lower_bound(scores)
        believed = of_scale(mixture(scores), histogram(questions.labels)).astype("<f4")
        means.append(float(expected(believed).mean()))
        questions.gather(genomes, scores)
        questions.score(network)
        due = generation % learner.ask_every == 0
        if due and (answers := questions.answers()):
            questions.answered(answers)
            network.train(questions.labels, questions.weights())
            questions.score(network)
    population = str(evolution.generations).encode() + packed(genomes).tobytes()
    result = Result(
        *hashes(network.state),
        sum(map(len, network.chains)),
        sha256(population + fitness.tobytes()),
        sha256(repr(sorted(questions.labels.items())).encode()),
    )
    return Played(questions.labels, result, network.chains, means)


def histogram(labels: Ratings) -> list[int]:
    """How many labels have each rating."""
    return [list(labels.values()).count(rating) for rating in range(RATINGS)]


def _named(flags: dict[str, object]) -> dict[str, object]:
    return {name.replace("-", "_"): value for name, value in flags.items()}
