"""What the run of a learning component must store: its weights are a function of its log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from roomgrad.names import Names
from roomgrad.snapshots.pointers import Snapshot
from tests.integration.model.learner import Squares, Step
from tests.schedules.clients import Vector
from tests.schedules.contracts import LEARNS
from tests.schedules.model import NOTICE, Group, Model
from tests.schedules.stepping import NAMES

ENTER, BACK, OUT, UP = LEARNS.streams  # forward data in, its gradient; outputs, their gradient

READ = ENTER.key, UP.key, (Names.inbox("learner"), "LOG/ERROR")
INPUT, UPSTREAM, INBOX = (NAMES.stream(*key).encode() for key in READ)
FORWARD, GRADIENT = range(2)


@dataclass
class Learned(Model):
    """The run, each version of its model, and the snapshots that it points to, by their steps."""

    groups: dict[bytes, Group] = field(
        default_factory=lambda: {key: Group() for key in (INPUT, UPSTREAM, INBOX)}
    )
    batches: dict[str, Vector] = field(default_factory=dict)  # by root
    upstream: dict[str, Vector] = field(default_factory=dict)  # by the ID of the output
    outputs: list[bytes] = field(default_factory=list)
    made: dict[str, tuple[str, int]] = field(default_factory=dict)  # root and step, by output
    learned: list[str] = field(default_factory=list)  # outputs whose gradient was applied
    given_up: set[str] = field(default_factory=set)  # outputs whose gradient was not
    tokens: list[str] = field(default_factory=list)  # of each version
    states: list[Squares] = field(default_factory=lambda: [Squares()])
    log: list[bytes] = field(default_factory=list)  # the entry of each step
    trimmed: int = 0
    pointed: list[int] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    wanted: bool = False

    def point(self, snapshots: Sequence[Snapshot]) -> None:
        """Point to snapshots; steps that the oldest of them contains are no longer stored."""
        self.tokens = self.tokens or [snapshots[0].version]
        steps = [self.tokens.index(each.version) for each in snapshots]
        assert steps == sorted({*steps}, reverse=True)
        assert {*steps[1:]} <= {*self.pointed}
        assert steps[0] > max(self.pointed, default=-1)
        self.pointed, self.wanted, self.lost = steps, False, self.lost & {*steps}
        self.trimmed = max(self.trimmed, steps[-1] - 1)

    def open(self) -> dict[str, int]:
        """Return the steps of the outputs whose gradient is awaited."""
        closed = {*self.learned, *self.given_up}
        return {id_: step for id_, (_, step) in self.made.items() if id_ not in closed}

    def leads_to_open(self) -> bool:
        """Return whether a snapshot leads to each version of which a gradient is awaited."""
        return min(self.open().values(), default=self.pointed[-1]) >= self.pointed[-1]

    def kept(self) -> dict[str, int]:
        """Return how many open roots need a version."""
        return Counter(f"{self.tokens[step]}:open" for step in self.open().values())

    def saved(self) -> None:
        """Leave out snapshots that are not whole."""
        self.pointed = [each for each in self.pointed if each not in self.lost]
        self.lost.clear()

    def output(self, id_: str) -> Vector:
        root, step = self.made[id_]
        weight = self.states[step].weight
        return weight * weight * self.batches[root]

    def gradient(self, id_: str) -> Vector:
        """Return the gradient of the inputs, at the weights of the forward pass."""
        weight = self.states[self.made[id_][1]].weight
        return weight * weight * self.upstream[id_]

    def _apply(self, kind: int, root: str, added: list[bytes]) -> None:
        if kind == FORWARD:
            self.outputs.append(added[-1])
        elif kind == NOTICE:
            self.given_up.add(root)
        elif len(added) > 2:  # not the record of a step and a reply
            _, inbox, letter = added
            self.dead[letter] = root
            self.add(INBOX, inbox, NOTICE, root)
        else:
            self._learn(root)

    def _learn(self, id_: str) -> None:
        after = Squares()
        batch, step = self.batches[self.made[id_][0]], self.made[id_][1]
        after.load(self.states[-1].dump())
        after.apply(Step(2 * self.states[step].weight * batch * self.upstream[id_], 0))
        self.learned.append(id_)
        self.states.append(after)
