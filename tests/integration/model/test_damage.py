"""A snapshot that is missing, short or changed: the one before serves, or nothing changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roomgrad.errors import SnapshotError
from roomgrad.inspect import models
from roomgrad.snapshots.pointers import Snapshot
from tests.integration.model.conftest import Training, ended, one_process, stop
from tests.waiting import until

STEPS, SIZE, PIECE_BYTES = 30, 400, 1024
OFTEN = {
    "log_bytes": 0, "again_s": 0.01, "durable_s": 0.1, "size": SIZE, "piece_bytes": PIECE_BYTES,
}  # fmt: skip

Damage = Callable[[Training, Snapshot], Any]


def piece(training: Training, snapshot: Snapshot, number: int = 1) -> str:
    name = snapshot.place.removeprefix("redis:")
    return training.names.snapshot_piece("echo", name, number)


def file(snapshot: Snapshot) -> Path:
    return Path(snapshot.place.removeprefix("file://"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1500] ^= 1
    path.write_bytes(content)


def before(training: Training, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot before this one; that of the oldest is the newest."""
    stored = training.snapshots()
    return stored[(stored.index(snapshot) + 1) % len(stored)]


def old_piece(training: Training, snapshot: Snapshot) -> None:
    for number in range(-(-snapshot.size // PIECE_BYTES)):
        older = piece(training, before(training, snapshot), number)
        training.client.copy(older, piece(training, snapshot, number), replace=True)


DAMAGES: dict[str, Damage] = {
    "a piece is deleted": lambda t, s: t.client.delete(piece(t, s)),
    "a piece is changed": lambda t, s: t.client.setrange(piece(t, s), 100, b"\x01\x02"),
    "a piece is short": lambda t, s: t.client.set(piece(t, s), b"short"),
    "a file is deleted": lambda t, s: file(s).unlink(),
    "a file is changed": lambda t, s: flip(file(s)),
    "a piece is empty": lambda t, s: t.client.set(piece(t, s), b""),
    "a file is empty": lambda t, s: file(s).write_bytes(b""),
    "its pieces are those of an older one": old_piece,
    "its file is an older one": lambda t, s: shutil.copy(file(before(t, s)), file(s)),
    "a file is short": lambda t, s: file(s).write_bytes(file(s).read_bytes()[:2000]),
}


def trained(training: Training, store: Path | None) -> None:
    """Train, and stop: several snapshots are stored, the newest of the last step."""
    training.settings = dict(OFTEN)
    if store is not None:
        training.settings |= {"snapshots": store.as_uri(), "snapshot_redis_mib": 0}
    first = training.start()
    training.train(STEPS)
    training.echo.stop(first)
    until(lambda: training.snapshots()[0].step == STEPS)
    steps = [each.step for each in training.snapshots()]
    assert steps == sorted(set(steps), reverse=True)
    assert len(steps) >= 2


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(each, marks=pytest.mark.slow if "empty" in each or "older" in each else ())
        for each in DAMAGES
    ],
)
def test_the_snapshot_before_is_used(training: Training, how: str, tmp_path: Path) -> None:
    """The rest is repeated from the log, and a line names the snapshot and what it has."""
    trained(training, tmp_path if "file" in how else None)
    newest, before, *_ = training.snapshots()
    DAMAGES[how](training, newest)
    second = training.spawn()
    training.train(3)
    training.check_counts()
    log = stop(second)
    assert "a snapshot cannot be used, trying the one before" in log
    assert newest.place in log
    assert before.place not in log
    assert bytes(training.read(training.snapshots()[0])) == one_process(STEPS + 3, SIZE).dump()


@pytest.mark.parametrize(
    "how",
    [
        "a piece is changed",
        "a file is deleted",
        pytest.param("they have changed places", marks=pytest.mark.slow),
        pytest.param("the files have changed places", marks=pytest.mark.slow),
    ],
)
def test_without_any_snapshot_nothing_is_overwritten(
    training: Training, how: str, tmp_path: Path
) -> None:
    """The component ends, and says what is lost and what restores it."""
    trained(training, tmp_path if "file" in how else None)
    if how in DAMAGES:
        for snapshot in training.snapshots():
            DAMAGES[how](training, snapshot)
    else:
        change_places(training, *training.snapshots())
    keys = [training.key, training.names.steps("echo")]
    stored = [training.client.dump(key) for key in keys]
    log = ended(training.spawn(), 1)
    for snapshot in training.snapshots():
        assert snapshot.place in log
    sentence = log.splitlines()[-1]
    assert f"the model of echo in run {training.names.run} cannot be loaded" in sentence
    assert "steps since the snapshot are lost" in sentence
    assert "roomgrad restore" in sentence
    assert [training.client.dump(key) for key in keys] == stored
    with pytest.raises(SnapshotError, match=r"cannot be read: .*; go back .* `roomgrad restore`"):
        models.stored(training.client, training.names, "echo")


def change_places(training: Training, *snapshots: Snapshot) -> None:
    """Store each snapshot in the place of the one before, and the oldest in that of the newest."""
    contents = [training.read(each) for each in snapshots]
    for snapshot, content in zip(snapshots, [*contents[1:], contents[0]], strict=True):
        if snapshot.place.startswith("file:"):
            file(snapshot).write_bytes(content)
        else:
            for number, start in enumerate(range(0, snapshot.size, PIECE_BYTES)):
                part = bytes(content[start : start + PIECE_BYTES])
                training.client.set(piece(training, snapshot, number), part)
