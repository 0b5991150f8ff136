"""Writes a snapshot into its store, and points the run to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from roomgrad.clock import ServerClock
from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import SnapshotError
from roomgrad.redis.connection import Command
from roomgrad.redis.heartbeats import STOPPED
from roomgrad.runtime.model.log import StepRecord, state_body
from roomgrad.settings import RuntimeSettings
from roomgrad.snapshots import checkpoints, pointers
from roomgrad.snapshots.checkpoints import Policy
from roomgrad.snapshots.orphans import orphans
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.pointers import Score, Snapshot
from roomgrad.snapshots.redis_store import RedisStore
from roomgrad.snapshots.stores import SnapshotStore, open_store, store_of

log = structlog.get_logger("roomgrad")

DURABLE_S = 30.0  # by then a server has written what it acknowledged, and its replicas have it
MOST = 6  # snapshots that are kept, also for open roots that are older than all of them
TRIES = 3  # to point to a snapshot while others do

WANTED = b"wanted"  # field of the model's hash: a snapshot is asked for
MIB = 1024 * 1024


@dataclass(frozen=True)
class Taken:
    """A state that was copied: its version, its step, and the last entry of the log in it."""

    version: str
    step: int
    entry: str
    content: memoryview


class SnapshotWriter:
    """Writes over one connection."""

    def __init__(self, owner: Owner, clock: ServerClock, call: Callable[[Command], Any]) -> None:
        names, component = owner.names, owner.component
        self._owner = owner
        self._clock = clock
        self._call = call
        self._key = names.model(component)
        self._log = names.steps(component)
        self._kept = names.kept(component)
        self._durable = 0  # durable snapshots that are kept; 0 if that is unknown

    def store(self, size: int, settings: RuntimeSettings) -> SnapshotStore:
        """Return the store for a snapshot of so many bytes."""
        if size <= settings.snapshot_redis_mib * MIB:
            return RedisStore(self.execute, self._owner)
        return open_store(settings.snapshots, self._owner)

    def write(self, taken: Taken, store: SnapshotStore) -> Snapshot:
        """Store a state; nothing points to it yet. Raises SnapshotError."""
        place, sha256 = store.write(taken.version, taken.content)
        return Snapshot(
            version=taken.version,
            step=taken.step,
            entry=taken.entry,
            place=place,
            size=taken.content.nbytes,
            sha256=sha256,
            at=self._clock.time(),
        )

    def point(self, snapshot: Snapshot) -> None:
        """Point the run to a snapshot, and delete those that it no longer needs.

        A snapshot that is not newer than the newest one, or of a state that the run has lost, is
        deleted instead. Raises SnapshotError.
        """
        for _ in range(TRIES):
            stored = self._stored()
            before = pointers.from_json(stored[0])
            if (before and before[0].step >= snapshot.step) or not self._is_of_run(snapshot):
                break
            commit = Commit()
            dropped = self._stage(snapshot, commit, *stored)
            outcome, *reason = self.evaluate(commit)
            if outcome == b"ok":
                files = [each for each in dropped if not self._keys(each)]
                self._wait_until_written(files)
                self._delete_files(files)
                return
            if outcome != b"stale":
                raise SnapshotError(f"the server refused: {reason[0].decode(errors='replace')}")
        self._delete(snapshot)

    def stage(self, snapshot: Snapshot, commit: Commit) -> None:
        """Stage the pointer to a snapshot; files that it replaces are deleted later, as orphans."""
        self._stage(snapshot, commit, *self._stored())

    def _stored(self) -> tuple[bytes | None, bytes | None]:
        """Return the pointers and the policy of checkpoints, as they are stored."""
        fields = (pointers.FIELD, checkpoints.FIELD)
        value, keep = self.execute(b"HMGET", self._key.encode(), *fields)
        return value, keep

    def _stage(
        self, snapshot: Snapshot, commit: Commit, value: bytes | None, keep: bytes | None
    ) -> list[Snapshot]:
        """Stage the pointer to a snapshot; return those that the run no longer points to then."""
        stored = self._marked(snapshot, pointers.from_json(value), checkpoints.from_json(keep))
        recent = self._recent(stored)
        kept = [each for each in stored if each.checkpoint or each in recent]
        dropped = [each for each in stored if each not in kept]
        self.point_to(kept, dropped, commit)
        commit.same(self._key, pointers.FIELD, value)
        commit.do(b"XTRIM", self._log, b"MINID", recent[-1].entry.encode())
        return dropped

    def replace(self, snapshot: Snapshot, version: str, step: int) -> bool:
        """Let the run continue with this snapshot in place of a version; False if it moved on."""
        value = self.execute(b"HGET", self._key.encode(), pointers.FIELD)
        commit = self.pointing([snapshot, *pointers.from_json(value)])
        commit.same(self._key, b"version", version.encode())
        commit.same(self._key, pointers.FIELD, value)
        commit.do(b"HSET", self._key, b"version", snapshot.version.encode())
        record = StepRecord(version, snapshot.version, step, state_body())
        commit.do(b"XADD", self._log, b"*", *record.fields())
        return bool(self.evaluate(commit)[0] == b"ok")

    def pointing(self, kept: Sequence[Snapshot], dropped: Sequence[Snapshot] = ()) -> Commit:
        """Return the commit that points to these snapshots, and drops the others."""
        commit = Commit()
        self.point_to(kept, dropped, commit)
        return commit

    def point_to(
        self, kept: Sequence[Snapshot], dropped: Sequence[Snapshot], commit: Commit
    ) -> None:
        """Stage that the run points to these snapshots, and no longer to the others."""
        commit.do(b"HDEL", self._key, WANTED, STOPPED, b"weights", b"optimizer")
        commit.do(b"HSET", self._key, pointers.FIELD, pointers.to_json(kept))
        for key in self._keys(kept[0]):
            commit.stored(key)
            commit.do(b"PERSIST", key)
        for snapshot in dropped:
            for key in self._keys(snapshot):
                commit.do(b"UNLINK", key)

    def _marked(
        self, snapshot: Snapshot, before: Sequence[Snapshot], policy: Policy | None
    ) -> list[Snapshot]:
        """Return all snapshots, of which those that are to stay are checkpoints."""
        if policy is None:
            return [snapshot, *before]
        if policy.is_due(snapshot.step, before[0].step if before else 0):
            snapshot = replace(snapshot, checkpoint=True, score=self._score(policy, before))
        return policy.apply([snapshot, *before])

    def _score(self, policy: Policy, before: Sequence[Snapshot]) -> Score | None:
        try:
            return policy.score(self.execute, self._owner.names, before)
        except SnapshotError as error:
            log.warning("a checkpoint has no score", metric=policy.best, reason=str(error))
            return None

    def _keys(self, snapshot: Snapshot) -> list[str]:
        return self._store_of(snapshot).keys(snapshot.place, snapshot.size)

    def _is_of_run(self, snapshot: Snapshot) -> bool:
        """Return whether the run has the version: a server that fell back may have lost it."""
        entry = snapshot.entry.encode()
        found = self.execute(b"XRANGE", self._log.encode(), entry, entry)
        return any(StepRecord.of(fields).version == snapshot.version for _, fields in found)

    def _recent(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Return those that replicas need, with the log since the oldest of them: at most MOST.

        The newest one is; of the others that are not durable yet, some, of which each becomes a
        durable one; of those that are, the newest, and those of open roots.
        """
        latest, oldest_root = self._clock.time() - DURABLE_S, self._oldest_open_step()
        durable = [each for each in snapshots if each.at < latest]
        kept = _spaced([each for each in snapshots if each.at >= latest])
        for number, each in enumerate(durable):
            enough = number >= (self._durable or 3) and kept[-1].step <= oldest_root
            if enough or len(kept) >= MOST:
                break
            kept.append(each)
        return kept

    def _oldest_open_step(self) -> float:
        """Return the step of the oldest version whose forward pass awaits its gradient."""
        fields = self.execute(b"HKEYS", self._kept.encode())
        steps = (field.partition(b"-")[0] for field in fields)
        return min((int(step) for step in steps if step.isdigit()), default=float("inf"))

    def _wait_until_written(self, files: Sequence[Snapshot]) -> None:
        """Wait until the server has the pointer on its disk, if files are to be deleted then.

        Three snapshots are kept if it does not tell.
        """
        if files or not self._durable:
            reply = self._call([b"WAITAOF", b"1", b"0", b"2000"])
            self._durable = 2 if isinstance(reply, list) and reply[0] else 3

    def _delete_files(self, snapshots: Sequence[Snapshot]) -> None:
        for snapshot in snapshots:
            self._delete(snapshot)

    def delete_orphans(self, store: SnapshotStore) -> None:
        """Delete old snapshots that nothing points to, in Redis and in another store.

        A writer that died leaves them, or a server that fell back to an older state. Raises
        SnapshotError.
        """
        for each in {
            each.url: each for each in (store, RedisStore(self.execute, self._owner))
        }.values():
            for place in orphans(each, self._pointers):
                each.delete(place)

    def _pointers(self) -> list[Snapshot]:
        return pointers.from_json(self.execute(b"HGET", self._key.encode(), pointers.FIELD))

    def _delete(self, snapshot: Snapshot) -> None:
        self._store_of(snapshot).delete(snapshot.place)

    def _store_of(self, snapshot: Snapshot) -> SnapshotStore:
        return store_of(snapshot.place, self.execute, self._owner)

    def evaluate(self, commit: Commit) -> Any:
        """Apply a commit; return the reply of the script."""
        reply = self._call(commit.command())
        if isinstance(reply, Exception) and str(reply).startswith("NOSCRIPT"):
            self.execute(b"SCRIPT", b"LOAD", SCRIPT)
            reply = self._call(commit.command())
        if isinstance(reply, Exception):
            raise reply
        return reply

    def execute(self, *words: bytes | memoryview) -> Any:
        """Execute a command. Raises what the server replies as an error."""
        reply = self._call(list(words))  # type: ignore[arg-type]
        if isinstance(reply, Exception):
            raise reply
        return reply


def _spaced(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Return the newest one, and of those before it, from the oldest on, some that lie apart."""
    kept: list[Snapshot] = []
    for each in reversed(snapshots[1:]):
        if not kept or each.at - kept[-1].at >= DURABLE_S / 2:
            kept.append(each)
    return [*snapshots[:1], *reversed(kept)]
