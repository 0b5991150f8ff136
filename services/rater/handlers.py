"""A rater without a person: it answers each question in the room `user` at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Component, Context, Message, on
from roomgrad.errors import SettingsError
from roomgrad_melody.contract import (
    CUSTOM,
    EQUAL,
    FIRST,
    MELODY,
    PREFERENCES,
    SECOND,
    USER,
    is_question,
)
from roomgrad_melody.genome import Genomes, from_texts

from .rater import preference, rating
from .settings import RaterSettings


@dataclass(frozen=True)
class Judge:
    """A rater that is a program."""

    rate: Callable[[Genomes], NDArray[np.float64]]
    """Ratings `(n,)` of genomes `(n, 128)`; NaN if the program can only compare."""

    prefer: Callable[[Genomes, Genomes], str]
    """Which of two genomes `(128,)` is better, as in `PREFERENCES`."""


@lru_cache
def judge_of(name: str, noise: float = 0.0, seed: int = 0) -> Judge:
    """Return the rater of this name.

    name: `simulated`, or `module:function`, which is called with a genome, a list of 128 ints, or
    with two of them if it takes two. If it takes one only, the higher rating is preferred.
    Raises SettingsError if it cannot be imported.
    """
    if name == "simulated":
        return Judge(
            lambda genomes: rating(genomes, noise, seed).astype(np.float64),
            lambda first, second: preference(first, second, noise, seed),
        )
    module, _, function = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), function)
        needed, accepted = _genomes(found)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise SettingsError(
            f"the rater {name!r} cannot be found ({error}); expected simulated, or module:function"
        ) from error

    def rate(genomes: Genomes) -> NDArray[np.float64]:
        if needed > 1:
            return np.full(len(genomes), np.nan)
        return np.array([checked(found(row.tolist()), name) for row in genomes], np.float64)

    def prefer(first: Genomes, second: Genomes) -> str:
        if accepted > 1:
            return preferred(found(first.tolist(), second.tolist()), name)
        ratings = rate(np.stack([first, second]))
        return EQUAL if ratings[0] == ratings[1] else (SECOND, FIRST)[int(ratings[0] > ratings[1])]

    return Judge(rate, prefer)


def _genomes(function: Callable[..., Any]) -> tuple[int, int]:
    """Return how many genomes a function needs, and how many it accepts."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    taken = [each for each in signature(function).parameters.values() if each.kind in kinds]
    return len([each for each in taken if each.default is Parameter.empty]), len(taken)


def checked(value: Any, name: str) -> int:
    """Return a rating as an int. Raises ValueError for anything but 0 to 5."""
    if value not in range(6):
        raise ValueError(
            f"the rater {name} returned {value!r}; expected a whole number from 0 to 5"
        )
    return int(value)


def preferred(value: Any, name: str) -> str:
    """Return a preference. Raises ValueError for another value."""
    if value not in PREFERENCES:
        raise ValueError(
            f"the rater {name} returned {value!r}; expected {', '.join(PREFERENCES)} of two genomes"
        )
    return str(value)


@on(USER, CUSTOM, replies=[(USER, CUSTOM)], when=lambda message: is_question(message.fields))
def answer(message: Message, context: Context) -> Message | None:
    """Answer GENOMES `(n, 128)` with FITNESS `(n,)`, or PAIR `(2, 128)` with PREFER.

    A question that another rater is asked is not answered.
    """
    if message.fields.get("RATER", context.settings.rater) != context.settings.rater:
        return None
    if "PAIR" in message.fields:
        return compared(message.root_id, message.fields["PAIR"], context)
    return rated(message.root_id, message.fields["GENOMES"], context)


def start(context: Context) -> list[Message]:
    """Answer the questions from before the rater started, as they are not sent again."""
    melodies: dict[str, list[str]] = {}
    answers = []
    for melody, question in sorted(context.table("questions").peek().items()):
        if question["open"] and not question["rater"] and not question["by"]:
            if against := question.get("against"):
                pair = from_texts([against, melody])
                answers.append(compared(question["root"], pair, context))
            else:
                melodies.setdefault(question["root"], []).append(melody)
    ratings = [rated(root, from_texts(found), context) for root, found in melodies.items()]
    return [*ratings, *answers]


def rated(root: str, genomes: Genomes, context: Context) -> Message:
    """Return the ratings of `(n, 128)` genomes as the answer to the question `root`."""
    fitness = judge(context).rate(genomes)
    return reply(root, context, GENOMES=genomes, FITNESS=fitness)


def compared(root: str, pair: Genomes, context: Context) -> Message:
    """Return the preference for one of `(2, 128)` genomes as the answer to the question `root`."""
    return reply(root, context, PAIR=pair, PREFER=judge(context).prefer(pair[0], pair[1]))


def judge(context: Context) -> Judge:
    """Return the rater of the settings."""
    settings = context.settings
    return judge_of(settings.rater, settings.noise, settings.noise_seed)


def reply(root: str, context: Context, **fields: Any) -> Message:
    """Return an answer to the question `root`."""
    message = Message.open(USER, type=CUSTOM, **fields)
    message.fields = {**message.fields, "RATER": context.settings.rater}
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
