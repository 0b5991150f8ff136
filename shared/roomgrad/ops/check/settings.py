"""What was asked of `roomgrad check`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """The component, how it comes to run, and how strictly it is looked at."""

    component: str
    command: str = ""
    run: str = ""
    system: str = ""
    probes: str = ""
    count: int = 8
    tolerance: float = 0.01
    seed: int = 0
    timeout_s: float = 10.0
