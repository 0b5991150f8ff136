"""Settings of the rater."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import RuntimeSettings, settings


@settings
class RaterSettings(RuntimeSettings):
    """What rates instead of a person."""

    rater: str = "simulated"
    """`simulated`, or `module:function`: takes a genome of 128 ints, returns an int from 0 to 5.

    If it takes two genomes, it returns `first`, `second`, `equal`, or `neither`."""

    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the ratings of the simulated rater that are off by one, and of wrong preferences."""

    noise_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of that noise."""
