"""Settings of the trainer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import OfRun, RuntimeSettings, settings


@settings
class TrainerSettings(RuntimeSettings):
    """What the system is trained on, and how long."""

    train_steps: Annotated[int, Field(ge=1, le=1_000_000_000), OfRun] = 1000
    """Batches that are sent in all."""

    batch_size: Annotated[int, Field(ge=1, le=100_000), OfRun] = 100
    """Pairs of wind and target in a batch."""

    seed: Annotated[int, Field(ge=0, lt=2**63), OfRun] = 0
    """Batch i depends on the seed and i alone."""

    window: Annotated[int, Field(ge=1, le=10_000), OfRun] = 1
    """Batches that are open at once; with 1 the result is the same bit for bit on any replicas."""
