"""Settings of evolution."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import OfRun, RuntimeSettings, settings


@settings
class EvolutionSettings(RuntimeSettings):
    """How melodies are bred."""

    seed: Annotated[int, Field(ge=0, lt=2**63), OfRun] = 0
    """Generation i depends on the seed, i, and the ratings of generation i - 1 alone."""

    population: Annotated[int, Field(ge=4, le=10_000), OfRun] = 50
    """Melodies in a generation."""

    tournament: Annotated[int, Field(ge=1, le=100), OfRun] = 3
    """Melodies in a tournament, of which the best becomes a parent."""

    crossover: Annotated[float, Field(ge=0, le=1), OfRun] = 0.5
    """Chance that a child has a part of its second parent."""

    flips: Annotated[float, Field(ge=0, le=128), OfRun] = 1.0
    """Flipped bits of a child, on average."""

    elite: Annotated[int, Field(ge=0, le=1000), OfRun] = 2
    """Best melodies that survive unchanged."""

    generations: Annotated[int, Field(ge=0, le=1_000_000_000), OfRun] = 0
    """Generations after which breeding ends; 0: no limit."""

    generations_per_label: Annotated[int, Field(ge=0, le=1_000_000), OfRun] = 2
    """Generations that each label allows, so that breeding stays near what is known; 0: no limit.

    In lock-step the learner allows them instead."""

    lockstep: Annotated[bool, OfRun] = False
    """Breed only when the learner allows it, so that a run is reproducible bit for bit."""

    pause_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    """Seconds between the ratings of a generation and the next generation."""
