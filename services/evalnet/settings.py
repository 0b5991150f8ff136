"""Settings of evalnet."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import OfRun, RuntimeSettings, settings


@settings
class EvalnetSettings(RuntimeSettings):
    """The initial weights of the network."""

    seed: Annotated[int, Field(ge=0, lt=2**63), OfRun] = 0
    """Seed of the initial weights."""
