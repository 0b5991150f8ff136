"""evalnet: predicts ratings of melodies, and is trained by the learner."""

from __future__ import annotations

from roomgrad import Component, Context, Message, backprop, on
from roomgrad.learning import TorchModel, fix_threads
from roomgrad_melody.contract import (
    CUSTOM,
    EVALNET,
    EVOLUTION_ROOM,
    FORWARD,
    GRADIENT,
    MELODY,
    TRAININPUT,
    TRAINOUTPUT,
)
from roomgrad_melody.genome import canonical

from .model import expected, network, optimizer, probabilities, schedule
from .settings import EvalnetSettings


def make_model(settings: EvalnetSettings) -> TorchModel:
    """Return the network with its optimizer and schedule."""
    fix_threads(settings.threads)
    return TorchModel(network(settings.seed), optimizer, scheduler=schedule)


def is_question(message: Message) -> bool:
    """Return whether a message asks for ratings, instead of answering with them."""
    return "FITNESS" not in message.fields


@on(EVOLUTION_ROOM, CUSTOM, replies=[(EVOLUTION_ROOM, CUSTOM)], when=is_question)
def rate(message: Message, context: Context) -> Message:
    """Rate: GENOMES `(n, 128)` in; FITNESS `(n,)`, PROBS `(n, 6)` and the model's VERSION out."""
    melodies = canonical(message.fields["GENOMES"])
    logits = context.model.forward({"DATA": melodies.astype("<f4")})["DATA"]
    probs = probabilities(logits)
    answer = {
        "FITNESS": expected(probs),
        "PROBS": probs.astype("<f4"),
        "VERSION": context.model.version,
    }
    return message.reply(EVOLUTION_ROOM, **{**message.fields, **answer})


@on(TRAININPUT, FORWARD, replies=[(TRAINOUTPUT, FORWARD)])
def forward(message: Message, context: Context) -> Message:
    """Predict: melodies `(batch, 128)` in, logits `(batch, 6)` out; rests are made canonical."""
    message.data = canonical((message.array > 0.5).astype("|u1")).astype("<f4")
    return backprop.forward(message, context, TRAINOUTPUT)


@on(TRAINOUTPUT, GRADIENT, replies=[(TRAININPUT, GRADIENT)])
def gradient(message: Message, context: Context) -> Message:
    """Learn: d loss / d logits in, one step, d loss / d inputs at the weights before it out."""
    return backprop.learn(message, context, TRAININPUT)


component = Component(
    EVALNET,
    MELODY,
    EvalnetSettings,
    handlers=[rate, forward, gradient],
    model=make_model,
)
