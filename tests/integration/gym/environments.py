"""Environments for tests, and a process that serves one.

python -m tests.integration.gym.environments OBJECT RUN URL
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

from roomgrad import gym

KILLED = "KILLED_AT"  # variable: a file that the environment writes when it has killed its process
LAST_STEP = 7  # after which it kills it


class Walk(gymnasium.Env[Any, Any]):
    """Never ends an episode; action 1 of step 3 raises."""

    observation_space: gymnasium.Space[Any] = Box(-np.inf, np.inf, (2,), np.float32)
    action_space: gymnasium.Space[Any] = Discrete(2)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**options)
        self.steps = 0
        return self.observed(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps == 3 and action == 1:
            raise ZeroDivisionError("division by zero")
        return self.observed(), 1.0, False, False, {}

    def observed(self) -> Any:
        return np.array([self.steps, self.np_random.normal()], np.float32)


class Nan(Walk):
    """Its rewards are no numbers from the second step on."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, _, *rest = super().step(action)
        return (observation, np.nan if self.steps > 1 else 1.0, *rest)


class Wide(Walk):
    """It observes another shape than its space has from the second step on."""

    def observed(self) -> Any:
        return np.zeros(2 if self.steps < 2 else 3, np.float32)


class Broken(Walk):
    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        raise RuntimeError("no display")


class Nested(Walk):
    observation_space = Dict(place=Discrete(3))


def lethal() -> Any:
    """Return CartPole, which kills its process once, in the middle of a step."""
    return Lethal(gymnasium.make("CartPole-v1"))


class Lethal(gymnasium.Wrapper[Any, Any, Any, Any]):
    steps = 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        return super().reset(**options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        found, self.steps = super().step(action), self.steps + 1
        mark = Path(os.environ[KILLED])
        if self.steps > LAST_STEP and not mark.exists():
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return found


if __name__ == "__main__":
    target, run, url = sys.argv[1:]
    gym.serve(globals().get(target, target), run=run, name="env", redis_url=url)
