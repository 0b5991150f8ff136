"""The model in this process: loaded from a snapshot, brought up to date by the log of steps."""

from __future__ import annotations

import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from roomgrad.errors import EmptiedServer, MessageError, ModelError, SnapshotError, StepError
from roomgrad.models import Trainable
from roomgrad.names import Names
from roomgrad.redis import heartbeats
from roomgrad.redis.connection import ReplyError
from roomgrad.runtime.model import log as steps
from roomgrad.runtime.model import older_release
from roomgrad.runtime.model.log import Call, StepRecord
from roomgrad.snapshots import pointers
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.pointers import NO_ENTRY, Snapshot
from roomgrad.snapshots.stores import store_of

log = structlog.get_logger("roomgrad")

MOST_REMEMBERED = 64  # older versions whose weights are kept in memory
TRIES = 3  # to apply a step
FORGET_AFTER = 1000  # steps without a gradient that needed one


class Follower:
    """Holds one version of the model, and follows the run to newer ones.

    Versions are compared by their tokens, never by their steps: a server that fell back to an older
    state numbers its steps again.
    """

    def __init__(
        self, names: Names, component: str, make: Callable[[], Trainable], call: Call
    ) -> None:
        self._names = names
        self._component = component
        self._make = make
        self._call = call
        self._log = names.steps(component)
        self.trainable = make()
        self.version = ""
        self.step = 0
        self.entry = NO_ENTRY  # of the log, up to which it is up to date
        self.run_token = ""
        self.differs = False  # whether its bits are not those of the run's version
        self._warned = False  # that they are not
        self.replayed = 0  # records since the snapshot that was loaded, or the newest one
        self.replay_s = 0.0  # seconds that repeating those takes
        self.replay_bytes = 0
        self._begun = False  # whether the trainable is no longer as it was made
        self._size = 1  # of a snapshot in bytes
        self._remembered = 0  # older versions whose weights are kept, for gradients that come late
        self._late_at = 0  # the step at which one came last
        self._older: OrderedDict[str, Any] = OrderedDict()

    def begin_again(self) -> None:
        """Make a model that has not learned: the server was emptied."""
        if self._begun:
            self.trainable = self._make()
        self._begun = True
        self.version, self.step, self.entry = "", 0, NO_ENTRY
        self._older.clear()

    def adopt(self, version: str, step: int, entry: str) -> None:
        """Take note that the trainable holds this version, of which a snapshot exists."""
        self.version, self.step, self.entry = version, step, entry
        self.differs = False
        self.replayed, self.replay_s, self.replay_bytes = 0, 0.0, 0

    def replace(self, content: bytes, version: str) -> None:
        """Continue with another state that was committed, and of which a snapshot exists."""
        self._remember()
        try:
            self.trainable.load(content)
        except Exception:
            self.version = ""  # it may be half done: the next attempt begins at the snapshot
            raise
        self.adopt(version, self.step, self.entry)

    def count_from(self, step: int) -> None:
        """Count what has to be repeated from this step on: a snapshot was taken of it."""
        left = max(0, self.step - step)
        if left < self.replayed:
            share = left / self.replayed
            self.replay_s *= share
            self.replay_bytes = int(self.replay_bytes * share)
            self.replayed = left

    # following

    def follow(self, version: str) -> None:
        """Bring the model up to this version of the run, or a newer one.

        Raises ModelError if neither the log nor any snapshot leads there, StepError if a step could
        not be applied three times, and EmptiedServer.
        """
        for left in reversed(range(TRIES)):
            try:
                self._follow(version)
                return
            except StepError as error:  # the next attempt begins at a snapshot
                if not left:
                    self._tell_health(error)
                    raise
                log.warning("a step cannot be applied, trying again", reason=str(error))

    def _follow(self, version: str) -> None:
        while version != self.version and not (self.version and self._reaches(version)):
            newest = self._newest()
            if newest == version:
                self.reload()
                return
            version = newest  # that which was read may be older than this replica's last step

    def follow_newest(self) -> None:
        """Bring the model up to the run's version."""
        self.follow(self._newest())

    def _reaches(self, version: str) -> bool:
        """Repeat the steps that are in the log; return whether they lead to this version."""
        reached = version == self.version
        for entry, record in steps.records(self._call, self._log, self.entry):
            if record.before == self.version and not self._replay(entry, record):
                return False
            if record.version == self.version:
                self.entry = entry
                reached |= version == self.version
        return reached

    def _newest(self) -> str:
        """Return the version of the run."""
        found = self._call([b"HGET", self._names.model(self._component).encode(), b"version"])
        if found is None:
            raise EmptiedServer(
                f"{self._names.model(self._component)} is empty: the server was emptied, and the "
                f"run starts again"
            )
        return str(found.decode())

    def _replay(self, entry: str, record: StepRecord) -> bool:
        began = time.monotonic()
        self._remember()
        if record.fingerprint and record.fingerprint != self.trainable.fingerprint():
            self._differ(record)
        try:
            if not steps.replay(self.trainable, record):
                return False
        except Exception as error:
            self.version = ""  # it may be half done: the next attempt begins at a snapshot
            raise StepError(
                f"step {record.step} of {self._component} in run {self._names.run} cannot be "
                f"applied here ({type(error).__name__}: {error}): mend the component, or go back "
                f"to a checkpoint by `roomgrad model {self._component} --rollback STEP`"
            ) from error
        self.stepped(record, entry, time.monotonic() - began)
        return True

    def _tell_health(self, error: StepError) -> None:
        key = self._names.model(self._component).encode()
        with contextlib.suppress(ReplyError):  # the server's memory is full
            self._call([b"HSET", key, heartbeats.STOPPED, str(error).encode()])

    def _differ(self, record: StepRecord) -> None:
        if not self._warned:  # it finds out again after each snapshot that it loads
            log.warning(
                "this machine computes other bits than the one that made the steps, and stands by "
                "while a replica with those lives; use machines of one type and one release of "
                "torch",
                step=record.step,
            )
        self.differs = self._warned = True

    def stepped(self, record: StepRecord, entry: str, seconds: float) -> None:
        """Take note that the trainable has made this step.

        seconds: what repeating it takes.
        """
        self.version, self.step, self.entry = record.version, record.step, entry
        self.replayed += 1
        self.replay_s += seconds
        self.replay_bytes += len(record.body)

    def reload(self) -> None:
        """Load the newest snapshot that is whole, and repeat the steps since."""
        self._begun = True
        reasons: list[str] = []
        for snapshot in self._loaded(self.trainable, reasons):
            self._older.clear()
            self.adopt(snapshot.version, snapshot.step, snapshot.entry)
            if self._reaches(self._newest()):
                return
            reasons.append(f"the log does not lead from {snapshot.version} to the run's version")
        self.version = ""
        self._check_run()
        why = "; ".join(reasons) or "no snapshot of it is stored"
        raise ModelError(
            f"the model of {self._component} in run {self._names.run} cannot be loaded ({why}): "
            f"steps since the snapshot are lost; go back to a checkpoint by `roomgrad model "
            f"{self._component} --rollback STEP`, or restore a backup by `roomgrad restore`"
        )

    def _check_run(self) -> None:
        """Raise EmptiedServer if this is another run: snapshots vanish while they are read."""
        token = self._call([b"HGET", self._names.run_info().encode(), b"token"]) or b""
        if self.run_token and token.decode() != self.run_token:
            raise EmptiedServer("the server was emptied, and the run starts again")

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots that the run points to, newest first."""
        key = self._names.model(self._component).encode()
        try:
            return pointers.from_json(self._call([b"HGET", key, pointers.FIELD]))
        except SnapshotError as error:
            raise ModelError(str(error)) from error

    def _followed(self) -> list[Snapshot]:
        """Return those that the log may lead on from: no checkpoint that is older than the log."""
        oldest = self._call([b"XRANGE", self._log.encode(), b"-", b"+", b"COUNT", b"1"])
        begin = _position(oldest[0][0].decode()) if oldest else (0, 0)
        found = self.snapshots()
        return [each for each in found if not each.checkpoint or _position(each.entry) >= begin]

    def _loaded(
        self, trainable: Trainable, reasons: list[str], until: float = math.inf
    ) -> Iterator[Snapshot]:
        """Load one snapshot after the other; yield those that are whole, add why others are not.

        Newer ones follow if others have replaced these meanwhile.

        until: the newest step that serves.
        """
        tried: list[Snapshot] = []
        while (found := self._followed()) != tried:
            tried = found
            for snapshot in (each for each in found if each.step <= until):
                try:
                    store = store_of(snapshot.place, self.execute, self.owner)
                    content = store.read(snapshot.place, snapshot.size, snapshot.sha256)
                except SnapshotError as error:
                    log.warning(
                        "a snapshot cannot be used, trying the one before", reason=str(error)
                    )
                    reasons.append(str(error))
                else:
                    trainable.load(content)
                    self._size = max(1, snapshot.size)
                    yield snapshot

    def execute(self, *words: bytes | memoryview) -> Any:
        """Execute a command, for a store."""
        return self._call(list(words))  # type: ignore[arg-type]

    @property
    def owner(self) -> Owner:
        """The model, as the stores of its snapshots name it."""
        return Owner(self._names, self._component, self.run_token)

    # older versions

    def weights_at(self, version: str) -> Any:
        """Return the weights of an older version, for a gradient of its forward pass.

        From now on as many versions are remembered as this one is old, within bounds. Raises
        MessageError if it can no longer be computed.
        """
        most = min(MOST_REMEMBERED, self.trainable.graphs_bytes // self._size)
        late = self.step - _step(version) + 2
        self._remembered, self._late_at = max(self._remembered, min(late, most), 1), self.step
        found = self._older.get(version)
        if found is None:
            found = self._older[version] = self._compute(version)
            self._forget()
        return found

    def keep(self, version: str, weights: Any) -> None:
        """Keep the weights of an older version for gradients of its forward passes."""
        self._older[version] = weights

    def apply(self, update: Any) -> None:
        """Apply an update that was committed; if it fails, the log has it for another attempt."""
        self._remember()
        try:
            self.trainable.apply(update)
        except Exception:
            self.version = ""
            raise

    def _remember(self) -> None:
        if self.step - self._late_at > FORGET_AFTER:
            self._remembered = 0
        if self._remembered:
            self._older[self.version] = self.trainable.weights()
        self._forget()

    def _forget(self) -> None:
        while len(self._older) > self._remembered:
            self._older.popitem(last=False)

    def _compute(self, version: str) -> Any:
        """Load a snapshot before this version into another model, and repeat the steps up to it.

        An older release has stored the weights themselves.
        """
        trainable = self._make()
        key = self._names.kept(self._component).encode()
        if weights := self._call([b"HGET", key, version.encode()]):
            older_release.load(trainable, weights)
            return trainable.weights()
        for snapshot in self._loaded(trainable, [], until=_step(version)):
            if self._repeats(trainable, snapshot, version):
                return trainable.weights()
        raise MessageError(
            f"the weights {version} of the forward pass are no longer stored: its root was open "
            f"for too long"
        )

    def _repeats(self, trainable: Trainable, snapshot: Snapshot, version: str) -> bool:
        """Repeat the steps since a snapshot; return whether they lead to this version."""
        now = snapshot.version
        for _, record in steps.records(self._call, self._log, snapshot.entry):
            if now == version:
                break
            if record.before == now:
                if not steps.replay(trainable, record):
                    return False
                now = record.version
        return now == version


def _step(version: str) -> int:
    step = version.partition("-")[0]
    return int(step) if step.isdecimal() else 0


def _position(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number)
