"""What `roomgrad up trebuchet` starts, by its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from roomgrad.cli import options as typed
from roomgrad.local.plan import Plan, Value, counted
from roomgrad.redis.server_address import AnyAddress
from roomgrad_trebuchet.contract import CONTROLMODEL, SIMULATOR, TRAINER, TREBUCHET

WEIGHT_HEADS = {"learn": "smooth", "original": "plus200"}


@dataclass(frozen=True)
class Trebuchet:
    """`roomgrad up trebuchet`: a training in the background."""

    steps: Annotated[int, typed.number("--steps", 1, 10**7, "How many batches in all.")] = 1000
    seed: typed.Seed = 0
    preset: Annotated[
        str,
        typed.word("--preset", ("learn", "original"), "learn, or original: as in the first one."),
    ] = "learn"
    window: Annotated[int, typed.number("--window", 1, 10_000, "Batches open at a time.")] = 1
    threads: typed.Threads = 1

    def plan(self, run: str = "", replicas: Sequence[str] = (), least: int = 1) -> Plan:
        """Return what is started. Raises SettingsError for wrong replicas."""
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
        return Plan(TREBUCHET.name, run or TREBUCHET.name, counts, settings)

    def where_to_look(self, plan: Plan, url: AnyAddress, began: float) -> list[str]:
        """Return commands for a training that is up."""
        from roomgrad_trebuchet.report import where_to_look

        return where_to_look(plan.run, url, up=True)
