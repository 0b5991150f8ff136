"""The members: each votes on the actions of every step, and learns from whole episodes."""

from __future__ import annotations

import numpy as np

from roomgrad import Component, Context, Message, Room, RuntimeSettings, on, weight_messages
from roomgrad.learning import TorchModel
from roomgrad.models import ForwardPass
from roomgrad_rlgym.contract import (
    CUSTOM,
    FORWARD,
    FOUND,
    GRADIENT,
    LEARNED,
    LESSONS,
    OBSERVATIONS,
    POLICIES,
    REPLACED,
    REWARD,
    RLGYM,
    VOTES,
    WEIGHTS,
)

from .network import ActorCritic, adam, advantages, discounted, drawn, value_gradient


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


def look_back(message: Message, context: Context, room: Room) -> Message:
    """Return what an episode teaches: log-probabilities of actions taken, and their advantages."""
    found, model = message.fields, context.model
    mean = float(message.array.sum(0).mean())
    if not message.learns:
        return message.reply(LEARNED, type=CUSTOM, RETURN=mean, CONTRIBUTION=0.0)
    observations, lengths = found["OBSERVATIONS"], found["LENGTHS"]
    beyond = model.forward({"DATA": observations[-1]})["VALUE"] * found["TRUNCATED"]
    rows = drawn(lengths, message.seed or 0)
    returns = discounted(message.array, lengths, beyond)[rows]
    reply = message.reply(room, type=FORWARD)
    inputs = {"DATA": observations[:-1][rows], "ACTIONS": found["ACTIONS"][rows]}
    outputs = model.forward(inputs, key=reply.id)
    more = advantages(returns, outputs["VALUE"])
    reply.fill({"DATA": outputs["DATA"], "ADVANTAGE": more})
    context.memory.put(
        reply.id,
        mean=mean,
        contribution=float((more * np.exp(outputs["DATA"])).mean()),
        value=value_gradient(returns, outputs["VALUE"]),
        **model.forward_pass.record(),
    )
    return reply


def member(name: str) -> Component:
    """Return the component of a member."""
    room = POLICIES.room(LESSONS, name)

    @on(OBSERVATIONS, REWARD, replies=[(room, FORWARD), (LEARNED, CUSTOM)])
    def study(message: Message, context: Context) -> Message:
        """Study: a whole episode in, log-probabilities and advantages out."""
        return look_back(message, context, room)

    @on(room, GRADIENT, replies=[(LEARNED, CUSTOM)])
    def learn(message: Message, context: Context) -> Message:
        """Learn: d loss / d log-probabilities in, one step of actor and critic."""
        asked = context.memory.pop(message.id)
        upstream = {**message.arrays(), "VALUE": asked["value"]}
        context.model.learn(message.id, ForwardPass.of(asked), upstream)
        said = {"RETURN": asked["mean"], "CONTRIBUTION": asked["contribution"]}
        return message.reply(LEARNED, type=CUSTOM, **said)

    handlers = [
        vote,
        study,
        learn,
        *weight_messages.handlers((WEIGHTS,), FOUND),
        *weight_messages.handlers((POLICIES.room(WEIGHTS, name),), REPLACED),
    ]
    model = lambda _: TorchModel(ActorCritic(), adam, max_grad_norm=1.0)  # noqa: E731
    return Component(name, RLGYM, RuntimeSettings, handlers, model=model)


component = [member(name) for name in POLICIES.names]
