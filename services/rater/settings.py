"""Settings of the rater."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import RuntimeSettings, settings


@settings
class RaterSettings(RuntimeSettings):
    """Who rates in a person's place."""

    rater: str = "simulated"
    """simulated, or module:function: a genome of 128 ints in, a whole number from 0 to 5 out."""

    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the melodies that the simulated rater rates one too high or too low."""

    noise_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of that noise."""
