"""One call of a handler: what it noted, and the one thing that is said next.

Whatever comes, a handler notes it here and then asks `go_on`. So the learner goes on from wherever
it stands, whoever stopped it and whenever.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from roomgrad import Context, Message
from roomgrad_melody.contract import COMMAND, CONTROL, CUSTOM, EVOLUTION_ROOM, NEXT, TRAININPUT
from roomgrad_melody.genome import Genomes, canonical, random_genomes, texts

from . import state as states
from .asking import Asking
from .pool import Pool
from .state import Chain, Labels
from .training import batch, batches

TO_BEGIN = -1  # the generation before the first, in lock-step


class Step:
    """State, pool and what is said, of one call. Make it before anything else is read."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.settings = context.settings
        self.state = states.read(context)
        self._batch_home = False
        self._read: Pool | None = None
        self._pool: Pool | None = None

    @property
    def pool(self) -> Pool:
        """The candidates, read when they are needed first."""
        if self._pool is None:
            self._read = self._pool = states.read_pool(self.context)
        return self._pool

    @pool.setter
    def pool(self, pool: Pool) -> None:
        self._pool = pool

    # what is noted

    def begin(self) -> None:
        """The run begins; in lock-step breeding waits for what is to be done before."""
        if self.settings.lockstep:
            self.state.held = TO_BEGIN

    def gathered(self, message: Message) -> None:
        """A generation: what nobody has rated becomes a candidate, and random melodies beside."""
        state = self.state
        melodies = canonical(message.fields["GENOMES"])
        names = texts(melodies)
        labels = self.context.table("labels").get_many(names)
        fresh = np.array([name not in labels for name in names])
        before = len(self.pool)
        self.pool = self.pool.add(melodies[fresh], self.settings.pool)
        version = message.fields["VERSION"]
        if state.chain is None and version == (state.version or version):
            state.version = version
            self.pool = self.pool.score(melodies, message.fields["PROBS"])
        share = self.settings.outside
        self.add_outside(round((len(self.pool) - before) * share / (1 - share)))
        if self.settings.lockstep:
            state.held = int(message.fields["GENERATION"])

    def add_outside(self, count: int) -> None:
        """Random melodies: a network that learns from bred ones alone knows little of others."""
        self.state.gathered += 1
        others = random_genomes(self.settings.seed, self.state.gathered, count)
        self.pool = self.pool.add(canonical(others), self.settings.pool)

    def scored(self, message: Message) -> None:
        """Scores that were asked for. Those of another version of the network are void by now."""
        if message.root_id != self.state.scoring:
            return  # asked for before a training run that has ended since
        version = message.fields["VERSION"]
        if version != self.state.version:
            self.state.version = version
            self.pool = self.pool.unscored()
        melodies = canonical(message.fields["GENOMES"])
        self.pool = self.pool.score(melodies, message.fields["PROBS"])
        self.state.scoring = ""

    def labelled(self, melodies: list[str]) -> None:
        """Labels have changed: they are trained on, and asked about no more."""
        if melodies:
            self.pool = self.pool.without(set(melodies))
            self.state.dirty = True

    def trained(self, asked: dict[str, Any]) -> None:
        """A batch is home, or given up. `asked` is what memory held of it."""
        chain = self.state.chain
        if chain is None or chain.number != asked["chain"]:
            return
        self._batch_home = True
        chain.batch += 1
        if chain.batch == chain.batches:
            self.state.chain = None
            self.state.rerank = True
            self.state.scoring = ""  # what is on its way may be of a network half trained
            self.pool = self.pool.unscored()

    # what is said

    def go_on(self) -> list[Message]:
        """What is to be said next, if anything. The state is staged, and the pool if it changed."""
        messages = self._next()
        if self._pool is not None and self._pool is not self._read:
            states.write_pool(self._pool, self.context)
        states.write(self.state, self.context)
        return messages

    def _next(self) -> list[Message]:
        state = self.state
        if state.chain is not None:
            return [self._open_batch()] if self._batch_home else []
        if state.dirty and (messages := self._open_chain()):
            return messages
        if state.scoring:
            return []
        if not self.pool.scored.all():
            return [self._ask_for_scores(self.pool.genomes[~self.pool.scored])]
        return self._in_lockstep() if self.settings.lockstep else self._ask_people()

    def _open_chain(self) -> list[Message]:
        """The first batch of a training run on all labels; nothing where there are none."""
        state, settings = self.state, self.settings
        records = self.context.table("labels").glance()
        state.dirty = False
        if not records:
            return []
        names = sorted(records)
        bits = np.frombuffer("".join(names).encode(), np.uint8) - ord("0")
        ratings = np.array([records[name]["rating"] for name in names], np.int64)
        states.write_training(Labels(bits.reshape(len(names), -1), ratings), self.context)
        count = batches(len(names), settings.batch_size, settings.epochs)
        state.chain = Chain(state.runs, count, len(names))
        state.runs += 1
        return [self._open_batch()]

    def _open_batch(self) -> Message:
        state, settings, context = self.state, self.settings, self.context
        assert state.chain is not None
        labels = states.read_training(context)
        rows, targets = batch(
            labels.genomes,
            labels.ratings,
            settings.seed,
            state.chain.number,
            state.chain.batch,
            settings.batch_size,
            settings.augment,
        )
        message = Message.open(TRAININPUT, rows)
        context.memory.put(
            message.root_id,
            ROOT_ID=message.root_id,
            chain=state.chain.number,
            step=state.steps,
            target=targets,
        )
        state.steps += 1
        context.counters.add("sent")
        return message

    def _ask_for_scores(self, melodies: Genomes) -> Message:
        message = Message.open(EVOLUTION_ROOM, type=CUSTOM, GENOMES=melodies)
        self.state.scoring = message.root_id
        self.context.memory.put(message.root_id, ROOT_ID=message.root_id, scoring=len(melodies))
        return message

    def _ask_people(self) -> list[Message]:
        if len(self.pool) < self.settings.nr_of_unlabeled_data:
            return []
        return Asking(self.state, self.pool, self.context).keep_asking()

    def _in_lockstep(self) -> list[Message]:
        """Questions at some generations, and when all are answered, leave to breed on."""
        state, settings = self.state, self.settings
        if state.held is None or Asking(state, self.pool, self.context).open:
            return []
        due = state.held % settings.ask_every == 0
        if state.held > max(TO_BEGIN, state.asked_at) and due:
            state.asked_at = state.held
            if messages := self._ask_people():
                return messages
        generation, state.held = state.held, None
        return [Message.open(CONTROL, type=COMMAND, CMD=NEXT, GENERATION=np.array(generation))]
