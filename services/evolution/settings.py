"""Settings of evolution."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import OfRun, RuntimeSettings, settings


@settings
class EvolutionSettings(RuntimeSettings):
    """How melodies are bred."""

    seed: Annotated[int, Field(ge=0, lt=2**63), OfRun] = 0
    """Generation i is a function of the seed, i, and the ratings of the one before."""

    population: Annotated[int, Field(ge=4, le=10_000), OfRun] = 50
    """Melodies in a generation."""

    tournament: Annotated[int, Field(ge=1, le=100), OfRun] = 3
    """Of so many drawn at random the best becomes a parent."""

    crossover: Annotated[float, Field(ge=0, le=1), OfRun] = 0.5
    """Chance that a child has a piece of its second parent."""

    flips: Annotated[float, Field(ge=0, le=128), OfRun] = 1.0
    """Bits of a child that flip, on average."""

    elite: Annotated[int, Field(ge=0, le=1000), OfRun] = 2
    """The best so many melodies go on unchanged."""

    generations: Annotated[int, Field(ge=0, le=1_000_000_000), OfRun] = 0
    """After so many generations breeding ends; 0: never."""

    lockstep: Annotated[bool, OfRun] = False
    """Breed only when the learner says so, so that a run repeats bit for bit."""

    pause_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    """Seconds between the ratings of a generation and the next one."""
