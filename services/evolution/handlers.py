"""evolution: breeds melodies by the ratings that evalnet predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Component, Context, Message, on
from roomgrad.errors import SchemaError
from roomgrad_melody.contract import (
    COMMAND,
    CONTROL,
    CUSTOM,
    EVOLUTION,
    EVOLUTION_ROOM,
    MELODY,
    NEXT,
    START,
    STOP,
)
from roomgrad_melody.genome import Genomes, canonical, distinct, packed, unpacked
from roomgrad_melody.ordinal import expected

from .genetic import breed, first
from .settings import EvolutionSettings

BEST_SHOWN = 10
NOTHING, BEGIN = -2, -1  # allowed generations at first, and when generation 0 may be rated
SHORTEST_S = 0.1  # between two ratings of a generation that waits for labels
GENERATIONS_KEPT = 10_000  # in the table `generations`; older ones are deleted


@dataclass
class State:
    """The record `now` of the table `population`; its fields are stored under these names."""

    generation: int
    genomes: Genomes
    """Packed, `(population, 16)` uint8."""

    fitness: NDArray[np.float64]
    """`(population,)` lower bounds of the ratings; empty while the generation waits for them."""

    running: bool = True
    allowed: int = NOTHING
    """In lock-step: the last generation that the learner allows to breed."""

    waiting: bool = False
    """Whether there are too few labels for another generation."""

    version: str = ""
    """Version of the model that gave the fitness."""

    mean: float = 0.0
    best: float = 0.0
    distinct: int = 0

    @property
    def rated(self) -> bool:
        """Whether the generation has its fitness."""
        return len(self.fitness) > 0


def read(context: Context) -> State | None:
    """Return the state, a guard of the commit; None before the run begins."""
    record = context.table("population").get("now")
    return None if record is None else State(**record)


def write(state: State, context: Context) -> None:
    """Stage the state."""
    record: dict[str, Any] = {**vars(state)}
    context.table("population").put("now", **record)


def ask(state: State, context: Context) -> Message:
    """Return the message that asks for the ratings of the state's generation."""
    message = Message.open(
        EVOLUTION_ROOM,
        type=CUSTOM,
        GENOMES=unpacked(state.genomes),
        GENERATION=np.array(state.generation),
    )
    context.memory.put(message.root_id, ROOT_ID=message.root_id, generation=state.generation)
    return message


def go_on(state: State, context: Context) -> Message | None:
    """Stage the state; if breeding may go on, breed and return the question for the offspring.

    While there are too few labels for another generation, this one is rated again, as the network
    learns meanwhile.
    """
    settings = context.settings
    last = settings.generations and state.generation >= settings.generations
    held = settings.lockstep and state.allowed < state.generation
    reply = None
    if state.rated and state.running and not held and not last:
        state.waiting = waits_for_labels(state, context)
        if not state.waiting:
            state.genomes = offspring(state, settings)
            state.generation += 1
        state.fitness = np.empty(0)
        reply = ask(state, context)
    write(state, context)
    return reply


def offspring(state: State, settings: EvolutionSettings) -> Genomes:
    """Return the next generation, packed."""
    children = breed(
        unpacked(state.genomes),
        state.fitness,
        settings.seed,
        state.generation,
        tournament=settings.tournament,
        crossover=settings.crossover,
        flips=settings.flips,
        elite=settings.elite,
    )
    return packed(children)


def waits_for_labels(state: State, context: Context) -> bool:
    """Return whether so few labels allow no more generations.

    Breeding on would find out where the network is wrong, instead of what raters like.
    """
    allowed = context.settings.generations_per_label
    if not allowed or context.settings.lockstep:
        return False
    learning = context.table("learning").get("now") or {}
    answers = learning.get("labels", 0) + learning.get("pairs", 0)
    return bool(state.generation >= allowed * (1 + answers))


def start(context: Context) -> Message | None:
    """Make generation 0. In lock-step it waits for the learner, which may train on labels first."""
    settings = context.settings
    population = packed(first(settings.seed, settings.population))
    state = State(0, population, np.empty(0))
    write(state, context)
    return None if settings.lockstep else ask(state, context)


@on(
    EVOLUTION_ROOM,
    CUSTOM,
    replies=[(EVOLUTION_ROOM, CUSTOM), (CONTROL, COMMAND)],
    when=lambda message: "FITNESS" in message.fields,
)
def rated(message: Message, context: Context) -> Message | None:
    """Read FITNESS `(n,)` of a generation that was asked for here; ignore any other."""
    asked = context.memory.get(message.root_id)
    if asked is None:
        return None
    context.memory.delete(message.root_id)
    state = read(context)
    if state is None or state.generation != asked["generation"]:
        return None
    state.fitness = np.asarray(message.fields["FITNESS"])
    if len(state.fitness) != len(state.genomes):
        count, came = len(state.genomes), len(state.fitness)
        raise SchemaError(f"FITNESS: expected ({count},) ratings of the generation, got ({came},)")
    state.version = message.fields.get("VERSION", "")
    note(state, message, context)
    pause_s = context.settings.pause_s or SHORTEST_S * waits_for_labels(state, context)
    if context.settings.lockstep or not pause_s or not state.running:
        return go_on(state, context)
    write(state, context)
    context.send(command(NEXT, state.generation), after_s=pause_s)
    return None


def note(state: State, message: Message, context: Context) -> None:
    """Stage the figures of this generation and its best melodies, for pages and reports.

    They are what the network expects, not the lower bound by which melodies are bred.
    """
    probs = message.fields.get("PROBS")
    ratings = state.fitness if probs is None else expected(probs)
    melodies = canonical(unpacked(state.genomes))
    different = distinct(melodies)
    state.mean = float(ratings.mean())
    state.best = float(ratings[state.fitness.argmax()])
    state.distinct = int(different.sum())
    context.table("generations").put(
        str(state.generation),
        generation=state.generation,
        mean=state.mean,
        best=state.best,
        distinct=state.distinct,
        version=state.version,
    )
    context.table("generations").delete(str(state.generation - GENERATIONS_KEPT))
    order = np.argsort(-state.fitness, kind="stable")
    best = order[different[order]][:BEST_SHOWN]
    context.table("population").put(
        "best",
        genomes=packed(melodies[best]),
        fitness=ratings[best],
        generation=state.generation,
        version=state.version,
    )


def command(word: str, generation: int) -> Message:
    """Return a command about a generation."""
    return Message.open(CONTROL, type=COMMAND, CMD=word, GENERATION=np.array(generation))


@on(CONTROL, COMMAND, replies=[(EVOLUTION_ROOM, CUSTOM)])
def control(message: Message, context: Context) -> Message | None:
    """Obey START, STOP, and NEXT: the pause is over, or the learner allows a generation."""
    state = read(context)
    word = message.fields["CMD"]
    if state is None or word not in (START, STOP, NEXT):
        return None
    if word == NEXT:
        return allow(state, int(message.fields.get("GENERATION", -1)), context)
    state.running = word == START
    return go_on(state, context)


def allow(state: State, generation: int, context: Context) -> Message | None:
    """Breed the next generation; in lock-step, ask for the ratings of the first one first."""
    if not context.settings.lockstep:
        return go_on(state, context) if generation == state.generation else None
    begins = state.allowed == NOTHING
    state.allowed = max(state.allowed, generation)
    if begins:
        write(state, context)
        return ask(state, context)
    return go_on(state, context)


def given_up(records: list[dict[str, Any]], context: Context) -> Message | None:
    """Ask again if the question for a generation has become a dead letter."""
    state = read(context)
    if state is None or state.rated:
        return None
    return ask(state, context)


component = Component(
    EVOLUTION,
    MELODY,
    EvolutionSettings,
    handlers=[rated, control],
    on_start=start,
    on_dead=given_up,
    tables=["population", "generations"],
    reads=["learning"],
)
