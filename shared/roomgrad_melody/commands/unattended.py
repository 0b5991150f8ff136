"""`roomgrad run melody --rater NAME`: breed and learn without people, and report."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console

from roomgrad.cli import output
from roomgrad.cli.progress import progress
from roomgrad.cli.run import greet, stopped_by_user
from roomgrad.errors import RoomgradError
from roomgrad.local.plan import Plan
from roomgrad.local.session import Session, password_file, serve
from roomgrad.redis.client import Client
from roomgrad_melody import formats
from roomgrad_melody.commands import evaluation, standing
from roomgrad_melody.commands.as_person import Person
from roomgrad_melody.commands.options import RATER, Unattended
from roomgrad_melody.commands.report import Point, Report, show
from roomgrad_melody.commands.standing import Standing
from roomgrad_melody.contract import (
    CUSTOM,
    EVALNET,
    EVOLUTION,
    EVOLUTION_ROOM,
    LEARNER,
    MELODY,
    PREFERENCES,
)
from roomgrad_melody.genome import Genomes, distinct, packed, random_genomes

if TYPE_CHECKING:
    from roomgrad_melody.rater.handlers import Judge

ANSWER_S = 60.0
POINTS = 8  # of the curve in the report, approximately
STUCK_S = 60.0  # without any progress
Rate = Callable[[Genomes], NDArray[np.float64]]
P = ParamSpec("P")
T = TypeVar("T")

GIVEN = 2**40
"""Draw of the melodies that are rated before the run begins; others have smaller numbers."""


def run(options: Unattended, plan: Plan, redis_url: str, *, fresh: bool, console: Console) -> None:
    """Run to the last generation, evaluate and report; stop all that was started."""
    began = time.monotonic()
    asked = judge(options.rater)
    rate = asked.rate
    with stopped_by_user(), serve(plan, redis_url, fresh=fresh, say=output.say) as session:
        way = "as a person" if options.as_person else f"{options.generations} generations"
        about = f"{options.labels} labels by {options.rater}, {way}"
        greet(session, f"{about}, seed {options.seed}")
        if not options.as_person:
            _write_labels(Path(str(plan.settings[LEARNER]["labels-file"])), options, rate)
        watch: Watch | Person
        if options.as_person:
            watch = Person(session, options, asked)
        else:
            # The rater answers only questions that are asked after its start.
            session.start(RATER, environ=_paths())
            session.wait_alive(RATER)
            watch = Watch(session, options, rate)
        session.start(EVALNET, LEARNER, EVOLUTION)
        seen = watch.to_the_end(console)
        seconds = time.monotonic() - began
        session.wait_alive(EVALNET)
        report = _report(session, options, seen, watch.curve, rate, seconds)
        show(console, report)
    if options.json:
        output.say(report.json())


def judge(name: str) -> Judge:
    """Return the rater of this name. Raises SettingsError if unknown."""
    from roomgrad_melody.rater.handlers import Judge as Found
    from roomgrad_melody.rater.handlers import judge_of

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    found = judge_of(name)

    def guarded(function: Callable[P, T]) -> Callable[P, T]:
        def called(*args: P.args, **named: P.kwargs) -> T:
            try:
                return function(*args, **named)
            except Exception as error:  # of any kind: it is the user's function
                raise RoomgradError(
                    f"the rater {name} failed with {type(error).__name__}: {error}; expected is a "
                    f"function that takes a list of 128 ints, 0 or 1, and returns a whole number 0 "
                    f"to 5, or that takes two and returns {', '.join(PREFERENCES)}"
                ) from error

        return called

    return Found(guarded(found.rate), guarded(found.prefer))


def rater(name: str) -> Rate:
    """Return the ratings of this rater, for genomes `(n, 128)`. Raises SettingsError if unknown."""
    found: Rate = judge(name).rate
    return found


def _paths() -> dict[str, str]:
    """Return a PYTHONPATH with which the rater's process imports from the current folder."""
    before = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [before, os.getcwd()]))}


def _write_labels(path: Path, options: Unattended, rate: Rate) -> None:
    """Write the first labels of the run: random melodies, rated by this rater."""
    genomes = random_genomes(options.seed, GIVEN, options.given)
    ratings = rate(genomes) if len(genomes) else ()
    rows = [formats.Row(*pair) for pair in zip(genomes, map(int, ratings), strict=True)]
    path.write_text(formats.write(rows, "csv"))


class Watch:
    """Watches a run until the last generation is rated and no work is left."""

    def __init__(self, session: Session, options: Unattended, rate: Rate) -> None:
        self.curve: list[Point] = []
        self._session = session
        self._options = options
        self._rate = rate
        self._now = Standing()
        self._moved = time.monotonic()

    def to_the_end(self, console: Console) -> Standing:
        """Show the progress until the run is done, and return its final state.

        Raises RoomgradError for a dead letter, or if the run makes no progress.
        """
        last = self._options.generations
        waiting = "waiting for the first generation"
        with progress(console, "generation", last, waiting) as show_progress:
            while True:
                now = self._look()
                if now.allowed >= 0:
                    show_progress(now.allowed, _numbers(now))
                    self._note(now)
                if now.rated and now.allowed >= last:
                    return now
                time.sleep(0.05)

    def _look(self) -> Standing:
        now = self._session.poll(standing.read) or self._now
        if now != self._now:
            self._now, self._moved = now, time.monotonic()
        if now.dead:
            raise RoomgradError(_dead(self._session))
        if time.monotonic() - self._moved > STUCK_S:
            raise RoomgradError(_stuck(self._session, now))
        return now

    def _note(self, now: Standing) -> None:
        """Add some generations to the curve of the report, with their mean by the rater."""
        step = self._options.generations / (POINTS - 1)
        if now.allowed < len(self.curve) * step:
            return
        found = self._session.poll(standing.population)
        if found is not None:
            number, genomes = found
            self.curve.append(Point(number, now.labels, float(self._rate(genomes).mean())))


def _numbers(now: Standing) -> str:
    return f"{now.answers:>5} answers   {now.runs:>3} trainings   mean {now.mean:4.2f} of 5"


def _dead(session: Session) -> str:
    """Describe the first dead letter."""
    letters: Any = session.client.xrange(session.plan.names.dead(), count=1)
    _, fields = letters[0]
    history = orjson.loads(fields.get(b"history", b"{}"))
    return (
        f"{history.get('group', 'a component')} gave up a message, so the run would not repeat: "
        f"{history.get('reason', 'it does not say why')} (logs: {session.launcher.directory})"
    )


def _stuck(session: Session, now: Standing) -> str:
    rest = f"{now.waiting} questions are open, batch {now.batch} of {now.batches} is under way"
    return (
        f"nothing has moved for {STUCK_S:.0f} s at generation {now.generation} with {now.labels} "
        f"labels ({rest}): look into the logs in {session.launcher.directory}"
    )


def _report(
    session: Session,
    options: Unattended,
    seen: Standing,
    curve: list[Point],
    rate: Rate,
    seconds: float,
) -> Report:
    client, names = session.client, session.plan.names
    _, genomes = standing.population(client, names)
    account = standing.account(client, names)
    scores = _evaluate(session, rate)
    guesses = standing.guesses(client, names)
    return Report(
        run=names.run,
        labels=seen.labels,
        pairs=seen.pairs,
        seed_labels=options.given,
        generations=seen.generation,
        seconds=round(seconds, 3),
        true_mean_rating=round(float(rate(genomes).mean()), 4),
        first_true_mean_rating=round(float(rate(_first(options.seed, len(genomes))).mean()), 4),
        mean_rating=round(seen.mean, 4),
        guess_error=standing.guess_error(guesses) if guesses else None,
        question_distance=standing.question_distance(client, names) if guesses else None,
        distinct=int(distinct(genomes).sum()),
        accuracy=round(scores.accuracy, 4),
        mae=round(scores.mae, 4),
        ece=round(scores.ece, 4),
        lost=account.lost,
        duplicates=account.duplicates,
        dead=seen.dead,
        training_runs=seen.runs,
        steps=seen.finished,
        weights_sha256=standing.weights_sha256(client, names),
        population_sha256=hashlib.sha256(packed(genomes).tobytes()).hexdigest(),
        seed=options.seed,
        rater=options.rater,
        strategy=_strategy(options),
        ask=options.ask,
        replicas={n: c for n, c in session.plan.replicas.items() if n != RATER},
        server=session.server_name(),
        restarts=session.launcher.restarts,
        curve=curve,
        means=standing.means(client, names),
        guesses=[(int(each["labels"]), abs(each["rating"] - each["guess"])) for each in guesses],
        logs=str(session.launcher.directory),
    )


def _first(seed: int, size: int) -> Genomes:
    from roomgrad_melody.evolution.genetic import first  # type: ignore[import-untyped]

    found: Genomes = first(seed, size)
    return found


def _strategy(options: Unattended) -> str:
    if options.strategy:
        return options.strategy
    from roomgrad_melody.learner.strategy import DEFAULT  # type: ignore[import-untyped]

    return str(DEFAULT)


def _evaluate(session: Session, rate: Rate) -> evaluation.Scores:
    """Score the network on melodies that it has not seen."""
    genomes = evaluation.melodies()
    with Client(MELODY, session.plan.run, session.url, password_file()) as client:
        answer = client.ask(
            EVOLUTION_ROOM,
            CUSTOM,
            None,
            answer=(EVOLUTION_ROOM, CUSTOM),
            timeout_s=ANSWER_S,
            fields={"GENOMES": genomes},
        )
    return evaluation.scores(answer.fields["PROBS"], rate(genomes))
