"""Settings of the simulator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from roomgrad.settings import OfRun, RuntimeSettings, settings


@settings
class SimulatorSettings(RuntimeSettings):
    """How logits become a shot."""

    weight_head: Annotated[Literal["smooth", "plus200"], OfRun] = "smooth"
    """`smooth`: 50 + 950 sigmoid(logit - 1.7) kg; `plus200`: logit + 200 kg, the original's."""

    pictures: Annotated[int, Field(ge=0, le=100)] = 8
    """Trajectories of the newest batch that are stored for pictures, at most once a second."""
