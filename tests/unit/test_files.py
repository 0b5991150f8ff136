"""Files that commands write: whole, or as they were."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from roomgrad.errors import SettingsError
from roomgrad.files import refuse_existing, write, writing


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_exists_is_replaced_on_request_only(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    write(path, b"one", force=False)
    with pytest.raises(SettingsError, match=r"labels\.csv exists: .* --force"):
        write(path, b"two", force=False)
    assert path.read_bytes() == b"one"
    write(path, b"two", force=True)
    assert path.read_bytes() == b"two"


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"yesterday")
    with pytest.raises(ZeroDivisionError), writing(path, force=True) as file:
        file.write(b"half" * (1 // 0))
    assert path.read_bytes() == b"yesterday"
    assert os.listdir(tmp_path) == ["labels.csv"]


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    """A new one has those of any new file, or those that were asked for."""
    path, ordinary = tmp_path / "new", tmp_path / "ordinary"
    ordinary.touch()
    write(path, b"", force=False)
    assert mode(path) == mode(ordinary)
    path.chmod(0o640)
    write(path, b"", force=True)
    assert mode(path) == 0o640
    with writing(tmp_path / "private", force=False, mode=0o600):
        pass
    assert mode(tmp_path / "private") == 0o600


def test_a_link_still_leads_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path, link = tmp_path / "data" / "labels.csv", tmp_path / "labels.csv"
    path.touch()
    link.symlink_to(path)
    write(link, b"new", force=True)
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


def test_a_pipe_is_written_to_without_being_replaced(tmp_path: Path) -> None:
    reading, writing_end = os.pipe()
    write(Path(f"/dev/fd/{writing_end}"), b"text", force=False)
    os.close(writing_end)
    assert os.read(reading, 10) == b"text"
    os.close(reading)


@pytest.mark.parametrize("name", ["", "nowhere/labels.csv", "a\0b", "x" * 300])
def test_what_cannot_be_a_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        write(tmp_path / name, b"", force=True)
    assert os.listdir(tmp_path) == []


def test_a_long_work_learns_at_its_beginning(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new.png", force=False)
    (tmp_path / "old.png").touch()
    with pytest.raises(SettingsError, match=r"old\.png exists"):
        refuse_existing(tmp_path / "old.png", force=False)
