"""The settings of `roomgrad check`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckSettings:
    """Which component to check, how it is started, and how strictly it is checked."""

    component: str
    command: str = ""
    run: str = ""
    system: str = ""
    probes: str = ""
    count: int = 8
    tolerance: float = 0.01
    seed: int = 0
    timeout_s: float = 10.0
