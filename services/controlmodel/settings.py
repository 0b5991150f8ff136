"""Settings of the control model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from roomgrad.settings import OfRun, RuntimeSettings, settings


@settings
class ControlModelSettings(RuntimeSettings):
    """Which network is trained, and how."""

    preset: Annotated[Literal["learn", "original"], OfRun] = "learn"
    """`learn` is the better one; `original` has network and optimizer of the original tutorial."""

    train_steps: Annotated[int, Field(ge=1, le=1_000_000_000), OfRun] = 1000
    """Steps after which the cosine schedule of the learning rate ends."""

    learning_rate: Annotated[float, Field(gt=0, le=1), OfRun] = 1e-2
    """Highest learning rate of preset `learn`; `original` uses 1e-3 throughout."""

    warmup_steps: Annotated[int, Field(ge=0, le=100_000), OfRun] = 20
    """Steps of the linear warm-up of the learning rate."""

    max_grad_norm: Annotated[float, Field(gt=0), OfRun] = 10.0
    """Norm to which preset `learn` clips the gradient of the parameters."""
