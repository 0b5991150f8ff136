"""Settings of evalnet."""

from __future__ import annotations

from typing import Annotated, Literal

from roomgrad.settings import OfRun, RuntimeSettings, settings


@settings
class EvalnetSettings(RuntimeSettings):
    """How melodies are rated; the initial weights depend on `seed` alone."""

    fitness: Annotated[Literal["rating", "score"], OfRun] = "rating"
    """What is bred for: ratings, which end at 5, or if melodies are compared, scores."""
