"""Settings of control."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import OfRun, RuntimeSettings, settings


@settings
class ControlSettings(RuntimeSettings):
    """How long the ensemble is trained."""

    generations: Annotated[int, Field(ge=1, le=100_000), OfRun] = 20
    """How many generations are bred at most."""

    episodes: Annotated[int, Field(ge=1, le=1000), OfRun] = 3
    """Episodes of all environments in a generation."""

    aim: Annotated[float, Field(ge=0), OfRun] = 475.0
    """The mean return of a validation that ends the training."""

    seed: Annotated[int, Field(ge=0, lt=2**31), OfRun] = 0
    """Decides the starts of all episodes and what is drawn."""
