"""The members: each votes on the actions of every step, and learns from whole episodes."""

from __future__ import annotations

import numpy as np

from roomgrad import Component, Context, Message, RuntimeSettings, on, weight_messages
from roomgrad.learning import TorchModel
from roomgrad_rlgym.contract import (
    CUSTOM,
    FORWARD,
    FOUND,
    LEARNED,
    OBSERVATIONS,
    POLICIES,
    REPLACED,
    REWARD,
    RLGYM,
    VOTES,
    WEIGHTS,
)

from .network import ActorCritic, adam, discounted, drawn, gradients


@on(
    OBSERVATIONS,
    FORWARD,
    replies=[(VOTES, FORWARD)],
    when=lambda message: not message.fields["DONE"].all(),
)
def vote(message: Message, context: Context) -> Message:
    """Vote: observations in, probabilities of both actions out."""
    log_probabilities = context.model.forward({"DATA": message.array})["DATA"]
    return message.reply(VOTES, np.exp(log_probabilities), id=message.id)


@on(OBSERVATIONS, REWARD, replies=[(LEARNED, CUSTOM)])
def learn(message: Message, context: Context) -> Message:
    """Learn: the rewards of an episode in, one step."""
    contribution = learn_from(message, context) if message.learns else 0.0
    mean = float(message.array.sum(0).mean())
    return message.reply(LEARNED, type=CUSTOM, RETURN=mean, CONTRIBUTION=contribution)


def learn_from(message: Message, context: Context) -> float:
    """Stage one step by the returns of an episode; return what the member contributed to them."""
    found, model = message.fields, context.model
    observations, lengths = found["OBSERVATIONS"], found["LENGTHS"]
    beyond = model.forward({"DATA": observations[-1]})["VALUE"] * found["TRUNCATED"]
    returns = discounted(message.array, lengths, beyond)
    rows = drawn(lengths, message.seed or 0)
    outputs = model.forward({"DATA": observations[:-1][rows]}, key=message.id)
    upstream, contribution = gradients(dict(outputs), found["ACTIONS"][rows], returns[rows])
    model.learn(message.id, model.forward_pass, upstream)
    return contribution


def member(name: str) -> Component:
    """Return the component of a member."""
    handlers = [
        vote,
        learn,
        *weight_messages.handlers((WEIGHTS,), FOUND),
        *weight_messages.handlers((POLICIES.room(WEIGHTS, name),), REPLACED),
    ]
    model = lambda _: TorchModel(ActorCritic(), adam, max_grad_norm=1.0)  # noqa: E731
    return Component(name, RLGYM, RuntimeSettings, handlers, model=model)


component = [member(name) for name in POLICIES.names]
