"""evalnet: predicts ratings of melodies, and is trained by the learner."""

from __future__ import annotations

from roomgrad import Component, Context, Message, backprop, on
from roomgrad.learning import TorchModel
from roomgrad_melody.contract import (
    CUSTOM,
    EVALNET,
    EVOLUTION_ROOM,
    MELODY,
    RATINGS,
    TRAININPUT,
    TRAINOUTPUT,
)
from roomgrad_melody.ordinal import cautious, lower_bound, mixture, of_scale

from .model import EvalNetwork, optimizer
from .settings import EvalnetSettings


def is_question(message: Message) -> bool:
    """Return whether a message asks for ratings, instead of answering with them."""
    return "FITNESS" not in message.fields


@on(EVOLUTION_ROOM, CUSTOM, replies=[(EVOLUTION_ROOM, CUSTOM)], when=is_question)
def rate(message: Message, context: Context) -> Message:
    """Rate: GENOMES `(n, 128)` in; FITNESS, PROBS, SCORES and the model's VERSION out.

    FITNESS `(n,)` is a lower bound of the rating, which ends at 5, or of the score once raters have
    compared melodies. PROBS `(n, 6)` are the
    probabilities of the ratings for a rater who has given those of the labels, SCORES `(n, 16)`
    those of the heads.
    """
    genomes = message.fields["GENOMES"].astype("<f4")
    scores = context.model.forward({"DATA": genomes})["DATA"]
    learning = context.table("learning").get("now") or {"histogram": [0] * RATINGS, "pairs": 0}
    answer = {
        "FITNESS": cautious(scores) if learning["pairs"] else lower_bound(scores),
        "PROBS": of_scale(mixture(scores), learning["histogram"]).astype("<f4"),
        "SCORES": scores,
        "VERSION": context.model.version,
    }
    return message.reply(EVOLUTION_ROOM, **{**message.fields, **answer})


component = Component(
    EVALNET,
    MELODY,
    EvalnetSettings,
    handlers=[rate, *backprop.handlers(TRAININPUT, TRAINOUTPUT)],
    reads=["learning"],
    model=lambda _: TorchModel(EvalNetwork(), optimizer),
)
