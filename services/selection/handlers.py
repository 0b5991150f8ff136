"""The evolution of weights: GETs those of all members, and SETs those of the next generation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from safetensors.numpy import load, save

from roomgrad import Component, Context, Message, Parts, RuntimeSettings, join, on
from roomgrad.weight_messages import GET, SET
from roomgrad_rlgym.contract import (
    COMMAND,
    CUSTOM,
    ENOUGH,
    EVOLUTION,
    FOUND,
    POLICIES,
    REPLACED,
    RLGYM,
    SELECTION,
    WAIT_S,
    WEIGHTS,
)

from .genetic import next_generation


@on(EVOLUTION, COMMAND, replies=[(WEIGHTS, COMMAND)])
def begin(message: Message, context: Context) -> Message:
    """Begin: contributions `(members,)` of one generation in, a question for weights out."""
    context.memory.put(message.root_id, contributions=message.array)
    return message.reply(WEIGHTS, type=COMMAND, CMD=GET)


@join(
    FOUND,
    CUSTOM,
    replies=[(room, COMMAND) for room in POLICIES.rooms(WEIGHTS)],
    parts=POLICIES.names,
    least=ENOUGH,
    wait_s=WAIT_S,
)
def breed(parts: Parts, context: Context) -> Iterator[Message]:
    """Breed: weights of all members in, those of the next generation out."""
    first = next(iter(parts.values()))
    contributions = context.memory.pop(first.root_id)["contributions"]
    scores = np.array([contributions[POLICIES.names.index(name)] for name in parts])
    before = [load(part.fields["WEIGHTS"].tobytes()) for part in parts.values()]
    after = next_generation(before, scores, np.random.default_rng(first.seed))
    for (name, part), weights in zip(parts.items(), after, strict=True):
        content = np.frombuffer(save(dict(weights)), "|u1")
        yield part.reply(
            POLICIES.room(WEIGHTS, name),
            type=COMMAND,
            CMD=SET,
            VERSION=part.fields["VERSION"],
            WEIGHTS=content,
        )


@join(
    REPLACED,
    CUSTOM,
    replies=[(EVOLUTION, CUSTOM)],
    parts=POLICIES.names,
    least=ENOUGH,
    wait_s=WAIT_S,
)
def done(parts: Parts, context: Context) -> Message:
    """Report that the members have the weights of the next generation."""
    refused = sum("REFUSED" in part.fields for part in parts.values())
    return parts.reply(EVOLUTION, type=CUSTOM, REFUSED=refused)


component = Component(SELECTION, RLGYM, RuntimeSettings, [begin, breed, done])
