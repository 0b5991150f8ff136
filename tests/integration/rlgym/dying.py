"""A program that runs a component of the system, which kills itself at DIE_AT."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from gymnasium import Env, Wrapper

from roomgrad import Component, RuntimeSettings, gym, main
from roomgrad_rlgym.cartpole.handlers import make
from roomgrad_rlgym.contract import ACTIONS, CARTPOLE, ENVS, OBSERVATIONS, RLGYM
from tests.integration.echo import die_at


class Raising(Wrapper[Any, Any, Any, Any]):
    """Raises at the third step of an episode that begins with seed 7."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.left = 3 if seed == 7 else -1
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise RuntimeError("the pole is broken")
        return super().step(action)


def raising() -> Env[Any, Any]:
    return Raising(make())


def component(name: str) -> Any:
    if name == "raising":
        handlers = gym.handlers(raising, ACTIONS, OBSERVATIONS, ENVS)
        return Component(CARTPOLE, RLGYM, RuntimeSettings, handlers)
    return import_module(f"roomgrad_rlgym.{name}.handlers").component


if __name__ == "__main__":
    die_at(os.environ.get("DIE_AT", ""))
    main(component(sys.argv.pop(1)))
