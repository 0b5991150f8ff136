"""A room as an environment of gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded

from roomgrad.errors import ContractError, SchemaError
from roomgrad.gym.spaces import space_of
from roomgrad.messages import Message
from roomgrad.redis.round_trips import RoundTrips
from roomgrad.redis.server_address import AnyAddress
from roomgrad.rooms import Array, Room


class Env(gymnasium.Env[Any, Any]):
    """An environment of which a room takes the actions, and another returns the observations.

    A reset opens a root in room `enter`, and each step sends its action there. `close` leaves the
    run; the next reset joins it again.
    """

    def __init__(
        self,
        run: str,
        enter: Room | str = "actions",
        leave: Room | str = "observations",
        *,
        redis_url: AnyAddress = "",
        name: str = "",
        timeout_s: float = 60.0,
    ) -> None:
        """Take the contract of the run; the first reset joins it as a guest.

        run: the name of the run, in which `roomgrad.gym.serve`, or a component with the same
            contract, serves one environment.
        redis_url: as `REDIS_URL`, which counts if it is empty.
        name: that of the guest; one of its own if empty.
        timeout_s: how long a step waits for its answer.

        Raises ContractError for rooms of no environment, or of several, and NoServer.
        """
        self._trips = RoundTrips(
            run, enter, leave, run=run, redis_url=redis_url, name=name, timeout_s=timeout_s
        )
        self._timeout_s = timeout_s
        self.action_space = space_of(_row(self._trips.inputs.schema, self._trips.enter))
        self.observation_space = space_of(_row(self._trips.outputs.schema, self._trips.leave))
        self._opened: Message | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Open a root; return the first observation. An episode that has not ended is given up.

        seed: that of the episode; drawn from `np_random` if None.

        Raises SchemaError for options, and NoAnswer.
        """
        super().reset(seed=seed)
        if options:
            raise SchemaError(f"options: {options} cannot be sent, expected none")
        self._give_up()
        drawn = int(self.np_random.integers(2**31)) if seed is None else seed
        self._opened = Message.open(self._trips.enter, seed=drawn)
        guest = self._trips.guest
        guest.open(self._opened, self._trips.leave, timeout_s=self._timeout_s)
        return self._answer().array[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Send an action; return observation, reward, terminated, truncated, and an empty dict.

        Raises ResetNeeded after an episode, SchemaError for an action that does not fit, and
        NoAnswer if none comes in time or the episode is given up, with the reason.
        """
        if self._opened is None:
            raise ResetNeeded("call reset first: no episode is open")
        row = self._trips.as_input("DATA", np.asarray(action)[None])
        self._trips.guest.send(self._opened.reply(self._trips.enter, row))
        answer = self._answer()
        done, truncated = (bool(answer.fields[name][0]) for name in ("DONE", "TRUNCATED"))
        if done:
            self._trips.guest.end(self._opened.root_id)
            self._opened = None
        reward = float(answer.fields["REWARD"][0])
        return answer.array[0], reward, done and not truncated, truncated, {}

    def close(self) -> None:
        """Give up what is open, and leave the run."""
        self._give_up()
        self._trips.close()

    def _give_up(self) -> None:
        if self._opened is not None:
            self._trips.guest.give_up([self._opened.root_id])
            self._opened = None

    def _answer(self) -> Message:
        """Return the next answer. Raises NoAnswer."""
        assert self._opened is not None
        try:
            return self._trips.guest.wait(self._opened.root_id, timeout_s=self._timeout_s)
        except BaseException:
            self._give_up()
            raise


def _row(schema: Any, room: str) -> Array:
    """Return the schema of DATA in a room of one environment. Raises ContractError."""
    data = schema.get("DATA")
    if not isinstance(data, Array) or data.shape[:1] != (1,):
        shape = data.describe() if isinstance(data, Array) else "no array"
        raise ContractError(f"DATA in room {room} is {shape}: expected one environment, (1, ...)")
    return data
