"""Episodes of several environments in lockstep, which a seed and the actions determine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Make = Callable[[], "gymnasium.Env[Any, Any]"]

MOST_LIVE = 256  # episodes whose environments a process holds


class Episode:
    """One episode of each of some environments: row i is an environment.

    It begins with seed + i. A row that is done is not stepped any more: its observation stays, and
    its rewards are 0.
    """

    def __init__(self, make: Make, envs: int, seed: int) -> None:
        self._environments = [make() for _ in range(envs)]
        space = self._environments[0].observation_space
        self._shape, self._dtype = space.shape, space.dtype
        found = [each.reset(seed=seed + i)[0] for i, each in enumerate(self._environments)]
        self.observations = [np.stack([self._checked(each) for each in found])]
        self.actions: list[Array] = []
        self.rewards = [np.zeros(envs)]
        self.done, self.truncated = np.zeros(envs, np.bool_), np.zeros(envs, np.bool_)
        self.lengths = np.zeros(envs, np.int64)
        self._taken = bytearray()

    def step(self, actions: Array) -> None:
        """Step each environment that is not done by its row of the actions `(envs, ...)`."""
        running, rewards = ~self.done, np.zeros(len(actions))
        observations = self.observations[-1].copy()
        for i in np.flatnonzero(running):
            found, reward, terminated, truncated, _ = self._environments[i].step(actions[i])
            observations[i], rewards[i] = self._checked(found), float(reward)
            self.done[i] = terminated or truncated
            self.truncated[i] = truncated and not terminated
        self.lengths += running
        self.observations.append(observations)
        self.actions.append(actions)
        self.rewards.append(rewards)
        self._taken += actions.tobytes()

    def close(self) -> None:
        """Close the environments."""
        for each in self._environments:
            each.close()

    def is_before(self, actions: Array) -> bool:
        """Whether actions `(steps, envs, ...)` begin with all that were taken here."""
        return actions[: len(self.actions)].tobytes() == self._taken

    def _checked(self, observation: Any) -> Array:
        found = np.asarray(observation, self._dtype)
        if found.shape != self._shape:
            raise ValueError(f"observed shape {found.shape}, expected {self._shape}")
        return found


class Episodes:
    """The episodes of one process, by a name; one that it does not hold is played again."""

    def __init__(self, make: Make, envs: int) -> None:
        self._make, self._envs = make, envs
        self._live: OrderedDict[str, Episode] = OrderedDict()

    def take(self, name: str, seed: int, actions: Array) -> Episode:
        """Return the episode after these actions `(steps, envs, ...)`; it is held no more."""
        episode = self._live.pop(name, None)
        if episode is None or not episode.is_before(actions):
            episode = Episode(self._make, self._envs, seed)
        for each in actions[len(episode.actions) :]:
            episode.step(each)
        return episode

    def put(self, name: str, episode: Episode) -> None:
        """Hold an episode until it is taken, or too many others are held."""
        self._live[name] = episode
        while len(self._live) > MOST_LIVE:
            self._live.popitem(last=False)[1].close()
