"""One step of the learner: a handler records what a message brought, then sends what is next.

Each handler calls a method that changes the state, then `go_on`, which depends on the state alone.
So the learner continues from any state, wherever a replica stopped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from roomgrad import Context, Message
from roomgrad_melody.contract import COMMAND, CONTROL, CUSTOM, EVOLUTION_ROOM, NEXT, TRAININPUT
from roomgrad_melody.genome import Genomes, canonical, random_genomes, spread_genomes, texts

from . import state as states
from .answers import heard_now
from .asking import Asking
from .pool import Pool
from .state import Labels, TrainingRun
from .training import batch, batches

TO_BEGIN = -1  # in lock-step: the generation before the first


class Step:
    """State and pool during one call of a handler. Create it before any other read."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.settings = context.settings
        self.state = states.read(context)
        self._batch_returned = False
        self._read: Pool | None = None
        self._pool: Pool | None = None

    @property
    def pool(self) -> Pool:
        """The candidates, read when first needed."""
        if self._pool is None:
            self._read = self._pool = states.read_pool(self.context)
        return self._pool

    @pool.setter
    def pool(self, pool: Pool) -> None:
        self._pool = pool

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
            self.pool = self.pool.unscored()
        melodies = canonical(message.fields["GENOMES"])
        self.pool = self.pool.score(melodies, message.fields["SCORES"])
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

    # what is next

    def go_on(self) -> list[Message]:
        """Stage the state, and the pool if it changed; return the next messages, if any."""
        messages = self._next()
        if self._pool is not None and self._pool is not self._read:
            states.write_pool(self._pool, self.context)
        states.write(self.state, self.context)
        return messages

    def _next(self) -> list[Message]:
        state = self.state
        if state.chain is not None:
            return [self._open_batch()] if self._batch_returned else []
        if state.dirty and (messages := self._begin_training()):
            return messages
        if state.scoring:
            return []
        if not self.pool.scored.all():
            return [self._ask_for_scores(self.pool.genomes[~self.pool.scored])]
        return self._in_lockstep() if self.settings.lockstep else self._ask_raters()

    def _begin_training(self) -> list[Message]:
        """Begin a training run on all labels; return its first batch, or nothing without labels."""
        state, settings = self.state, self.settings
        records = self.context.table("labels").peek()
        state.dirty = False
        if not records:
            return []
        names = sorted(records)
        bits = np.frombuffer("".join(names).encode(), np.uint8) - ord("0")
        ratings = np.array([records[name]["rating"] for name in names], np.int64)
        ages = np.array([records[name].get("age", 0.0) for name in names])
        labels = Labels(bits.reshape(len(names), -1), ratings, 0.5 ** (state.age - ages))
        states.write_training(labels, self.context)
        count = batches(len(names), settings.batch_size, settings.epochs)
        state.chain = TrainingRun(state.runs, count, len(names))
        state.runs += 1
        return [self._open_batch()]

    def _open_batch(self) -> Message:
        state, settings, context = self.state, self.settings, self.context
        assert state.chain is not None
        labels = states.read_training(context)
        rows, targets, weights = batch(
            labels.genomes,
            labels.ratings,
            labels.weights,
            settings.seed,
            state.chain.number,
            state.chain.batch,
            settings.batch_size,
        )
        message = Message.open(TRAININPUT, rows, seed=state.steps)
        context.memory.put(
            message.root_id,
            ROOT_ID=message.root_id,
            chain=state.chain.number,
            step=state.steps,
            target=targets,
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
        return Asking(self.state, self.pool, self.context).keep_asking()

    def _in_lockstep(self) -> list[Message]:
        """Ask at some generations; when all questions are answered, let breeding go on."""
        state, settings = self.state, self.settings
        if state.held is None or Asking(state, self.pool, self.context).open:
            return []
        due = state.held % settings.ask_every == 0
        if state.held > max(TO_BEGIN, state.asked_at) and due:
            state.asked_at = state.held
            if messages := self._ask_raters():
                return messages
        generation, state.held = state.held, None
        return [Message.open(CONTROL, type=COMMAND, CMD=NEXT, GENERATION=np.array(generation))]
