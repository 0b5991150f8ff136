"""The aggregation: the votes of all members on a step become one action of each environment.

When an episode is over, it is the loss: each member is taught by its share in the actions.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from roomgrad import Component, Context, Message, Parts, RuntimeSettings, join
from roomgrad_rlgym.contract import (
    ACTIONS,
    AGGREGATION,
    ENOUGH,
    FORWARD,
    GRADIENT,
    LESSONS,
    POLICIES,
    RLGYM,
    VOTES,
    WAIT_S,
)


def choose(votes: list[NDArray[np.float32]], seed: int | None) -> NDArray[np.int64]:
    """Return an action `(envs,)` by the mean of probabilities `(envs, 2)`.

    It is drawn, the same from the same votes with the same seed; without one it is the likelier.
    """
    likely = np.mean(votes, axis=0)[:, 1]
    limits: float | NDArray[np.float64] = 0.5
    if seed is not None:
        limits = np.random.default_rng([seed, crc32(likely.tobytes())]).random(len(likely))
    return np.asarray(limits < likely, "<i8")


def gradients(
    log_probabilities: list[NDArray[np.float32]], advantages: list[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Return d loss / d log-probabilities of each member, for actions taken by all together.

    A member is taught by its share in an action: its probability `(n,)`, over the mean of all.
    """
    own = np.exp(log_probabilities)
    return list(np.asarray(-np.stack(advantages) * own / own.mean(0) / own.shape[1], "<f4"))


def aggregation(wait_s: float = WAIT_S) -> Component:
    """Return the component; a step waits so long for the votes of members that are dead."""

    @join(
        VOTES,
        FORWARD,
        replies=[(ACTIONS, FORWARD)],
        parts=POLICIES.names,
        least=ENOUGH,
        wait_s=wait_s,
        by_id=True,
    )
    def act(parts: Parts, context: Context) -> Message:
        """Act: probabilities of all members in, actions out."""
        first = next(iter(parts.values()))
        seed = (first.seed or 0) if first.learns else None
        return parts.reply(ACTIONS, choose([part.array for part in parts.values()], seed))

    rooms = POLICIES.rooms(LESSONS)

    @join(rooms, FORWARD, replies=[(r, GRADIENT) for r in rooms], least=ENOUGH, wait_s=wait_s)
    def teach(parts: Parts, context: Context) -> list[Message]:
        """Teach: log-probabilities and advantages of all members in, their gradients out."""
        found = gradients(
            [part.array for part in parts.values()],
            [part.fields["ADVANTAGE"] for part in parts.values()],
        )
        return parts.gradients(dict(zip(parts, found, strict=True)))

    return Component(AGGREGATION, RLGYM, RuntimeSettings, [act, teach])


component = aggregation()
