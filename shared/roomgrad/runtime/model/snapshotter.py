"""When a snapshot of the model is taken, and the thread beside the loop that writes it."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import structlog

from roomgrad.commit import Commit
from roomgrad.errors import ConnectionLost, ModelError, SettingsError, SnapshotError
from roomgrad.messages import new_id
from roomgrad.redis.connection import Command, Connection, ReplyError
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.model import older_release
from roomgrad.runtime.model.follower import Follower
from roomgrad.runtime.model.log import Call
from roomgrad.runtime.model.writer import WANTED, SnapshotWriter, Taken
from roomgrad.runtime.status import Status
from roomgrad.snapshots import checkpoints, pointers
from roomgrad.snapshots.checkpoints import Policy
from roomgrad.snapshots.folder_store import FolderStore
from roomgrad.snapshots.orphans import OLD_S
from roomgrad.snapshots.pointers import NO_ENTRY
from roomgrad.snapshots.sharing import why_not_shared
from roomgrad.snapshots.stores import SnapshotStore

log = structlog.get_logger("roomgrad")

TWENTIETH = 20  # snapshots take a twentieth of the time at most
IDLE_REPLAY_S = 1.0  # of steps to repeat, from which an idle replica takes a snapshot
CHEAP_S = 0.05  # what a snapshot costs that an idle replica takes for any step
LOG_BYTES = 16 * 1024 * 1024  # of a small model; a larger one may log four times its state
AGAIN_S = 1.0  # between two looks whether another replica takes it
RETRY_S = 10.0  # after a snapshot that could not be written
BYTES_PER_S = 100e6  # of a snapshot, until this replica has taken one
LEASE_MS = 120_000
LATE = 10  # times the limit of what has to be repeated, from which it is told

WISHES = (WANTED, checkpoints.FIELD)  # fields of the model's hash that say when one is due

Hosts = Callable[[], Collection[str]]
"""Returns the hosts on which replicas of the component live."""


class Snapshotter:
    """Takes snapshots, one at a time for all replicas of a component."""

    def __init__(self, identity: Identity, connection: Connection, status: Status) -> None:
        names, component = identity.names, identity.component.name
        self._identity = identity
        self._status = status
        self._clock = status.clock
        self._connection = connection
        self._key = names.model(component)
        self._lease = names.snapshot_lease(component).encode()
        self._writer: SnapshotWriter | None = None
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        self._cost_s = 0.0  # what a snapshot costs; 0 if that is unknown
        self._size = 0
        self._clean_at = 0.0
        self._checked = False  # whether the store can be written
        self._wanted = False  # whether a snapshot is asked for
        self._keep: bytes | None = None  # the policy of checkpoints, as it is stored
        self._policy: Policy | None = None

    def _own_call(self, command: Command) -> Any:
        if not self._connection.connected:
            self._connection.connect()
        return self._connection.call(command)

    # the first one

    def prepare(self, follower: Follower, call: Call, hosts: Hosts) -> Commit | None:
        """Load the model of the run; if it has none, return the commit that stores the initial one.

        Raises ModelError if the stored model is of another network, and SettingsError at the start
        if no snapshot can be written.
        """
        self._writer = SnapshotWriter(follower.owner, self._clock, self._own_call)
        fields = (b"version", pointers.FIELD, b"weights", b"optimizer")
        version, stored, *older = call([b"HMGET", self._key.encode(), *fields])
        if version is not None and (stored is not None or None in older):
            self._size = max((each.size for each in follower.snapshots()), default=0)
            self._check_store(follower, hosts)
            self._load(follower, version.decode())
            return None
        if version is None:
            follower.begin_again()
            follower.adopt(f"0-{new_id()[:12]}", 0, NO_ENTRY)
        else:
            _take_over(follower, version.decode(), *older)
        taken = _copied(follower)
        self._size = taken.content.nbytes
        self._check_store(follower, hosts)
        return self._first(follower, taken, version, call)

    def _load(self, follower: Follower, version: str) -> None:
        """Bring the model up to date. Raises SettingsError if its snapshots are on other hosts."""
        try:
            follower.follow(version)
        except ModelError as error:
            if self._status.not_shared:
                raise SettingsError(f"{self._status.not_shared} ({error})") from error
            raise

    def _check_store(self, follower: Follower, hosts: Hosts) -> None:
        """Check at the start whether files can be written, and whether other hosts see them."""
        assert self._writer is not None
        store = self._writer.store(self._size, self._identity.settings)
        if self._checked or not isinstance(store, FolderStore):
            return
        try:
            store.check()
        except SnapshotError as error:
            raise SettingsError(str(error)) from error
        host, call = socket.gethostname(), follower.execute
        if reason := why_not_shared(store, call, follower.owner, host, hosts()):
            log.warning("other hosts cannot use the snapshots of this replica", reason=reason)
        self._status.not_shared = reason
        self._checked = True

    def _first(self, follower: Follower, taken: Taken, version: bytes | None, call: Call) -> Commit:
        writer = SnapshotWriter(follower.owner, self._clock, call)
        began = time.monotonic()
        snapshot = writer.write(taken, self._store(writer, taken))
        self._cost_s = time.monotonic() - began
        commit = writer.pointing([snapshot])
        commit.same(self._key, b"version", version)
        commit.do(b"HSET", self._key, b"version", snapshot.version.encode())
        commit.do(b"HSET", self._key, b"step", b"%d" % snapshot.step)
        return commit

    def rebase(self, follower: Follower, call: Call) -> None:
        """Let the run continue with the bits of this machine, which are not those of the run.

        If the run has moved on meanwhile, it is followed again.
        """
        self.wait()  # the thread writes from the buffer of the last copy
        writer = SnapshotWriter(follower.owner, self._clock, call)
        taken = dataclasses.replace(_copied(follower), version=f"{follower.step}-{new_id()[:12]}")
        snapshot = writer.write(taken, self._store(writer, taken))
        if writer.replace(snapshot, follower.version, follower.step):
            follower.adopt(taken.version, taken.step, taken.entry)
        else:
            follower.reload()

    def stage(self, follower: Follower, call: Call, taken: Taken, commit: Commit) -> None:
        """Write a snapshot of another state, and stage the pointer to it. Raises SnapshotError."""
        writer = SnapshotWriter(follower.owner, self._clock, call)
        writer.stage(writer.write(taken, self._store(writer, taken)), commit)

    def wait(self) -> None:
        """Wait until the snapshot that is being written is finished."""
        if self._thread is not None:
            self._thread.join()

    # when

    def read_wishes(self, wanted: bytes | None, keep: bytes | None) -> None:
        """Take note of the fields `WISHES` of the model's hash."""
        self._wanted = wanted is not None
        if keep != self._keep:
            self._keep, self._policy = keep, checkpoints.from_json(keep)

    def consider(self, follower: Follower, *, idle: bool) -> None:
        """Begin to write a snapshot if one is due, and no replica does."""
        if not _has_steps(follower) or not self._is_due(follower, idle):
            return
        now = time.monotonic()
        if now >= self._not_before or self._at_multiple(follower.step):
            self._not_before = now + AGAIN_S
            self._tell_late(follower)
            if not self._busy:
                self._begin_if_due(follower, idle)

    def stop(self, follower: Follower) -> None:
        """Finish what is being written, and write what no snapshot contains yet."""
        self.wait()
        self._wanted = True
        if _has_steps(follower) and (thread := self._begin_if_due(follower, idle=False)):
            thread.join()
        self._connection.close()

    @property
    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _is_due(self, follower: Follower, idle: bool) -> bool:
        if self._wanted or self._is_checkpoint_due(follower):
            return True
        if idle and (follower.replay_s > IDLE_REPLAY_S or self._cost_s < CHEAP_S):
            return True
        return self._used(follower) > 1

    def _is_checkpoint_due(self, follower: Follower) -> bool:
        newest = follower.step - follower.replayed
        return self._policy is not None and self._policy.is_due(follower.step, newest)

    def _at_multiple(self, step: int) -> bool:
        return self._policy is not None and step % self._policy.every == 0

    def _used(self, follower: Follower) -> float:
        """Return the share that is used of what may have to be repeated."""
        limit_s = max(self._identity.settings.replay_s, TWENTIETH * self._cost_s)
        limit_bytes = max(LOG_BYTES, 4 * self._size)
        return max(follower.replay_s / limit_s, follower.replay_bytes / limit_bytes)

    def _still_due(self, follower: Follower, idle: bool) -> bool:
        """Return whether it is due although others take snapshots, too; then take the lease."""
        if found := follower.snapshots():
            follower.count_from(found[0].step)
            self._size = found[0].size
            self._cost_s = self._cost_s or self._size / BYTES_PER_S
        if not follower.replayed or not self._is_due(follower, idle):
            return False
        return self._take_lease(follower)

    def _take_lease(self, follower: Follower) -> bool:
        """Take the lease, also from a replica that is dead, or that this one could not give back.

        Two replicas that find it dead may both take it, and write a snapshot too many.
        """
        names, own = self._identity.names, self._identity.consumer.encode()
        take = (b"SET", self._lease, own, b"PX", b"%d" % LEASE_MS)
        if follower.execute(*take, b"NX") is not None:
            return True
        holder = follower.execute(b"GET", self._lease) or own
        alive = names.alive(holder.decode()).encode()
        if holder != own and follower.execute(b"EXISTS", alive):
            return False
        return follower.execute(*take) is not None

    def _tell_late(self, follower: Follower) -> None:
        if self._busy and self._used(follower) > LATE:
            self._status.no_snapshot = (
                f"a snapshot is still being written after {follower.replayed:,} steps, which take "
                f"{follower.replay_s:,.0f} s to repeat"
            )

    # writing

    def _begin_if_due(self, follower: Follower, idle: bool) -> threading.Thread | None:
        try:
            return self._begin(follower) if self._still_due(follower, idle) else None
        except ReplyError as error:  # no lease: the server's memory is full
            self._failed(error)
            return None

    def _begin(self, follower: Follower) -> threading.Thread:
        began = time.monotonic()
        taken = _copied(follower)
        thread = threading.Thread(target=self._run, name="snapshot", args=(taken, began))
        self._thread = thread
        thread.start()
        return thread

    def _store(self, writer: SnapshotWriter, taken: Taken) -> SnapshotStore:
        return writer.store(taken.content.nbytes, self._identity.settings)

    def _run(self, taken: Taken, began: float) -> None:
        assert self._writer is not None
        try:
            store = self._store(self._writer, taken)
            self._writer.point(self._writer.write(taken, store))
            self._cost_s, self._size = time.monotonic() - began, taken.content.nbytes
            self._succeeded()
            self._clean(self._writer, store)
        except (SnapshotError, ConnectionLost, ReplyError, OSError) as error:
            self._failed(error)
        try:
            self._own_call([b"UNLINK", self._lease])
        except (ConnectionLost, ReplyError, OSError):
            self._connection.close()

    def _clean(self, writer: SnapshotWriter, store: SnapshotStore) -> None:
        """Delete now and then what other writers have left.

        This comes after a snapshot: a writer that was stopped for long then finds a newer one, and
        points to none that was deleted here.
        """
        if time.monotonic() < self._clean_at:
            return
        self._clean_at = time.monotonic() + OLD_S
        try:
            writer.delete_orphans(store)
        except SnapshotError as error:
            log.warning("old snapshots were not deleted", reason=str(error))

    def _succeeded(self) -> None:
        if self._status.no_snapshot:
            log.info("a snapshot was taken again")
        self._status.no_snapshot = ""

    def _failed(self, error: Exception) -> None:
        self._not_before = time.monotonic() + RETRY_S
        if not self._status.no_snapshot:  # one line, however long it lasts
            log.warning("no snapshot was taken, trying again", reason=str(error))
        self._status.no_snapshot = f"it cannot take a snapshot: {error}"


def _has_steps(follower: Follower) -> bool:
    """Return whether it has steps that no snapshot contains, and the bits of the run."""
    return follower.replayed > 0 and not follower.differs


def _copied(follower: Follower) -> Taken:
    content = follower.trainable.dump()
    return Taken(follower.version, follower.step, follower.entry, content)


def _take_over(follower: Follower, version: str, weights: bytes, optimizer: bytes) -> None:
    """Load what an older release wrote, which has no log."""
    step = int(version.partition("-")[0])
    older_release.load(follower.trainable, weights, optimizer, step)
    follower.adopt(version, step, NO_ENTRY)
