"""One step of the learner: a handler records what a message brought, then sends what is next.

Each handler calls a method that changes the state, then `go_on`, which depends on the state alone.
So the learner continues from any state, wherever a replica stopped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from roomgrad import Context, Message
from roomgrad_melody.contract import (
    COMMAND,
    CONTROL,
    CUSTOM,
    EVOLUTION_ROOM,
    NEXT,
    PREFERENCES,
    TRAININPUT,
)
from roomgrad_melody.genome import (
    Genomes,
    canonical,
    from_texts,
    random_genomes,
    spread_genomes,
    texts,
)

from . import state as states
from .answers import heard_now
from .asking import Asking
from .pool import Pool
from .state import TrainingRun
from .training import Answers, batch, batches

TO_BEGIN = -1  # in lock-step: the generation before the first


class Step:
    """State and pool during one call of a handler. Create it before any other read."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.settings = context.settings
        self.state = states.read(context)
        self._batch_returned = False
        self._names = ("pool",) if self.settings.ask == "ratings" else ("pool", "heard")
        self._read: dict[str, Pool] = {}
        self._pools: dict[str, Pool] = {}

    @property
    def pool(self) -> Pool:
        """The candidates, read when first needed."""
        return self._pool("pool")

    @pool.setter
    def pool(self, pool: Pool) -> None:
        self._pools["pool"] = pool

    def _pool(self, name: str) -> Pool:
        if name not in self._pools:
            self._read[name] = self._pools[name] = states.read_pool(self.context, name)
        return self._pools[name]

    # what a message brought

    def begin(self) -> None:
        """Begin with candidates of all kinds; in lock-step, breeding waits for labels of a file."""
        count = min(self.settings.nr_of_unlabeled_data, self.settings.pool)
        self.pool = self.pool.add(spread_genomes(self.settings.seed, count), self.settings.pool)
        if self.settings.lockstep:
            self.state.held = TO_BEGIN

    def gathered(self, message: Message) -> None:
        """Add the unheard melodies of a generation to the candidates, and random ones."""
        state = self.state
        melodies = canonical(message.fields["GENOMES"])
        names = texts(melodies)
        heard = heard_now(names, self.context)
        fresh = np.array([name not in heard for name in names])
        before = len(self.pool)
        self.pool = self.pool.add(melodies[fresh], self.settings.pool)
        version = message.fields["VERSION"]
        if state.chain is None and version == (state.version or version):
            state.version = version
            self.pool = self.pool.score(melodies, message.fields["SCORES"])
        share = self.settings.outside
        self.add_outside(round((len(self.pool) - before) * share / (1 - share)))
        if self.settings.lockstep:
            state.held = int(message.fields["GENERATION"])

    def add_outside(self, count: int) -> None:
        """Add random candidates: a network that is trained on bred ones alone knows no others."""
        self.state.gathered += 1
        others = random_genomes(self.settings.seed, self.state.gathered, count)
        self.pool = self.pool.add(canonical(others), self.settings.pool)

    def scored(self, message: Message) -> None:
        """Store scores that were requested, and drop those of another version of the network."""
        if message.root_id != self.state.scoring:
            return  # requested before a training run that has ended since
        version = message.fields["VERSION"]
        if version != self.state.version:
            self.state.version = version
            self._pools |= {name: self._pool(name).unscored() for name in self._names}
        melodies = canonical(message.fields["GENOMES"])
        scores = message.fields["SCORES"]
        self._pools |= {name: self._pool(name).score(melodies, scores) for name in self._names}
        self.state.scoring = ""

    def labelled(self, melodies: list[str]) -> None:
        """Note that labels have changed: train on them, and ask no more about these melodies."""
        if melodies:
            self.pool = self.pool.without(set(melodies))
            self.state.dirty = True

    def trained(self, asked: dict[str, Any]) -> None:
        """Count a batch that has returned or become a dead letter. asked: its record in memory."""
        training = self.state.chain
        if training is None or training.number != asked["chain"]:
            return
        self._batch_returned = True
        training.batch += 1
        if training.batch == training.batches:
            self.state.chain = None
            self.state.rerank = True
            self.state.scoring = ""  # a reply on its way may be of a half-trained network
            self.pool = self.pool.unscored()
            if "heard" in self._names:
                self._pools["heard"] = self._all_heard()

    def _all_heard(self) -> Pool:
        """Return the melodies that were compared, and those that were rated, the best first."""
        labels, compared = (self.context.table(name).peek() for name in ("labels", "compared"))
        rated = sorted(labels, key=lambda name: (-labels[name]["rating"], name))
        names = [*sorted(compared), *rated][: self.settings.pool]
        return Pool.empty().add(from_texts(names), self.settings.pool)

    # what is next

    def go_on(self) -> list[Message]:
        """Stage the state, and the pool if it changed; return the next messages, if any."""
        messages = self._next()
        for name, pool in self._pools.items():
            if pool is not self._read.get(name):
                states.write_pool(pool, self.context, name)
        states.write(self.state, self.context)
        return messages

    def _next(self) -> list[Message]:
        state = self.state
        if state.chain is not None:
            return [self._open_batch()] if self._batch_returned else []
        if not self._has_to_choose() and (messages := self._begin_training()):
            return messages
        if state.scoring:
            return []
        pools = [self._pool(name) for name in self._names]
        unscored = np.concatenate([pool.genomes[~pool.scored] for pool in pools])
        if len(unscored):
            return [self._ask_for_scores(unscored)]
        if self.settings.lockstep:
            return self._in_lockstep()
        return self._ask_raters() + self._begin_training()

    def _has_to_choose(self) -> bool:
        """Return whether questions are chosen anew before the next training run.

        Otherwise answers that come faster than training would keep the questions as they are.
        """
        return self.state.rerank and not self.settings.lockstep

    def _awaits_votes(self) -> bool:
        """Return whether training waits in lock-step until each pair has its vote.

        Ratings are answered in one message, votes are not.
        """
        votes = self.settings.lockstep and self.settings.ask != "ratings"
        return votes and bool(self._asking().open)

    def _begin_training(self) -> list[Message]:
        """Begin a training run if answers have changed; return its first batch, or nothing."""
        state, settings = self.state, self.settings
        if not state.dirty or self._awaits_votes():
            return []
        labels, pairs = (self.context.table(name).peek() for name in ("labels", "pairs"))
        learned = answers_of(labels, pairs, state.age)
        state.dirty = False
        if not len(learned):
            return []
        states.write_training(learned, self.context)
        count = batches(len(learned), settings.batch_size, settings.epochs)
        state.chain = TrainingRun(state.runs, count, len(learned))
        state.runs += 1
        return [self._open_batch()]

    def _open_batch(self) -> Message:
        state, settings, context = self.state, self.settings, self.context
        assert state.chain is not None
        learned, chain = states.read_training(context), state.chain
        rows, targets, preferences, weights = batch(
            learned, settings.seed, chain.number, chain.batch, settings.batch_size
        )
        message = Message.open(TRAININPUT, rows, seed=state.steps)
        context.memory.put(
            message.root_id,
            ROOT_ID=message.root_id,
            chain=chain.number,
            step=state.steps,
            target=targets,
            preferences=preferences,
            head_weights=weights,
            histogram=state.histogram,
        )
        state.steps += 1
        context.counters.add("sent")
        return message

    def _ask_for_scores(self, melodies: Genomes) -> Message:
        message = Message.open(EVOLUTION_ROOM, type=CUSTOM, GENOMES=melodies)
        self.state.scoring = message.root_id
        self.context.memory.put(message.root_id, ROOT_ID=message.root_id, scoring=len(melodies))
        return message

    def _ask_raters(self) -> list[Message]:
        if len(self.pool) < self.settings.nr_of_unlabeled_data:
            return []
        return self._asking().keep_asking()

    def _asking(self) -> Asking:
        heard = self._pool("heard") if "heard" in self._names else Pool.empty()
        return Asking(self.state, self.pool, heard, self.context)

    def _in_lockstep(self) -> list[Message]:
        """Ask at some generations; when all questions are answered, let breeding go on."""
        state, settings = self.state, self.settings
        if state.held is None or self._asking().open:
            return []
        due = state.held % settings.ask_every == 0
        if state.held > max(TO_BEGIN, state.asked_at) and due:
            state.asked_at = state.held
            if messages := self._ask_raters():
                return messages
        generation, state.held = state.held, None
        return [Message.open(CONTROL, type=COMMAND, CMD=NEXT, GENERATION=np.array(generation))]


def answers_of(
    labels: dict[str, dict[str, Any]], pairs: dict[str, dict[str, Any]], age: float
) -> Answers:
    """Return what can be learned from the labels and the votes, in the order of their keys."""
    rated, votes = sorted(labels), [pairs[name] for name in sorted(pairs)]
    ages = [record.get("age", 0.0) for record in (*(labels[name] for name in rated), *votes)]
    return Answers(
        from_texts(rated),
        np.array([labels[name]["rating"] for name in rated], np.int64),
        from_texts(vote["first"] for vote in votes),
        from_texts(vote["second"] for vote in votes),
        np.array([PREFERENCES.index(vote["prefer"]) for vote in votes], np.int64),
        0.5 ** (age - np.array(ages)),
    )
