"""Settings of the control model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from roomgrad.settings import OfRun, RuntimeSettings, settings


@settings
class ControlModelSettings(RuntimeSettings):
    """Which network learns, and how."""

    preset: Annotated[Literal["learn", "original"], OfRun] = "learn"
    """`learn` learns well; `original` is the network and optimizer of the original tutorial."""

    train_steps: Annotated[int, Field(ge=1, le=1_000_000_000), OfRun] = 1000
    """Length of the cosine along which the learning rate falls."""

    seed: Annotated[int, Field(ge=0, lt=2**63), OfRun] = 0
    """Seed of the initial weights."""

    learning_rate: Annotated[float, Field(gt=0, le=1), OfRun] = 1e-2
    """Highest learning rate of preset `learn`; `original` stays at 1e-3."""

    warmup_steps: Annotated[int, Field(ge=0, le=100_000), OfRun] = 20
    """Steps in which the learning rate rises to its highest."""

    max_grad_norm: Annotated[float, Field(gt=0), OfRun] = 10.0
    """Norm to which the parameter gradient of preset `learn` is clipped."""
