"""A run is saved with the snapshots of its model, wherever they are, and goes on elsewhere."""

from __future__ import annotations

import dataclasses
import io
import threading
from pathlib import Path
from typing import Any

import pytest

from roomgrad import RuntimeSettings
from roomgrad.errors import FormatError, RoomgradError, ServerError, SnapshotError
from roomgrad.inspect import models
from roomgrad.names import Names
from roomgrad.ops.backup import archive
from roomgrad.ops.backup.records import KeyHeader
from roomgrad.ops.backup.restore import Target, restore
from roomgrad.ops.backup.save import Saved, save
from roomgrad.snapshots import pieces, pointers
from tests.integration.model.conftest import Training, one_process, stop
from tests.waiting import LIMIT_S, until

SIZE = 400
OFTEN = {"log_bytes": 0, "again_s": 0.01, "durable_s": 0.1, "size": SIZE}
IN_FILES = {"snapshot_redis_mib": 0.0}


def in_redis(folder: Path) -> dict[str, Any]:
    return {}


def in_files(folder: Path) -> dict[str, Any]:
    return {**IN_FILES, "snapshots": folder.as_uri()}


def by_fsspec(folder: Path) -> dict[str, Any]:
    return {**IN_FILES, "snapshots": f"local://{folder}"}


def put(
    training: Training, path: Path, *, run: str = "", fresh: bool = False, **where: Any
) -> None:
    settings = RuntimeSettings(**where)
    with path.open("rb") as file:
        restore(training.client, file, path.name, run, fresh=fresh, settings=settings)


def saved(training: Training, path: Path) -> Saved:
    return save(training.client, training.names, path)


def moved(training: Training, path: Path, where: dict[str, Any]) -> Training:
    """Return the run in a file, restored under another name into other stores."""
    run = f"{training.names.run}-{path.stem}"
    put(training, path, run=run, **where)
    echo = dataclasses.replace(training.echo, names=Names(run))
    return Training(echo, {**training.settings, **where}, number=training.step())


def snapshot_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.snapshot"))


def check_equal(training: Training, steps: int) -> None:
    training.check(steps)
    until(lambda: training.snapshots()[0].step == steps)
    assert bytes(training.read(training.snapshots()[0])) == one_process(steps, SIZE).dump()


@pytest.mark.parametrize(
    ("store", "to"),
    [
        (in_redis, in_files),
        (in_files, in_redis),
        (in_files, in_files),
        (in_files, by_fsspec),
        (by_fsspec, in_files),
    ],
)
def test_a_restored_run_goes_on_to_the_same_bits(
    training: Training, tmp_path: Path, store: Any, to: Any
) -> None:
    """From each kind of store into each, with snapshots of its own, while the run goes on."""
    training.settings = {**OFTEN, **store(tmp_path / "one")}
    process = training.spawn()
    training.train(20)
    until(lambda: training.snapshots()[0].step == 20)
    training.train(5)
    assert saved(training, tmp_path / "again.backup").warnings == ()
    again = moved(training, tmp_path / "again.backup", to(tmp_path / "two"))
    pointed = [each.place for each in again.snapshots()]
    assert pointed
    assert not set(pointed) & {each.place for each in training.snapshots()}
    training.train(5)
    stop(process)
    check_equal(training, 30)
    again.check(25)
    assert not again.client.hexists(again.key, "snapshot_probe")
    other = again.spawn()
    again.train(15)
    check_equal(again, 40)
    stop(other)


def test_a_gradient_of_an_older_version_comes_home_after_a_restore(
    training: Training, tmp_path: Path
) -> None:
    """The snapshots that open roots need are in the backup, too."""
    training.settings = {**OFTEN, **in_files(tmp_path / "one"), "durable_s": 0.0}
    process = training.spawn()
    training.train(1)
    waiting = training.echo.wait_reply(training.open(number=100))
    for _ in range(3):
        training.train(1)
        until(lambda: training.snapshots()[0].step == training.number)
    stop(process)
    assert len(training.snapshots()) > 3
    saved(training, tmp_path / "again.backup")
    again = moved(training, tmp_path / "again.backup", in_redis(tmp_path))
    assert [each.version for each in again.snapshots()] == [
        each.version for each in training.snapshots()
    ]
    for run in (training, again):
        process = run.spawn()
        run.answer(waiting, 100)
        run.home(waiting)
        stop(process)
    assert again.read(again.snapshots()[0]) == training.read(training.snapshots()[0])


def missing(file: Path) -> str:
    file.unlink()
    return "is missing"


def changed(file: Path) -> str:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return "was changed"


def short(file: Path) -> str:
    file.write_bytes(file.read_bytes()[:-1])
    return "a part of it is missing"


@pytest.mark.parametrize("damage", [missing, changed, short])
def test_a_damaged_snapshot_is_named_and_the_one_before_is_saved(
    training: Training, tmp_path: Path, damage: Any
) -> None:
    """Without any that is whole there is no backup."""
    training.settings = {**OFTEN, **in_files(tmp_path / "one")}
    process = training.spawn()
    for _ in range(2):
        training.train(10)
        until(lambda: training.snapshots()[0].step == training.number)
    stop(process)
    newest, *before = training.snapshots()
    files = {each.name: each for each in snapshot_files(tmp_path / "one")}
    why = damage(files[newest.place.rpartition("/")[2]])
    [warning] = saved(training, tmp_path / "again.backup").warnings
    assert newest.place in warning
    assert why in warning
    again = moved(training, tmp_path / "again.backup", in_files(tmp_path / "two"))
    assert [each.version for each in again.snapshots()] == [each.version for each in before]
    other = again.spawn()
    again.train(10)
    check_equal(again, 30)
    stop(other)
    for each in before:
        files[each.place.rpartition("/")[2]].unlink()
    with pytest.raises(
        SnapshotError, match=r"no snapshot of echo in run .* can be read .*start echo"
    ):
        saved(training, tmp_path / "none.backup")
    assert not (tmp_path / "none.backup").exists()


def test_snapshots_that_come_and_go_meanwhile_hinder_no_backup(
    training: Training, tmp_path: Path
) -> None:
    """Each backup of a run at full speed, with new snapshots all the time, goes on by itself."""
    training.settings = {**OFTEN, **in_files(tmp_path / "one")}
    process = training.spawn()
    over = threading.Event()

    def train() -> None:
        while not over.is_set():
            training.train(1)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for number in range(8):
            steps = training.step() + 5
            until(lambda least=steps: training.step() >= least)
            saved(training, tmp_path / f"{number}.backup")
    finally:
        over.set()
        thread.join()
    stop(process)
    for number in range(8):
        again = moved(training, tmp_path / f"{number}.backup", in_redis(tmp_path))
        assert again.snapshots()
        process = again.spawn()
        until(lambda run=again: is_exact(run))
        stop(process)


def is_exact(training: Training) -> bool:
    """Return whether a living replica has the state of one process after as many steps."""
    found = models.stored(training.client, training.names, "echo", wait_s=LIMIT_S)
    steps = found.snapshot.step
    return found.behind == 0 and found.content == one_process(steps, SIZE).dump()


def test_a_replaced_run_loses_its_files(training: Training, tmp_path: Path) -> None:
    """The restored run has a token of its own, so both may share a store."""
    training.settings = {**OFTEN, **in_files(tmp_path / "one")}
    process = training.spawn()
    training.train(10)
    stop(process)
    saved(training, tmp_path / "again.backup")
    before = snapshot_files(tmp_path / "one")
    with pytest.raises(RoomgradError, match="exists on this server"):
        put(training, tmp_path / "again.backup", **in_files(tmp_path / "one"))
    assert snapshot_files(tmp_path / "one") == before
    put(training, tmp_path / "again.backup", fresh=True, **in_files(tmp_path / "one"))
    after = snapshot_files(tmp_path / "one")
    assert after
    assert not set(before) & set(after)
    training.check()


def test_a_store_that_cannot_be_written_restores_nothing(
    training: Training, tmp_path: Path
) -> None:
    training.settings = {**OFTEN, **in_files(tmp_path / "one")}
    process = training.spawn()
    training.train(10)
    stop(process)
    saved(training, tmp_path / "again.backup")
    (tmp_path / "file").touch()
    with pytest.raises(SnapshotError, match="cannot be written by user id"):
        moved(training, tmp_path / "again.backup", in_files(tmp_path / "file"))
    assert not training.client.keys(Names(f"{training.names.run}-again").everything())


def test_a_server_that_refuses_leaves_no_files(
    own_training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files come first; they go when the run does not come."""
    training, written = own_training, []
    training.settings = {**OFTEN, **in_files(tmp_path / "one")}
    process = training.spawn()
    training.train(10)
    stop(process)
    saved(training, tmp_path / "again.backup")
    write = Target.write

    def noting(target: Target, *args: Any) -> None:
        written.extend(snapshot_files(tmp_path / "two"))
        write(target, *args)

    monkeypatch.setattr(Target, "write", noting)
    training.client.config_set("maxmemory", "1mb")
    with pytest.raises(ServerError, match="nothing was restored"):
        moved(training, tmp_path / "again.backup", in_files(tmp_path / "two"))
    assert written
    assert snapshot_files(tmp_path / "two") == []


def test_a_snapshot_that_is_not_the_one_pointed_to_is_refused(training: Training) -> None:
    """Although the sums of the file fit."""
    snapshot = pointers.Snapshot(
        version="1-a", step=1, entry="0-0", place="redis:1-a.x", size=3,
        sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", at=1.0,
    )  # fmt: skip
    key = b"model:echo:snapshot:1-a.x"
    for content, refused in ((b"abc", False), (b"abd", True), (b"abcd", True), (b"", True)):
        file = io.BytesIO()
        origin = archive.Origin(training.names.run, "valkey 9", "0.1", 1)
        writer = archive.Writer(file, origin)
        writer.key(KeyHeader(key, "snapshot", 1), [archive.line([content.decode()])])
        value = pointers.to_json([snapshot]).decode()
        writer.key(KeyHeader(b"model:echo", "hash", 1), [archive.line(["snapshots", value])])
        writer.finish()
        if refused:
            with pytest.raises(FormatError, match="was changed"):
                restore(training.client, file, "a file", "", fresh=False)
            assert not training.client.exists(training.key)
        else:
            restore(training.client, file, "a file", "", fresh=False)
            assert training.snapshots() == [snapshot]
            assert training.client.get(f"{training.key}:snapshot:1-a.x:0") == b"abc"
            training.client.delete(*training.client.keys(training.names.everything()))


def test_a_large_snapshot_is_stored_in_pieces(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1000)
    training.settings = {**OFTEN, "piece_bytes": 1000}
    process = training.spawn()
    training.train(10)
    stop(process)
    saved(training, tmp_path / "again.backup")
    again = moved(training, tmp_path / "again.backup", in_redis(tmp_path))
    assert again.client.exists(f"{again.key}:snapshot:{again.snapshots()[0].place[6:]}:3")
    again.check(10)
    stored = again.client.keys(again.names.snapshot_piece("echo", "*", "*"))
    assert {again.client.ttl(key) for key in stored} == {-1}
