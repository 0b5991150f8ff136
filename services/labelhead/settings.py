"""Settings of the head."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import OfRun, RuntimeSettings, settings


@settings
class LabelHeadSettings(RuntimeSettings):
    """How long the system is trained."""

    epochs: Annotated[int, Field(ge=1, le=100_000), OfRun] = 20
    """How often each row of the table is trained on."""

    batch_size: Annotated[int, Field(ge=1, le=455), OfRun] = 32
    """Rows in a batch."""

    seed: Annotated[int, Field(ge=0, lt=2**63), OfRun] = 0
    """The order of the rows depends on the seed and the epoch alone."""
