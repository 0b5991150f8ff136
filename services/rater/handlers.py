"""A rater without a person: it answers each question in the room `user` at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Component, Context, Message, on
from roomgrad.errors import SettingsError
from roomgrad_melody.contract import CUSTOM, MELODY, USER, is_question
from roomgrad_melody.genome import Genomes, from_text

from .rater import rating
from .settings import RaterSettings

Rate = Callable[[Genomes], NDArray[np.int64]]


@lru_cache
def rater_of(name: str, noise: float = 0.0, seed: int = 0) -> Rate:
    """Return a function that rates `(n, 128)` genomes, int64 `(n,)`.

    name: `simulated`, or `module:function`, which is called with one genome as a list of 128 ints.
    Raises SettingsError if it cannot be imported.
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
    """Return a rating as an int. Raises ValueError for anything but 0 to 5."""
    if value not in range(6):
        raise ValueError(
            f"the rater {name} returned {value!r}; expected a whole number from 0 to 5"
        )
    return int(value)


@on(USER, CUSTOM, replies=[(USER, CUSTOM)], when=lambda message: is_question(message.fields))
def answer(message: Message, context: Context) -> Message | None:
    """Answer: GENOMES `(n, 128)` in, the same with FITNESS `(n,)` out; not if another is asked."""
    if message.fields.get("RATER", context.settings.rater) != context.settings.rater:
        return None
    return rated(message.root_id, message.fields["GENOMES"], context)


def start(context: Context) -> list[Message]:
    """Answer the questions from before the rater started, as they are not sent again."""
    melodies: dict[str, list[str]] = {}
    for melody, question in sorted(context.table("questions").peek().items()):
        if question["open"] and not question["rater"] and not question["by"]:
            melodies.setdefault(question["root"], []).append(melody)
    return [
        rated(root, np.array([from_text(melody) for melody in found], np.uint8), context)
        for root, found in melodies.items()
    ]


def rated(root: str, genomes: Genomes, context: Context) -> Message:
    """Return the ratings of `(n, 128)` genomes as the answer to the question `root`."""
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
