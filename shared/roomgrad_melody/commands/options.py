"""What `roomgrad up melody` and an unattended run start, by their options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from roomgrad import state
from roomgrad.cli import options as typed
from roomgrad.errors import SettingsError
from roomgrad.local.plan import Plan, Value, counted
from roomgrad.redis.server_address import AnyAddress
from roomgrad_melody.contract import EVALNET, EVOLUTION, LABELLING, LEARNER, MELODY

RATER = "rater"  # a program that answers the questions; in no contract
QUESTIONS = 5  # in a round
FIRST_ROUND = 2  # the generation by which there are enough candidates for questions
NEVER = 1_000_000

Strategy = Annotated[str, Option(metavar="NAME", help="How the questions are chosen.")]
ASK = ("ratings", "pairs", "both")
DEFAULT_ASK = "both"  # of people, as it measures best; programs are asked for ratings
Ask = Annotated[
    str,
    typed.word(
        "--ask", ASK, "Ask for ratings, pairs, or both in turn (both; with --rater ratings)."
    ),
]
LabelsFile = Annotated[str, Option(metavar="FILE", help="Labels with which a new run begins.")]


@dataclass(frozen=True)
class Melody:
    """`roomgrad up melody`: for people; they rate on its page or in a terminal. It has no end."""

    seed: typed.Seed = 0
    strategy: Strategy = ""
    threads: typed.Threads = 1
    labels_file: LabelsFile = ""
    ask: Ask = DEFAULT_ASK

    def plan(self, run: str = "", replicas: Sequence[str] = (), least: int = 1) -> Plan:
        """Return what is started. Raises SettingsError."""
        run = run or MELODY.name
        learner: dict[str, Value] = {
            "seed": self.seed,
            "ask": self.ask,
            **_strategy(self.strategy),
        }
        new_runs_only = {}
        if self.labels_file:
            learner["labels-file"] = file = _readable(self.labels_file)
            new_runs_only[LEARNER] = (
                f"run {run!r} has begun before, so --labels-file would not be read: add its "
                f"labels by `roomgrad labels import {file}`, or begin again with --fresh, "
                "which deletes the labels that it has"
            )
        settings: dict[str, dict[str, Value]] = {
            LEARNER: learner,
            EVALNET: {"seed": self.seed, "threads": self.threads},
            EVOLUTION: {"seed": self.seed},
        }
        counts = counted((LABELLING, EVALNET, LEARNER, EVOLUTION), replicas, least)
        return Plan(MELODY.name, run, counts, settings, new_runs_only=new_runs_only)

    def where_to_look(self, plan: Plan, url: AnyAddress, began: float) -> list[str]:
        """Return the address of the page, and commands for a run that is up."""
        from roomgrad_melody.commands import page

        return page.address_and_commands(plan, url, began)


@dataclass(frozen=True)
class Unattended:
    """A run with a rater that is a program: in lock-step, so that it repeats, or as a person."""

    rater: str = "simulated"
    labels: int = 100
    seed_labels: int = 40
    generations: int = 60
    as_person: bool = False
    pace: float = 0.5
    strategy: str = ""
    seed: int = 0
    threads: int = 1
    json: bool = False
    ask: str = "ratings"

    @property
    def given(self) -> int:
        """Number of random melodies that are rated before the run begins."""
        return 0 if self.as_person else min(self.seed_labels, self.labels)

    @property
    def rounds(self) -> int:
        """Number of rounds of questions."""
        return -(-(self.labels - self.given) // QUESTIONS)

    @property
    def ask_every(self) -> int:
        """Generations between two rounds of questions. Raises SettingsError if too few."""
        if not self.rounds:
            return NEVER
        every = self.generations // self.rounds
        if every >= FIRST_ROUND:
            return every
        if self.generations > self.rounds:  # in every generation but the first two
            return 1
        raise SettingsError(
            f"--generations {self.generations} is too few to ask for "
            f"{self.labels - self.given} labels, {QUESTIONS} in a generation: allowed is "
            f"{self.rounds + 1} or more"
        )

    def plan(self, run: str = "", replicas: Sequence[str] = (), least: int = 1) -> Plan:
        """Return what is started, in a run of its own: `--fresh` must not delete people's labels.

        Raises SettingsError.
        """
        run = run or f"{MELODY.name}-{'as-person' if self.as_person else 'unattended'}"
        counts = counted((EVALNET, LEARNER, EVOLUTION), replicas, least)
        if self.as_person:
            people = Melody(self.seed, self.strategy, self.threads, ask=self.ask)
            served = people.plan(run, replicas, least)
            served.settings[EVOLUTION]["pause-s"] = min(1.0, self.pace)
            return Plan(MELODY.name, run, counts, served.settings)
        shared: dict[str, Value] = {"seed": self.seed, "lockstep": True}
        settings: dict[str, dict[str, Value]] = {
            RATER: {"replica": RATER, "rater": self.rater},
            EVALNET: {"seed": self.seed, "threads": self.threads},
            LEARNER: {
                **shared,
                "ask": self.ask,
                "again": 0.0,
                "max-labels": self.labels,
                "ask-every": self.ask_every,
                "active-labels": QUESTIONS,
                "labels-file": str(state.run_directory(run) / "labels.csv"),
                **_strategy(self.strategy),
            },
            EVOLUTION: {**shared, "pause-s": 0.0, "generations": self.generations},
        }
        return Plan(MELODY.name, run, {RATER: 1, **counts}, settings)


def _readable(file: str) -> str:
    """Return the full path of a file of labels.

    Raises SettingsError if a line of it is wrong, FormatError if all of it is.
    """
    from roomgrad_melody import formats

    path = Path(file).resolve()
    found = formats.read(path)
    if found.problems:
        raise SettingsError(f"--labels-file {file}: {found.problems[0]}")
    if found.pairs:
        raise SettingsError(
            f"--labels-file {file} has votes on pairs; expected ratings: import votes into a "
            f"running system by `roomgrad labels import {file}`"
        )
    return str(path)


def _strategy(name: str) -> dict[str, Value]:
    """Return the flag of a strategy. Raises SettingsError if there is no such strategy."""
    if not name:
        return {}
    from roomgrad_melody.learner.strategy import STRATEGIES  # type: ignore[import-untyped]

    if name not in STRATEGIES:
        raise SettingsError(f"--strategy {name}: allowed is {', '.join(STRATEGIES)}")
    return {"strategy": name}
