"""evalnet: predicts ratings of melodies, and is trained by the learner."""

from __future__ import annotations

from roomgrad import Component, Context, Message, backprop, on
from roomgrad.learning import TorchModel
from roomgrad_melody.contract import (
    CUSTOM,
    EVALNET,
    EVOLUTION_ROOM,
    MELODY,
    TRAININPUT,
    TRAINOUTPUT,
)

from .model import EvalNetwork, expected, optimizer, probabilities, schedule
from .settings import EvalnetSettings


def is_question(message: Message) -> bool:
    """Return whether a message asks for ratings, instead of answering with them."""
    return "FITNESS" not in message.fields


@on(EVOLUTION_ROOM, CUSTOM, replies=[(EVOLUTION_ROOM, CUSTOM)], when=is_question)
def rate(message: Message, context: Context) -> Message:
    """Rate: GENOMES `(n, 128)` in; FITNESS `(n,)`, PROBS `(n, 6)` and the model's VERSION out."""
    genomes = message.fields["GENOMES"].astype("<f4")
    probs = probabilities(context.model.forward({"DATA": genomes})["DATA"])
    answer = {
        "FITNESS": expected(probs),
        "PROBS": probs.astype("<f4"),
        "VERSION": context.model.version,
    }
    return message.reply(EVOLUTION_ROOM, **{**message.fields, **answer})


component = Component(
    EVALNET,
    MELODY,
    EvalnetSettings,
    handlers=[rate, *backprop.handlers(TRAININPUT, TRAINOUTPUT)],
    model=lambda _: TorchModel(EvalNetwork(), optimizer, scheduler=schedule),
)
