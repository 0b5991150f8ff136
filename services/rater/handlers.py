"""A rater that needs no person: it hears the questions in `user` and answers each at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Component, Context, Message, on
from roomgrad.errors import SettingsError
from roomgrad_melody.contract import CUSTOM, MELODY, USER
from roomgrad_melody.genome import Genomes, from_text

from .rater import rating
from .settings import RaterSettings

Rate = Callable[[Genomes], NDArray[np.int64]]


@lru_cache
def rater_of(name: str, noise: float = 0.0, seed: int = 0) -> Rate:
    """What rates `(n, 128)` genomes: `simulated`, or a function for one genome by its name.

    Raises SettingsError for a name under which there is no function.
    """
    if name == "simulated":
        return lambda genomes: rating(genomes, noise, seed)
    module, _, function = name.partition(":")
    try:
        one: Callable[[list[int]], Any] = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"the rater {name!r} cannot be found ({error}); expected simulated, or module:function"
        ) from error
    return lambda genomes: np.array([checked(one(row.tolist()), name) for row in genomes], np.int64)


def checked(value: Any, name: str) -> int:
    """A rating as a whole number. Raises ValueError for anything but 0 to 5."""
    if value not in range(6):
        raise ValueError(f"the rater {name} answered {value!r}; expected a whole number 0 to 5")
    return int(value)


@on(USER, CUSTOM, replies=[(USER, CUSTOM)], when=lambda message: "FITNESS" not in message.fields)
def answer(message: Message, context: Context) -> Message | None:
    """GENOMES `(n, 128)` in; the same with FITNESS `(n,)` out. What others are asked is theirs."""
    if message.fields.get("RATER", context.settings.rater) != context.settings.rater:
        return None
    return rated(message.root_id, message.fields["GENOMES"], context)


def start(context: Context) -> list[Message]:
    """Answers what was asked before a rater came: those questions are not asked again."""
    melodies: dict[str, list[str]] = {}
    for melody, question in sorted(context.table("questions").glance().items()):
        if question["open"] and not question["rater"] and not question["by"]:
            melodies.setdefault(question["root"], []).append(melody)
    return [
        rated(root, np.array([from_text(melody) for melody in found], np.uint8), context)
        for root, found in melodies.items()
    ]


def rated(root: str, genomes: Genomes, context: Context) -> Message:
    """The ratings of `(n, 128)` genomes, as the answer to a question."""
    settings = context.settings
    rate = rater_of(settings.rater, settings.noise, settings.noise_seed)
    fitness = rate(genomes).astype(np.float64)
    message = Message.open(USER, type=CUSTOM, GENOMES=genomes, FITNESS=fitness)
    message.fields = {**message.fields, "RATER": settings.rater}
    message.root_id = root
    return message


component = Component(
    "rater",
    MELODY,
    RaterSettings,
    handlers=[answer],
    on_start=start,
    everyone=True,
    reads=["questions"],
)
