"""`roomgrad run melody`: for people, or unattended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rich.console import Console
from typer import Option

from roomgrad.cli import options as typed
from roomgrad.errors import SettingsError
from roomgrad.local.plan import Plan
from roomgrad_melody.commands import serve, unattended
from roomgrad_melody.commands.options import (
    DEFAULT_ASK,
    Ask,
    LabelsFile,
    Melody,
    Strategy,
    Unattended,
)


@dataclass(frozen=True)
class MelodyRun:
    """`roomgrad run melody`: for people, or with --rater unattended."""

    rater: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Run unattended, rated by simulated, or by module:function of one or two genomes.",
        ),
    ] = None
    labels: Annotated[
        int | None, typed.number("--labels", 1, 10**6, "With --rater: answers in all (100).")
    ] = None
    seed_labels: Annotated[
        int | None,
        typed.number("--seed-labels", 0, 10**6, "With --rater: of these random melodies (40)."),
    ] = None
    generations: Annotated[
        int | None,
        typed.number("--generations", 1, 10**9, "With --rater: ends after so many (60)."),
    ] = None
    as_person: Annotated[
        bool,
        Option("--as-person", help="With --rater: answer question by question, as at the page."),
    ] = False
    pace: Annotated[
        float | None,
        Option(min=0, max=3600, metavar="S", help="With --as-person: seconds per answer (0.5)."),
    ] = None
    strategy: Strategy = ""
    labels_file: LabelsFile = ""
    ask: Ask | None = None
    seed: typed.Seed = 0
    threads: typed.Threads = 1
    json: Annotated[bool, Option("--json", help="With --rater: print the report as JSON.")] = False

    @property
    def chosen(self) -> Melody | Unattended:
        """Options for people or unattended. Raises SettingsError for mixed options."""
        numbers = {
            "labels": self.labels,
            "seed_labels": self.seed_labels,
            "generations": self.generations,
        }
        given = {name: value for name, value in numbers.items() if value is not None}
        if self.rater is None:
            others = {"pace": self.pace, "as_person": self.as_person, "json": self.json}
            for name in [*given, *(name for name, value in others.items() if value)]:
                flag = name.replace("_", "-")
                raise SettingsError(
                    f"--{flag} belongs to melody with --rater, not to melody: leave it out, or "
                    "give --rater too"
                )
            return Melody(
                self.seed, self.strategy, self.threads, self.labels_file, self.ask or DEFAULT_ASK
            )
        if self.labels_file:
            raise SettingsError("--labels-file belongs to melody, not to --rater: leave one out")
        of_lockstep = [name for name in ("seed_labels", "generations") if name in given]
        if self.as_person and of_lockstep:
            flag = of_lockstep[0].replace("_", "-")
            raise SettingsError(
                f"--{flag} belongs to a run in lock-step, not to --as-person: leave one out"
            )
        if self.pace is not None and not self.as_person:
            raise SettingsError("--pace belongs to --as-person: leave it out, or give that too")
        return Unattended(
            self.rater,
            as_person=self.as_person,
            pace=0.5 if self.pace is None else self.pace,
            **given,
            strategy=self.strategy,
            seed=self.seed,
            threads=self.threads,
            json=self.json,
            ask=self.ask or "ratings",
        )

    def plan(self, run: str = "", replicas: Sequence[str] = (), least: int = 1) -> Plan:
        """Return what is started. Raises SettingsError."""
        return self.chosen.plan(run, replicas, least)

    def run(self, plan: Plan, redis_url: str, fresh: bool, console: Console) -> None:
        """Serve people until Ctrl+C, or run unattended to the last generation."""
        chosen = self.chosen
        if isinstance(chosen, Melody):
            serve.run(plan, redis_url, fresh=fresh, console=console)
        else:
            unattended.run(chosen, plan, redis_url, fresh=fresh, console=console)
