"""Settings of evalnet."""

from __future__ import annotations

from roomgrad.settings import RuntimeSettings, settings


@settings
class EvalnetSettings(RuntimeSettings):
    """Those of every component; the initial weights depend on `seed` alone."""
