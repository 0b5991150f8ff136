"""Settings of evalnet."""

from __future__ import annotations

from roomgrad.settings import RuntimeSettings, settings


@settings
class EvalnetSettings(RuntimeSettings):
    """How melodies are rated; the initial weights depend on `seed` alone."""
