"""Questions: which candidates people are asked about, and which questions are withdrawn."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Context, Message
from roomgrad_melody.contract import CUSTOM, RATINGS, USER
from roomgrad_melody.genome import from_text, texts

from .pool import Pool
from .state import State, read_training
from .strategy import choose

WITHDRAWN_KEPT = 50  # questions that are open no more, whose late answers are taken all the same
PICK, REPEAT = 100, 101  # what random numbers are drawn for

Record = dict[str, Any]


class Asking:
    """The questions as they stand, and how they are kept at their number."""

    def __init__(self, state: State, pool: Pool, context: Context) -> None:
        self._state = state
        self._settings = context.settings
        self._context = context
        self._table = context.table("questions")
        # Each is a guard: nobody may take one into hand while it is withdrawn here.
        self._questions = self._table.get_many(self._table.glance())
        self._now = time.time()
        self._candidates = pool.only(pool.scored).without(self.open - self._free())

    @property
    def open(self) -> set[str]:
        """The melodies that people are asked about now."""
        return {name for name, question in self._questions.items() if question["open"]}

    def keep_asking(self) -> list[Message]:
        """Sees to it that `active_labels` questions are open that anybody may take into hand.

        After a training run those are chosen anew; what somebody holds stays as it is. What one
        person is asked again is a message of its own: others are refused an answer to it.
        """
        free = self._free()
        rerank, self._state.rerank = self._state.rerank, False
        wanted = self._wanted(set() if rerank else free)
        candidates = self._candidates if rerank else self._candidates.without(free)
        if wanted <= 0 or not len(candidates):
            return []
        chosen = self._pick(candidates, wanted)
        if rerank:
            self._withdraw(free - chosen.keys())
        self._forget_withdrawn()
        again = self._repeat(chosen)
        fresh = [name for name in chosen if name not in free]
        messages = [ask(fresh), *(ask([name], label["rater"]) for name, label in again.items())]
        for rank, (name, probs) in enumerate(chosen.items()):
            self._put(name, messages[0], rank, probs)
        for name, label in again.items():
            self._put(name, messages[1], len(chosen), None, by=label["rater"])
        self._state.asked += len(fresh) + len(again)
        self._state.rounds += 1
        return [message for message in messages if len(message.fields["GENOMES"])]

    def _free(self) -> set[str]:
        """Open questions that anybody may take into hand."""
        return {n for n in self.open if not self._is_held(n) and not self._questions[n]["by"]}

    def _is_held(self, name: str) -> bool:
        question = self._questions[name]
        return bool(question["rater"]) and question["until"] > self._now

    def _wanted(self, kept: set[str]) -> int:
        """How many questions are lacking beside those that are kept."""
        wanted: int = self._settings.active_labels - len(kept)
        if self._settings.max_labels:
            held = len([n for n in self._questions if self._is_held(n)])
            wanted = min(wanted, self._settings.max_labels - self._state.labels - held - len(kept))
        return wanted

    def _pick(self, candidates: Pool, count: int) -> dict[str, NDArray[np.float32]]:
        """What the strategy chooses, the most wanted first, with its PROBS `(6,)`."""
        probs = candidates.probs.astype(np.float64)
        known = read_training(self._context).genomes
        name, random = self._settings.strategy, self._draws(PICK)
        order = choose(name, probs, candidates.genomes, known, count, random)
        names = texts(candidates.genomes[order])
        return dict(zip(names, candidates.probs[order], strict=True))

    def _repeat(self, chosen: dict[str, NDArray[np.float32]]) -> dict[str, Record]:
        """Now and then a melody that was rated before, with its label, to see who agrees.

        One that was asked about here: whoever made a file of labels is not there to answer.
        """
        waiting = any(question["by"] for question in self._questions.values())
        random = self._draws(REPEAT)
        if waiting or random.random() >= self._settings.again * len(chosen):
            return {}
        labels = self._context.table("labels").glance()
        known = sorted(name for name, label in labels.items() if label["strategy"])
        if not known:
            return {}
        name = known[int(random.integers(len(known)))]
        return {} if name in self._questions else {name: labels[name]}

    def _draws(self, purpose: int) -> np.random.Generator:
        """Random numbers of the seed, of how often was asked so far, and of a purpose."""
        key = [self._settings.seed, self._state.rounds]
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, purpose]))

    def _withdraw(self, names: set[str]) -> None:
        self._state.asked -= len(names)
        for name in sorted(names):
            self._questions[name] |= {"open": False, "rater": "", "until": 0.0}
            self._table.put(name, **self._questions[name])

    def _forget_withdrawn(self) -> None:
        """Old questions that were withdrawn, and that nobody holds, go for good."""
        gone = [n for n in self._questions.keys() - self.open if not self._is_held(n)]
        gone.sort(key=lambda name: (self._questions[name]["asked"], name))
        for name in gone[:-WITHDRAWN_KEPT]:
            self._table.delete(name)

    def _put(self, name: str, message: Message, rank: int, probs: Any, *, by: str = "") -> None:
        """Stages a question. by: who alone is asked, since they rated it before."""
        former = self._questions.get(name, {})
        still = former if former.get("open") else {}
        self._table.put(
            name,
            root=still.get("root", message.root_id),
            asked=still.get("asked", self._now),
            rank=float(rank),
            version=self._state.version,
            strategy="again" if by else self._settings.strategy,
            guess=None if probs is None else round(float(probs @ np.arange(RATINGS)), 4),
            probs=None if probs is None else [round(float(p), 4) for p in probs],
            again=bool(by),
            by=by,
            open=True,
            rater="",
            until=0.0,
        )


def ask(melodies: list[str], rater: str = "") -> Message:
    """The message that asks about melodies; one person alone, where a rater is named."""
    genomes = np.array([from_text(melody) for melody in melodies], np.uint8).reshape(-1, 128)
    if rater:
        return Message.open(USER, type=CUSTOM, GENOMES=genomes, RATER=rater)
    return Message.open(USER, type=CUSTOM, GENOMES=genomes)
