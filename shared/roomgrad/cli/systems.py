"""What may be asked of a run of each system, and the plan that comes of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from roomgrad import state
from roomgrad.errors import SettingsError
from roomgrad.local import project
from roomgrad.local.plan import SWARM_FILES, Plan, Value, counted, find_system, served_as
from roomgrad.names import GATEWAY
from roomgrad_melody.contract import EVALNET, EVOLUTION, LABELLING, LEARNER, MELODY
from roomgrad_trebuchet.contract import CONTROLMODEL, SIMULATOR, TRAINER, TREBUCHET

WEIGHT_HEADS = {"learn": "smooth", "original": "plus200"}

RATER = "rater"  # answers the questions in a person's place; no component of the contract
QUESTIONS = 5  # in a round
FIRST_ROUND = 2  # the generation by which there are enough candidates for questions
NEVER = 1_000_000


@dataclass(frozen=True)
class Trebuchet:
    """A training of the trebuchet."""

    steps: int = 1000
    seed: int = 0
    preset: str = "learn"
    window: int = 1
    threads: int = 1
    picture: str = ""
    json: bool = False
    gateway: int = 0

    def plan(self, run: str = "", replicas: Sequence[str] = (), least: int = 1) -> Plan:
        """What is started. Raises SettingsError."""
        settings: dict[str, dict[str, Value]] = {
            TRAINER: {"train-steps": self.steps, "seed": self.seed, "window": self.window},
            CONTROLMODEL: {
                "train-steps": self.steps,
                "seed": self.seed,
                "preset": self.preset,
                "threads": self.threads,
            },
            SIMULATOR: {"weight-head": WEIGHT_HEADS[self.preset]},
        }
        counts = counted(TREBUCHET.components, replicas, least)
        plan = Plan(TREBUCHET.name, run or TREBUCHET.name, counts, settings)
        return _with_gateway(plan, self.gateway)


@dataclass(frozen=True)
class Melody:
    """The melody maker for people, who answer on its page or in a terminal. It never ends."""

    seed: int = 0
    strategy: str = ""
    threads: int = 1
    labels_file: str = ""
    gateway: int = 0

    def plan(self, run: str = "", replicas: Sequence[str] = (), least: int = 1) -> Plan:
        """What is started. Raises SettingsError."""
        learner: dict[str, Value] = {"seed": self.seed, **_strategy(self.strategy)}
        if self.labels_file:
            learner["labels-file"] = _readable(self.labels_file)
        settings: dict[str, dict[str, Value]] = {
            LEARNER: learner,
            EVALNET: {"seed": self.seed, "threads": self.threads},
            EVOLUTION: {"seed": self.seed},
        }
        counts = counted((LABELLING, EVALNET, LEARNER, EVOLUTION), replicas, least)
        plan = Plan(MELODY.name, run or MELODY.name, counts, settings)
        return _with_gateway(plan, self.gateway)


@dataclass(frozen=True)
class Unattended:
    """The melody maker with a rater that is no person, in lock-step: it repeats bit for bit."""

    rater: str = "simulated"
    labels: int = 100
    seed_labels: int = 40
    generations: int = 60
    strategy: str = ""
    seed: int = 0
    threads: int = 1
    json: bool = False

    @property
    def given(self) -> int:
        """How many random melodies are rated before the run begins."""
        return min(self.seed_labels, self.labels)

    @property
    def rounds(self) -> int:
        """How often questions are asked."""
        return -(-(self.labels - self.given) // QUESTIONS)

    @property
    def ask_every(self) -> int:
        """Generations between two rounds of questions. Raises SettingsError if too few."""
        if not self.rounds:
            return NEVER
        every = self.generations // self.rounds
        if every >= FIRST_ROUND:
            return every
        if self.generations > self.rounds:  # in every generation, but the first two
            return 1
        raise SettingsError(
            f"--generations {self.generations} is too few to ask for "
            f"{self.labels - self.given} labels, {QUESTIONS} in a generation: allowed is "
            f"{self.rounds + 1} or more"
        )

    def plan(self, run: str = "", replicas: Sequence[str] = (), least: int = 1) -> Plan:
        """What is started. It has a run of its own, as `--fresh` must not take people's labels.

        Raises SettingsError.
        """
        run = run or f"{MELODY.name}-unattended"
        shared: dict[str, Value] = {"seed": self.seed, "lockstep": True}
        settings: dict[str, dict[str, Value]] = {
            RATER: {"replica": RATER, "rater": self.rater},
            EVALNET: {"seed": self.seed, "threads": self.threads},
            LEARNER: {
                **shared,
                "again": 0.0,
                "max-labels": self.labels,
                "ask-every": self.ask_every,
                "active-labels": QUESTIONS,
                "labels-file": str(state.run_directory(run) / "labels.csv"),
                **_strategy(self.strategy),
            },
            EVOLUTION: {**shared, "pause-s": 0.0, "generations": self.generations},
        }
        counts = counted((EVALNET, LEARNER, EVOLUTION), replicas, least)
        return Plan(MELODY.name, run, {RATER: 1, **counts}, settings)


@dataclass(frozen=True)
class Swarm:
    """The programs of a swarm file."""

    file: str
    only: str = ""
    gateway: int = 0

    def plan(self, run: str = "", replicas: Sequence[str] = (), least: int = 1) -> Plan:
        """What is started, in a run that is named after the file.

        Raises SettingsError, and what `programs` raises.
        """
        from roomgrad.local.swarm.programs import programs

        if replicas:
            raise SettingsError(
                f"--replicas {replicas[0]} belongs to systems: write another entry into {self.file}"
            )
        path = Path(self.file).absolute()
        only = [name for name in self.only.split(",") if name]
        found = programs(path, only)
        plan = Plan("", run or served_as(self.file), {}, {}, file=str(path), programs=found)
        return _with_gateway(plan, self.gateway)


Options = Trebuchet | Melody | Unattended | Swarm

TITLES: dict[type[Options], str] = {
    Trebuchet: TREBUCHET.name,
    Melody: MELODY.name,
    Unattended: f"{MELODY.name} with --rater",
    Swarm: "a swarm file",
}


def options(system: str, **given: Any) -> Options:
    """What was asked of a system; None stands for what was not said.

    Raises SettingsError for an unknown system, and for an option of another one.
    """
    said = {word: value for word, value in given.items() if value is not None}
    kind = _kind(system, said)
    for word in said:
        if word not in _words(kind):
            owners = " or ".join(TITLES[each] for each in TITLES if word in _words(each))
            flag = word.replace("_", "-")
            raise SettingsError(
                f"--{flag} belongs to {owners}, not to {TITLES[kind]}: leave it away"
            )
    return kind(system, **said) if kind is Swarm else kind(**said)


def _kind(system: str, said: Collection[str]) -> type[Options]:
    if system.endswith(SWARM_FILES):
        return Swarm
    if find_system(system) is TREBUCHET:
        return Trebuchet
    return Unattended if "rater" in said else Melody


def _words(kind: type[Options]) -> set[str]:
    return {each.name for each in fields(kind)}


def _with_gateway(plan: Plan, port: int) -> Plan:
    """With a replica of the gateway, started before all programs of a swarm file."""
    if not port:
        return plan
    told: dict[str, Value] = {"port": port, **({"system": plan.system} if plan.system else {})}
    return replace(
        plan,
        replicas={**plan.replicas, GATEWAY: 1},
        settings={**plan.settings, GATEWAY: told},
    )


def _readable(file: str) -> str:
    """The file of labels by its full path, as components start elsewhere.

    Raises SettingsError when there is something wrong with it, and FormatError when all of it is.
    """
    from roomgrad_melody import formats

    path = Path(file).resolve()
    problems = formats.read(path).problems
    if problems:
        raise SettingsError(f"--labels-file {file}: {problems[0]}")
    return str(path)


def _strategy(name: str) -> dict[str, Value]:
    """The flag of a strategy. Raises SettingsError for one that there is not."""
    if not name:
        return {}
    project.make_importable()
    from roomgrad_melody.learner.strategy import STRATEGIES  # type: ignore[import-untyped]

    if name not in STRATEGIES:
        raise SettingsError(f"--strategy {name}: allowed is {', '.join(STRATEGIES)}")
    return {"strategy": name}
