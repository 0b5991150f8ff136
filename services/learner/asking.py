"""Questions: which candidates people are asked about, and which questions are withdrawn."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from roomgrad import Context, Message
from roomgrad.contracts.melody import CUSTOM, USER
from roomgrad.melody.genome import Genomes, from_text, texts
from services.learner.pool import Pool
from services.learner.state import State, read_training
from services.learner.strategy import choose

WITHDRAWN_KEPT = 50  # questions that are open no more, whose late answers are taken all the same

Records = dict[str, dict[str, Any]]


def keep_asking(state: State, pool: Pool, context: Context) -> Message | None:
    """Sees to it that `active_labels` questions are open that nobody holds.

    After a training run those are chosen anew; what somebody holds stays as it is.
    """
    settings = context.settings
    questions = context.table("questions").glance()
    free = {n: q for n, q in questions.items() if q["open"] and not is_held(q)}
    held = {n: q for n, q in questions.items() if is_held(q)}
    rerank, state.rerank = state.rerank, False
    kept = {n: q for n, q in free.items() if q["again"]} if rerank else free
    wanted = settings.active_labels - len(kept)
    if settings.max_labels:
        wanted = min(wanted, settings.max_labels - state.labels - len(held) - len(kept))
    candidates = pool.only(pool.scored).without({**kept, **held})
    if wanted <= 0 or len(candidates) < min(wanted, settings.active_labels):
        state.rerank = rerank and wanted > 0
        return None
    chosen = pick(state, candidates, wanted, context)
    repeated = repeat(state, chosen, questions, context)
    return replace(state, candidates, chosen, repeated, free if rerank else {}, questions, context)


def is_held(question: dict[str, Any]) -> bool:
    """Whether somebody has this question in hand now."""
    return bool(question["rater"]) and question["until"] > time.time()


def pick(state: State, candidates: Pool, count: int, context: Context) -> list[str]:
    """The melodies that the strategy of the settings chooses, the most wanted first."""
    settings = context.settings
    random = draws(settings.seed, state.asked, 0)
    known = read_training(context).genomes
    probs = candidates.probs.astype(np.float64)
    order = choose(settings.strategy, probs, candidates.genomes, known, count, random)
    return texts(candidates.genomes[order])


def repeat(state: State, chosen: list[str], questions: Records, context: Context) -> Records:
    """Some of the chosen give way to melodies that were rated before: field, old label."""
    settings = context.settings
    found: Records = {}
    known = texts(read_training(context).genomes)
    for place in range(len(chosen)):
        random = draws(settings.seed, state.asked + place, 1)
        if not known or random.random() >= settings.again:
            continue
        before = known[int(random.integers(len(known)))]
        label = context.table("labels").get(before)
        if label is not None and before not in questions and before not in found:
            found[before] = label
            chosen[place] = before
    return found


def draws(seed: int, number: int, purpose: int) -> np.random.Generator:
    """Random numbers that depend on these three alone."""
    philox = np.random.Philox(key=[seed, number], counter=[0, 0, 0, 100 + purpose])
    return np.random.Generator(philox)


def replace(
    state: State,
    candidates: Pool,
    chosen: list[str],
    repeated: Records,
    free: Records,
    questions: Records,
    context: Context,
) -> Message | None:
    """Stages the chosen questions in place of the free ones; the message that asks new ones."""
    table = context.table("questions")
    table.get_many({**free, **dict.fromkeys(chosen)})  # guards: nobody may take one meanwhile
    for melody, question in free.items():
        if melody not in chosen and not question["again"]:
            table.put(melody, **{**question, "open": False, "rater": "", "until": 0.0})
    fresh = [melody for melody in chosen if melody not in free]
    message = ask(fresh)
    place = {name: i for i, name in enumerate(texts(candidates.genomes))}
    for rank, melody in enumerate(chosen):
        label = repeated.get(melody)
        probs = None if label else candidates.probs[place[melody]]
        question = question_of(message, rank, probs, label, state, context)
        if melody in free:  # asked before, and still among the chosen
            question |= {name: free[melody][name] for name in ("root", "asked")}
        table.put(melody, **question)
    forget_withdrawn(questions, context)
    state.asked += len(fresh)
    return message if fresh else None


def question_of(
    message: Message,
    rank: int,
    probs: Any,
    label: dict[str, Any] | None,
    state: State,
    context: Context,
) -> dict[str, Any]:
    """The record of a question. label: what the person answered who is asked again."""
    guess = None if probs is None else round(float(probs @ np.arange(len(probs))), 4)
    return {
        "root": message.root_id,
        "asked": time.time(),
        "rank": float(rank),
        "version": state.version,
        "strategy": "again" if label else context.settings.strategy,
        "guess": guess,
        "probs": None if probs is None else [round(float(p), 4) for p in probs],
        "again": label is not None,
        "by": label["rater"] if label else "",
        "open": True,
        "rater": "",
        "until": 0.0,
    }


def ask(melodies: list[str]) -> Message:
    """The message that asks about melodies."""
    genomes: Genomes = np.array([from_text(melody) for melody in melodies], np.uint8)
    return Message.open(USER, type=CUSTOM, GENOMES=genomes.reshape(-1, 128))


def forget_withdrawn(questions: Records, context: Context) -> None:
    """Old questions that were withdrawn, and that nobody holds, go for good."""
    table = context.table("questions")
    gone = [n for n, q in questions.items() if not q["open"] and not is_held(q)]
    for melody in sorted(gone, key=lambda n: questions[n]["asked"])[:-WITHDRAWN_KEPT]:
        table.delete(melody)
