"""The model of a component in its run: computed here, committed there, then applied here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from roomgrad.commit import Commit
from roomgrad.errors import ContractError, ModelError, RoomgradError
from roomgrad.messages import new_id
from roomgrad.models import ForwardPass, Model, Replaced, Trainable, staleness
from roomgrad.names import Names
from roomgrad.redis.connection import Command, packed
from roomgrad.rooms import ModelStatus
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.model import log as steps
from roomgrad.runtime.model.follower import Follower
from roomgrad.runtime.model.log import Call, StepRecord
from roomgrad.runtime.model.snapshotter import WISHES, Hosts, Snapshotter
from roomgrad.runtime.model.standby import Standby
from roomgrad.runtime.model.writer import MIB, Taken

FINGERPRINT_EVERY = 64  # steps; then replicas notice that their machines compute other bits


@dataclass(frozen=True)
class Step:
    """A step that a commit contains, to be applied when the commit has succeeded."""

    record: StepRecord
    update: Any
    seconds: float = 0.0
    """What repeating it takes, without the update."""

    state: bytes = b""
    """The state in place of an update, of which the commit points to a snapshot."""


class ModelStore:
    """Stages steps, follows those of other replicas, and has snapshots taken."""

    def __init__(
        self,
        names: Names,
        component: str,
        make: Callable[[], Trainable],
        call: Call,
        snapshotter: Snapshotter | None = None,
        standby: Standby | None = None,
    ) -> None:
        self._key = names.model(component)
        self._log = names.steps(component)
        self._version_command = packed(b"HMGET", self._key.encode(), b"version", *WISHES)
        self._ledger = names.ledger(component)
        self._counters = names.counters(component)
        self.follower = Follower(names, component, make, call)
        self._call = call
        self._snapshotter = snapshotter
        self._standby = standby
        self._stood_by = False
        self._forward_s = 0.0  # how long a forward pass takes

    @classmethod
    def of(
        cls,
        identity: Identity,
        call: Call,
        snapshotter: Snapshotter | None = None,
        standby: Standby | None = None,
    ) -> ModelStore | None:
        """Return the store of a replica's model, or None if its component declares no model.

        Raises ModelError if the model cannot be made.
        """
        component, settings = identity.component, identity.settings
        if component.model is None:
            return None

        def made() -> Trainable:
            try:
                trainable = component.make_model(settings)
            except RoomgradError:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise ModelError(f"its model cannot be made: {reason}") from error
            trainable.graphs_bytes = int(settings.graphs_mib * MIB)
            return trainable

        return cls(identity.names, component.name, made, call, snapshotter, standby)

    # versions

    def version_command(self) -> Command:
        """Return the command that reads the version; it is sent behind the blocking read."""
        return self._version_command

    def version_in(self, reply: Any) -> bytes | None:
        """Return the version in the reply to that command."""
        version, *wishes = reply
        if self._snapshotter is not None:
            self._snapshotter.read_wishes(*wishes)
        found: bytes | None = version
        return found

    @property
    def loaded_version(self) -> str:
        """The version that this process has loaded, for its heartbeat."""
        return self.follower.version

    def prepare(self, run_token: str, hosts: Hosts) -> Commit | None:
        """Load the model of the run; if it has none, return the commit that stores the initial one.

        Raises ModelError if the stored model is of another network, and SettingsError at the start
        if no snapshot can be written.
        """
        self.follower.run_token = run_token
        assert self._snapshotter is not None
        return self._snapshotter.prepare(self.follower, self._call, hosts)

    def catch_up(self, version: bytes | None) -> None:
        """Follow the run while no message comes, so that the next one does not wait."""
        if version is not None:
            self.follower.follow(version.decode())
        self.consider_snapshot(idle=True)

    def model(
        self, version: bytes | None, status: ModelStatus = ModelStatus.TRAIN, seed: int = 0
    ) -> Model:
        """Return the model of one handler call, at this version or a newer one.

        seed: that of a forward pass.
        """
        follower, token = self.follower, (version or b"").decode()

        def load() -> str:
            follower.follow(token)
            if follower.differs and not self.stands_by():
                self._go_on_with_own_bits()
            return follower.version

        return Model(
            follower.trainable, load, follower.weights_at, self._dump, seed=seed, status=status
        )

    def _dump(self) -> bytes:
        if self._snapshotter is not None:
            self._snapshotter.wait()  # a thread writes from the buffer of the last copy
        return bytes(self.follower.trainable.dump())

    # machines that compute other bits

    def stands_by(self) -> bool:
        """Return whether the replica is to read no message: others, with other bits, learn.

        What it has received already is handled with its own bits.
        """
        differs = self.follower.differs
        on = self._standby is not None and self._standby.is_on(differs=differs)
        self._stood_by |= on
        return on

    def _go_on_with_own_bits(self) -> None:
        """Let the run continue with the bits of this machine; nearer ones if it has stood by."""
        if self._stood_by:
            self._stood_by = False
            self.follower.reload()
        if self.follower.differs and self._snapshotter is not None:
            self._snapshotter.rebase(self.follower, self._call)

    # steps

    def stage(self, model: Model, commit: Commit, root_id: str) -> Step | None:
        """Stage the step that a handler asked for; return it if there is one.

        Raises MessageError for a gradient that cannot be learned; nothing has changed then.
        """
        if not model.used:
            return None
        version = model.version
        if model.forward_s:
            self._forward_s = model.forward_s
        if model.replaced is not None:
            return self._stage_state(model, model.replaced, commit)
        step = self._step(model, version) if model.learned is not None else None
        if step is not None:
            record = step.record
            commit.do(
                b"HSET", self._key, b"version", record.version.encode(), b"step",
                b"%d" % record.step,
            )  # fmt: skip
            commit.do(b"XADD", self._log, b"*", *record.fields())
            commit.ledger(self._ledger, self._counters, root_id, record.step)
            if late := step.update.staleness:
                commit.do(b"HINCRBY", self._counters, b"staleness", b"%d" % late)
        commit.same(self._key, b"version", version.encode())
        return step

    def _stage_state(self, model: Model, replaced: Replaced, commit: Commit) -> Step:
        """Stage another state: a snapshot of it, and a record that leads there.

        Raises ContractError if the handler has learned, too.
        """
        if model.learned is not None:
            raise ContractError("a handler either learns or replaces the weights")
        follower, version = self.follower, model.version
        record = StepRecord(version, replaced.version, follower.step, steps.state_body())
        if self._snapshotter is not None:
            taken = Taken(
                replaced.version, follower.step, follower.entry, memoryview(replaced.content)
            )
            self._snapshotter.stage(follower, self._call, taken, commit)
        commit.do(b"HSET", self._key, b"version", replaced.version.encode())
        commit.do(b"XADD", self._log, b"*", *record.fields())
        commit.same(self._key, b"version", version.encode())
        return Step(record, None, state=replaced.content)

    def _step(self, model: Model, version: str) -> Step:
        learned = model.learned
        assert learned is not None
        made, upstream = learned.made, learned.upstream
        follower, trainable = self.follower, self.follower.trainable
        began = time.monotonic()
        moved_on = made.version != version
        late = staleness(made.version, version, trainable.accumulate)
        update = trainable.prepare(learned.gradient, made, moved_on=moved_on, staleness=late)
        seconds = time.monotonic() - began
        if moved_on or update.nbytes <= max(steps.AT_MOST, _size(made, upstream)):
            body = steps.gradient_body(trainable, update)
        else:
            body = steps.batch_body(made, upstream)
            seconds += self._forward_s + learned.seconds
        number = follower.step + 1
        silent = number % FINGERPRINT_EVERY or follower.differs
        print_ = "" if silent else trainable.fingerprint()
        record = StepRecord(version, f"{number}-{new_id()[:12]}", number, body, print_, learned.key)
        return Step(record, update, seconds)

    def committed(self, step: Step | None, entry: str) -> None:
        """Apply a step that was committed as this entry of the log."""
        if step is not None and step.state:
            self.follower.replace(step.state, step.record.version)
        elif step is not None:
            began = time.monotonic()
            self.follower.apply(step.update)
            seconds = step.seconds + time.monotonic() - began
            self.follower.stepped(step.record, entry, seconds)
        self.consider_snapshot()

    # snapshots

    def consider_snapshot(self, *, idle: bool = False) -> None:
        """Have a snapshot taken, if one is due."""
        if self._snapshotter is not None:
            self._snapshotter.consider(self.follower, idle=idle)

    def stop(self) -> None:
        """Take a snapshot of what no snapshot contains yet, before the process ends."""
        if self._snapshotter is not None:
            self.follower.follow_newest()
            self._snapshotter.stop(self.follower)


def _size(made: ForwardPass, upstream: Mapping[str, Any]) -> int:
    return sum(array.nbytes for array in (*made.inputs.values(), *upstream.values()))
