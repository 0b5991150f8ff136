"""Control: opens episodes one after the other, has the members bred, and validates each generation.

What is open is in memory as one record, which moves from root to root: the number of the turn, and
what the members have contributed since they were bred last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Component, Context, Message, ModelStatus, Parts, join, on
from roomgrad.errors import MessageError
from roomgrad_rlgym.contract import (
    ACTIONS,
    COMMAND,
    CONTROL,
    CUSTOM,
    ENOUGH,
    ENVS,
    EVOLUTION,
    FORWARD,
    LEARNED,
    POLICIES,
    RLGYM,
    WAIT_S,
)

from .settings import ControlSettings

Contributions = NDArray[np.float64]

NOTHING = np.zeros(POLICIES.members)


def open_turn(number: int, contributions: Contributions, context: Context) -> Iterator[Message]:
    """Open a turn: the episodes of a generation, then its evolution, then its validation."""
    settings = context.settings
    generation, at = divmod(number, settings.episodes + 2)
    if generation >= settings.generations:
        return
    seed = (settings.seed << 32) + number * ENVS  # environment i begins with the seed + i
    if at == settings.episodes:
        message = Message.open(EVOLUTION, contributions, type=COMMAND, seed=seed)
        contributions = NOTHING
    else:
        validates = at > settings.episodes
        status = ModelStatus.VALIDATE if validates else ModelStatus.TRAIN
        message = Message.open(ACTIONS, status=status, seed=seed)
    context.memory.hold(
        message.root_id, ROOT_ID=message.root_id, number=number, contributions=contributions
    )
    yield message


def start(context: Context) -> Iterator[Message]:
    """Open the first episode."""
    return open_turn(0, NOTHING, context)


def closed(message: Message, context: Context) -> dict[str, Any]:
    """Remove the record of a root and return it. Raises MessageError for a root of others."""
    found = context.memory.get(message.root_id)
    if found is None:
        raise MessageError(f"root {message.root_id} was not opened by {CONTROL}")
    context.memory.delete(message.root_id)
    context.counters.add("finished")
    return found


@join(
    LEARNED,
    CUSTOM,
    replies=[(ACTIONS, FORWARD), (EVOLUTION, COMMAND)],
    parts=POLICIES.names,
    least=ENOUGH,
    wait_s=WAIT_S,
)
def learned(parts: Parts, context: Context) -> Iterator[Message]:
    """Open the next turn when all members have learned from an episode."""
    first = next(iter(parts.values()))
    turn = closed(first, context)
    number, mean = turn["number"], float(first.fields["RETURN"])
    context.table("episodes").put(str(number), number=number, mean_return=mean)
    if not first.learns:
        return validated(number, mean, context)
    new = [float(parts[n].fields["CONTRIBUTION"]) if n in parts else 0.0 for n in POLICIES.names]
    return open_turn(number + 1, turn["contributions"] + np.array(new), context)


def validated(number: int, mean: float, context: Context) -> Iterator[Message]:
    """Store the mean return of a generation, and open the next one below the aim."""
    generation = number // (context.settings.episodes + 2) + 1
    record = {"generation": generation, "mean_return": mean}
    context.table("generations").put(str(generation), **record)
    context.log.info("generation done", **record)
    if mean < context.settings.aim:
        yield from open_turn(number + 1, NOTHING, context)


@on(EVOLUTION, CUSTOM, replies=[(ACTIONS, FORWARD)])
def evolved(message: Message, context: Context) -> Iterator[Message]:
    """Open the validation of the next generation, whose weights all members have."""
    return open_turn(closed(message, context)["number"] + 1, NOTHING, context)


def given_up(records: list[dict[str, Any]], context: Context) -> Iterator[Message]:
    """Open the next turn when one has become a dead letter."""
    for record in records:
        if "number" in record:
            context.counters.add("dead")
            yield from open_turn(record["number"] + 1, record["contributions"], context)


component = Component(
    CONTROL,
    RLGYM,
    ControlSettings,
    handlers=[learned, evolved],
    on_start=start,
    on_dead=given_up,
    tables=["episodes", "generations"],
)
