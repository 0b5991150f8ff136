"""A follower and a snapshot writer on a server, without a replica: what each check is for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from roomgrad.clock import ServerClock
from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import ConnectionLost, EmptiedServer, StepError
from roomgrad.names import Names
from roomgrad.redis.heartbeats import STOPPED
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.model import log as steps
from roomgrad.runtime.model import writer
from roomgrad.runtime.model.follower import Follower
from roomgrad.runtime.model.log import StepRecord
from roomgrad.runtime.model.snapshotter import Snapshotter
from roomgrad.runtime.model.writer import SnapshotWriter, Taken
from roomgrad.runtime.status import Status
from roomgrad.snapshots import pointers
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.pointers import NO_ENTRY, Snapshot
from roomgrad.snapshots.stores import SnapshotStore, open_store
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.model.learner import LearnerSettings, Squares, Step, component

GRADIENT = np.ones(4, "<f4")


class Failing(Squares):
    """Fails in the middle of some steps."""

    failures = 0

    def apply(self, update: Step) -> None:
        self.speed = self.speed + update.gradient
        if self.failures:
            self.failures -= 1
            raise RuntimeError("half done")
        self.speed = self.speed - update.gradient
        super().apply(update)


@dataclass
class Run:
    """A model of a run: its log, and its snapshots."""

    echo: EchoRun
    commands: list[bytes] = field(default_factory=list)
    version: str = "0-a"
    step: int = 0
    entry: str = NO_ENTRY
    model: Squares = field(default_factory=Squares)

    def __post_init__(self) -> None:
        self.names: Names = self.echo.names
        self.client = self.echo.client
        self.client.script_load(SCRIPT)
        self.key = self.names.model("echo")
        self.owner = Owner(self.names, "echo", "token")
        self.writer = SnapshotWriter(self.owner, ServerClock(), self.call)
        self.writer.point_to([self.taken()], [], commit := Commit())
        commit.do(b"HSET", self.key, b"version", self.version.encode(), b"step", b"0")
        assert self.writer.evaluate(commit) == [b"ok"]

    def call(self, command: Any) -> Any:
        """Execute a command as a connection does: errors are returned."""
        self.commands.append(bytes(command[0]))
        try:
            return self.client.execute_command(*command)
        except redis.ResponseError as error:
            return error

    def take(self, before: str = "", version: str = "", fingerprint: str = "") -> str:
        """Take a step; one of another history if `before` is another version."""
        update = Step(GRADIENT, 0)
        body = steps.gradient_body(self.model, update)
        version = version or f"{self.step + 1}-a"
        record = StepRecord(before or self.version, version, self.step + 1, body, fingerprint)
        entry = self.client.xadd(self.names.steps("echo"), pairs(record)).decode()
        if not before:
            self.model.apply(update)
            self.version, self.step, self.entry = version, self.step + 1, entry
            self.client.hset(self.key, "version", version)
        return entry

    def taken(self, store: SnapshotStore | None = None, **more: Any) -> Snapshot:
        """Write a snapshot of the state now; nothing points to it."""
        content = memoryview(bytes(self.model.dump()))
        about = {"version": self.version, "step": self.step, "entry": self.entry, **more}
        taken = Taken(**about, content=content)
        return self.writer.write(taken, store or self.writer.store(1, LearnerSettings(run="r")))

    def point(self, store: SnapshotStore | None = None) -> Snapshot:
        snapshot = self.taken(store)
        self.writer.point(snapshot)
        return snapshot

    def pointed(self) -> list[str]:
        """Return the versions of the snapshots that the run points to."""
        found = pointers.from_json(self.client.hget(self.key, pointers.FIELD))
        return [each.version for each in found]

    def pieces(self, snapshot: Snapshot) -> list[str]:
        return self.writer._keys(snapshot)

    def follower(self, made: Squares | None = None) -> Follower:
        model = made or Squares()
        return Follower(self.names, "echo", lambda: model, self.checked)

    def checked(self, command: Any) -> Any:
        return self.client.execute_command(*command)

    def log(self) -> list[str]:
        return [entry.decode() for entry, _ in self.client.xrange(self.names.steps("echo"))]


def pairs(record: StepRecord) -> Any:
    found = record.fields()
    return dict(zip(found[::2], found[1::2], strict=True))


@pytest.fixture
def run(embedded_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(writer, "DURABLE_S", 0.0)  # each snapshot is durable at once
    for echo in make_echo_run(embedded_url):
        yield Run(echo)


# the follower


def test_steps_of_another_history_are_passed_over(run: Run) -> None:
    """A server that fell back numbers its steps again."""
    run.take()
    run.take(before="7-b", version="8-b")
    run.take()
    follower = run.follower()
    follower.follow_newest()
    assert follower.version == run.version
    assert bytes(follower.trainable.dump()) == bytes(run.model.dump())


def test_a_step_that_fails_half_way_is_begun_again(run: Run) -> None:
    """From the snapshot: the state in between belongs to no version."""
    follower = run.follower(model := Failing())
    follower.follow_newest()
    run.take()
    model.failures = 2
    follower.follow_newest()
    assert bytes(follower.trainable.dump()) == bytes(run.model.dump())
    run.take()
    model.failures = 3
    with pytest.raises(StepError, match="cannot be applied"):
        follower.follow_newest()
    assert run.client.hexists(run.key, STOPPED)


def test_an_own_step_that_fails_half_way_is_repeated_from_the_log(run: Run) -> None:
    follower = run.follower(model := Failing())
    follower.follow_newest()
    run.take()
    model.failures = 1
    with pytest.raises(RuntimeError):
        follower.apply(Step(GRADIENT, 0))
    follower.follow_newest()
    assert bytes(follower.trainable.dump()) == bytes(run.model.dump())


def test_a_state_that_cannot_be_loaded_is_not_gone_on_from(run: Run) -> None:
    follower = run.follower()
    follower.follow_newest()
    with pytest.raises(ValueError, match="buffer"):
        follower.replace(b"x", "0-b")
    assert follower.version == ""


def test_other_bits_are_noticed_by_the_fingerprint(run: Run) -> None:
    follower = run.follower()
    run.take(fingerprint=Squares().fingerprint())
    follower.follow_newest()
    assert not follower.differs
    run.take(fingerprint="other")
    follower.follow_newest()
    assert follower.differs


def test_an_emptied_server_is_told_from_one_without_steps(run: Run) -> None:
    follower = run.follower()
    follower.follow_newest()
    run.client.delete(run.key)
    with pytest.raises(EmptiedServer):
        follower.follow_newest()


@pytest.mark.parametrize("begun", [False, True], ids=["empty", "begun again"])
def test_a_server_that_is_emptied_while_a_snapshot_is_read_is_told(run: Run, begun: bool) -> None:
    """Also if another replica has begun the run again meanwhile."""
    run.client.hset(run.names.run_info(), "token", "before")

    def call(command: Any) -> Any:
        if command[0] == b"GET":  # a piece, of which the size is known
            run.client.delete(*run.client.scan_iter(run.names.everything()))
            if begun:
                run.client.hset(run.names.run_info(), "token", "after")
        return run.checked(command)

    follower = Follower(run.names, "echo", Squares, call)
    follower.run_token = "before"
    with pytest.raises(EmptiedServer):
        follower.follow_newest()


def test_a_version_that_was_read_before_the_own_step_is_not_gone_back_to(run: Run) -> None:
    """Nor is a snapshot loaded for it."""
    follower = run.follower()
    follower.follow_newest()
    before = run.version
    entry = run.take()
    update = Step(GRADIENT, 0)
    follower.apply(update)
    body = steps.gradient_body(run.model, update)
    follower.stepped(StepRecord(before, run.version, 1, body), entry, 0.0)
    follower.trainable.weight = follower.trainable.weight + 1  # lost if a snapshot is loaded
    weights = follower.trainable.weights()
    follower.follow(before)
    assert (follower.trainable.weights() == weights).all()


def test_a_damaged_snapshot_is_passed_over(run: Run) -> None:
    """The one before leads on."""
    run.take()
    newest = run.point()
    run.client.set(run.pieces(newest)[0], b"x" * newest.size)
    follower = run.follower()
    follower.follow_newest()
    assert bytes(follower.trainable.dump()) == bytes(run.model.dump())


def test_weights_of_an_older_version_are_computed_by_its_history(run: Run) -> None:
    """From a snapshot before it, although newer ones are stored."""
    run.take(before="7-b", version="8-b")
    run.take()
    version, weights = run.version, run.model.weights()
    run.take()
    run.point()
    follower = run.follower()
    follower.follow_newest()
    follower._make = Squares
    assert (follower.weights_at(version) == weights).all()


# the writer


def test_pieces_of_a_snapshot_live_as_long_as_its_pointer(run: Run) -> None:
    run.take()
    first = run.point()
    assert [run.client.ttl(key) for key in run.pieces(first)] == [-1]
    for _ in range(3):
        run.take()
        run.point()
    assert not run.client.exists(*run.pieces(first))


def test_a_snapshot_whose_piece_has_expired_is_not_pointed_to(run: Run) -> None:
    run.take()
    snapshot = run.taken()
    run.client.delete(*run.pieces(snapshot))
    run.writer.point(snapshot)
    assert run.pointed() == ["0-a"]


def test_a_snapshot_of_a_lost_state_is_deleted(run: Run) -> None:
    """The server fell back meanwhile."""
    run.take()
    snapshot = run.taken()
    run.client.delete(run.names.steps("echo"))
    run.writer.point(snapshot)
    assert run.pointed() == ["0-a"]
    assert not run.client.exists(*run.pieces(snapshot))


def test_an_older_snapshot_does_not_replace_a_newer_one(run: Run) -> None:
    """Its writer was frozen."""
    run.take()
    late = run.taken()
    run.take()
    run.point()
    run.writer.point(late)
    assert run.pointed() == ["2-a", "0-a"]
    assert not run.client.exists(*run.pieces(late))


class Interrupted(SnapshotWriter):
    """Another program does something between what it reads and its commit."""

    def __init__(self, run: Run, meanwhile: Any) -> None:
        super().__init__(run.owner, ServerClock(), run.call)
        self._meanwhile = meanwhile

    def evaluate(self, commit: Commit) -> Any:
        meanwhile, self._meanwhile = self._meanwhile, lambda: None
        meanwhile()
        return super().evaluate(commit)


def test_two_writers_do_not_overwrite_each_others_pointers(run: Run) -> None:
    run.take()
    first = run.taken()
    run.take()
    second = run.taken()
    Interrupted(run, lambda: run.writer.point(first)).point(second)
    assert run.pointed()[:2] == ["2-a", "1-a"]


def test_the_run_goes_on_with_other_bits_from_its_own_version(run: Run) -> None:
    """A step that another replica takes meanwhile is not lost."""
    run.take()
    version = run.version
    snapshot = run.taken(version="1-b")
    assert not Interrupted(run, run.take).replace(snapshot, version, 1)
    assert run.client.hget(run.key, "version") == b"2-a"


def test_the_log_is_kept_since_the_older_snapshot(run: Run) -> None:
    """And no longer."""
    entries = []
    for _ in range(5):
        entries.append(run.take())
        run.point()
    assert run.pointed() == ["5-a", "4-a"]
    assert run.log() == entries[3:]


def test_the_log_is_kept_since_the_oldest_open_forward(run: Run) -> None:
    """Its gradient is computed at its weights."""
    run.take()
    run.client.hset(run.names.kept("echo"), f"{run.version}:open", 1)
    first = run.entry
    run.point()
    for _ in range(4):
        run.take()
        run.point()
    assert run.log()[0] == first


def test_files_are_deleted_behind_the_pointer(run: Run, tmp_path: Path) -> None:
    """A writer that dies before its commit has deleted nothing that the run points to."""
    store = open_store(f"file://{tmp_path}", run.owner)
    for _ in range(3):
        run.take()
        run.point(store)
    files = set(store.places())
    run.take()

    def die() -> None:
        raise ConnectionLost("died")

    dying = Interrupted(run, die)
    dying._durable = 2  # it drops the older one of those two
    with pytest.raises(ConnectionLost):
        dying.point(run.taken(store))
    assert files <= set(store.places())


def test_the_pointer_is_on_the_disk_before_files_are_deleted(run: Run, tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}", run.owner)
    there: list[int] = []
    call = run.call

    def counted(command: Any) -> Any:
        if command[0] == b"WAITAOF":
            there.append(len(store.places()))
        return call(command)

    run.writer._call = counted
    for _ in range(4):
        run.take()
        run.point(store)
    assert there[-1] == len(store.places()) + 1


def test_three_snapshots_are_kept_if_the_server_does_not_tell(run: Run) -> None:
    """Of what is on its disk, without an append-only file for example."""
    call = run.call
    run.writer._call = lambda command: [0, 0] if command[0] == b"WAITAOF" else call(command)
    for _ in range(5):
        run.take()
        run.point()
    assert run.pointed() == ["5-a", "4-a", "3-a"]


# the lease of the snapshotter


@pytest.mark.parametrize("holder", ["living", "dead", "own", "none"])
def test_the_lease_is_that_of_a_living_replica(run: Run, holder: str) -> None:
    identity = Identity.create(component(), LearnerSettings(run=run.names.run))
    snapshotter = Snapshotter(identity, None, Status())  # type: ignore[arg-type]
    key, other = run.names.snapshot_lease("echo"), "echo~other"
    if holder != "none":
        run.client.set(key, identity.consumer if holder == "own" else other)
    if holder == "living":
        run.client.set(run.names.alive(other), "{}")
    assert snapshotter._take_lease(run.follower()) == (holder != "living")
