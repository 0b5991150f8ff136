"""Snapshots as files, written by this machine and through fsspec: whole, private and verified."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from roomgrad.errors import SettingsError, SnapshotError
from roomgrad.names import Names
from roomgrad.snapshots import pieces
from roomgrad.snapshots.folder_store import FolderStore
from roomgrad.snapshots.orphans import orphans
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.pointers import Snapshot
from roomgrad.snapshots.stores import default_url, open_store, store_of
from tests.roomgrad_command import PYTHONPATH
from tests.waiting import until

OWNER = Owner(Names("my run/2"), "model", "token1")
CONTENT = memoryview(os.urandom(5000))
LARGE = memoryview(os.urandom(pieces.PIECE_BYTES + 7))
NEVER = pytest.fail  # stands for a connection that a file needs not


@pytest.fixture(params=["file", "local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind: our own for file://, and two file systems of fsspec."""
    urls = {
        "file": (tmp_path / "a b").as_uri(),
        "local": f"local://{tmp_path}/snapshots",
        "memory": f"memory://snapshots-{secrets.token_hex(4)}",
    }
    return urls[request.param]


@pytest.fixture
def store(url: str) -> FolderStore:
    return open_store(url, OWNER)


@pytest.fixture
def files(tmp_path: Path) -> FolderStore:
    """A store of files, whose files a test may damage."""
    return open_store(tmp_path.as_uri(), OWNER)


def folder(tmp_path: Path) -> Path:
    return tmp_path / OWNER.folder


def pointer(place: str, content: memoryview, sha256: str) -> Snapshot:
    return Snapshot(
        version="1", step=1, entry="0-0", place=place, size=len(content), sha256=sha256, at=1.0
    )


@pytest.mark.parametrize("content", [CONTENT, LARGE, LARGE[: pieces.PIECE_BYTES], CONTENT[:0]])
def test_what_is_written_is_read(store: FolderStore, content: memoryview) -> None:
    """Also by another process, which knows the place alone."""
    store.check()
    place, sha256 = store.write("7-abc", content)
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert store.read(place, len(content), sha256) == content
    other = store_of(pointer(place, content, sha256).place, NEVER, OWNER)
    assert other.url == store.url
    assert other.read(place, len(content), sha256) == content
    assert store.places() == [place]
    other.delete(place)
    other.delete(place)
    assert store.places() == []
    with pytest.raises(SnapshotError, match=r"7-abc.*\.snapshot is missing: it was deleted, or"):
        store.read(place, len(content), sha256)


def test_arrays_are_written_as_bytes(store: FolderStore) -> None:
    """A memoryview of floats counts floats, and a file has bytes."""
    content = memoryview(CONTENT[:4000]).cast("f")
    place, sha256 = store.write("1", content)
    assert store.read(place, 4000, sha256) == CONTENT[:4000]


def test_two_writers_of_one_version_do_not_share_a_file(store: FolderStore) -> None:
    one, two = (store.write("7-abc", CONTENT)[0] for _ in range(2))
    assert one != two
    assert sorted([one, two]) == store.places()


@pytest.mark.parametrize(
    ("cut", "message"), [(-1, "has 4,999 bytes, expected 5,000"), (0, "has 0")]
)
def test_a_file_that_was_cut_is_refused(
    files: FolderStore, tmp_path: Path, cut: int, message: str
) -> None:
    place, sha256 = files.write("1", CONTENT)
    (path,) = folder(tmp_path).iterdir()
    os.truncate(path, cut % 5000)
    with pytest.raises(SnapshotError, match=message):
        files.read(place, 5000, sha256)


@pytest.mark.parametrize("at", [0, 2500, 4999])
def test_a_changed_byte_is_noticed(files: FolderStore, tmp_path: Path, at: int) -> None:
    place, sha256 = files.write("1", CONTENT)
    (path,) = folder(tmp_path).iterdir()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([CONTENT[at] ^ 1]))
    with pytest.raises(SnapshotError, match=rf"was changed: its SHA-256 is .* expected {sha256}"):
        files.read(place, 5000, sha256)


def test_any_cut_and_any_flipped_bit_is_noticed(files: FolderStore, tmp_path: Path) -> None:
    """Of all that there are in 60 bytes; an empty file, and one that is too long, too."""
    content = CONTENT[:60]
    place, sha256 = files.write("1", content)
    (path,) = folder(tmp_path).iterdir()
    cuts = [bytes(content[:length]) for length in range(60)]
    flips = [flipped(content, bit) for bit in range(60 * 8)]
    for damaged in (*cuts, *flips, bytes(content) + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(SnapshotError, match=r"1\..*\.snapshot (has|was changed)"):
            files.read(place, 60, sha256)
    path.write_bytes(content)
    assert files.read(place, 60, sha256) == content


def flipped(content: memoryview, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_files_that_changed_places_are_noticed(files: FolderStore, tmp_path: Path) -> None:
    """Also an older one under the name of a newer one."""
    older, newer = CONTENT[:1000], CONTENT[1000:2000]
    (one, sha_1), (two, sha_2) = files.write("1", older), files.write("2", newer)
    paths = [folder(tmp_path) / place.rpartition("/")[2] for place in (one, two)]
    paths[1].write_bytes(older)
    with pytest.raises(SnapshotError, match=rf"{two} was changed: .* expected {sha_2}"):
        files.read(two, 1000, sha_2)
    paths[0].write_bytes(newer)
    for place, sha256 in ((one, sha_1), (two, sha_2)):
        with pytest.raises(SnapshotError, match=f"{place} was changed: .* expected {sha256}"):
            files.read(place, 1000, sha256)


def test_a_pointer_to_more_bytes_than_memory_has_is_refused(files: FolderStore) -> None:
    """The size is compared before memory is allocated."""
    place, sha256 = files.write("1", CONTENT)
    with pytest.raises(SnapshotError, match="has 5,000 bytes, expected 1,125,899,906,842,624"):
        files.read(place, 2**50, sha256)


def test_no_other_user_of_the_machine_reads_them(files: FolderStore, tmp_path: Path) -> None:
    files.write("1", CONTENT)
    made = [*folder(tmp_path).iterdir(), folder(tmp_path), folder(tmp_path).parent]
    assert [stat.S_IMODE(each.stat().st_mode) & 0o007 for each in made] == [0, 0, 0]


def test_runs_of_one_name_do_not_meet(url: str) -> None:
    """An emptied server, or another one, has a run with another token."""
    store = open_store(url, OWNER)
    other = open_store(url, Owner(OWNER.names, OWNER.component, "token2"))
    place, sha256 = store.write("1", CONTENT)
    theirs, _ = other.write("1", CONTENT)
    with pytest.raises(SnapshotError, match="is no snapshot of model in this run"):
        other.read(place, 5000, sha256)
    with pytest.raises(SnapshotError, match="is no snapshot of model in this run"):
        other.delete(place)
    other.delete_all()
    other.delete_all()
    assert (store.places(), other.places()) == ([place], [])
    assert theirs != place


def test_a_run_is_deleted_with_all_its_components(url: str) -> None:
    another = Owner(OWNER.names, "critic", OWNER.run_token)
    stores = [open_store(url, each) for each in (OWNER, another)]
    for store in stores:
        store.write("1", CONTENT)
    stores[1].delete_all()
    assert [len(store.places()) for store in stores] == [1, 0]
    open_store(url, Owner(OWNER.names, "", OWNER.run_token)).delete_all()
    assert [store.places() for store in stores] == [[], []]


def test_the_folder_of_a_store_is_never_deleted(files: FolderStore, tmp_path: Path) -> None:
    """It belongs to the user, and other runs may store theirs in it."""
    for component in ("model", ""):
        files.write("1", CONTENT)
        open_store(files.url, Owner(OWNER.names, component, OWNER.run_token)).delete_all()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "redis:../x",
        "{folder}/../../../etc/passwd",
        "{folder}/..",
        "{folder}/a/b.snapshot",
        "{folder}/",
        "{folder}x/b.snapshot",
    ],
)
def test_no_place_leads_out_of_the_folder(files: FolderStore, tmp_path: Path, place: str) -> None:
    """Pointers come from Redis, so that another program may have written them."""
    where = place.format(folder=f"{files.url}/{OWNER.folder_in(files.url)}")
    for attempt in (files.delete, lambda each: files.read(each, 1, "0" * 64)):
        with pytest.raises(SnapshotError, match="is no snapshot of model"):
            attempt(where)


def test_what_no_pointer_names_is_an_orphan_after_an_hour(
    files: FolderStore, tmp_path: Path
) -> None:
    """By the names of the files: hosts may reach one folder under several URLs."""
    named, young, old = (files.write(token, CONTENT)[0] for token in ("1", "2", "3"))
    partial = folder(tmp_path) / ".roomgrad-0123.partial"
    partial.touch()
    now = partial.stat().st_mtime
    for path in folder(tmp_path).iterdir():
        age = 3500 if path.name in young else 3700
        os.utime(path, (now - age, now - age))
    elsewhere = f"file:///mnt/{OWNER.folder}/{named.rpartition('/')[2]}"
    found = orphans(files, lambda: [pointer(elsewhere, CONTENT, "0" * 64)])
    assert found == sorted([old, f"{files.url}/{OWNER.folder_in(files.url)}/{partial.name}"])
    for place in found:
        files.delete(place)
    assert files.places() == sorted([named, young])


def test_a_pointer_that_is_written_meanwhile_is_read(files: FolderStore, tmp_path: Path) -> None:
    place, _ = files.write("1", CONTENT)
    (path,) = folder(tmp_path).iterdir()
    os.utime(path, (1, 1))

    def pointers() -> list[Snapshot]:
        files.write("2", CONTENT)  # another replica, which was frozen before it points to it
        for each in folder(tmp_path).iterdir():
            os.utime(each, (1, 1))
        return []

    assert orphans(files, pointers) == [place]


def test_an_empty_store_has_no_orphans(store: FolderStore) -> None:
    assert orphans(store, lambda: NEVER("no pointer is needed")) == []


# failures, in processes of their own

CHILD = """
import os, resource, signal, sys
from roomgrad.errors import SnapshotError
from roomgrad.names import Names
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.stores import open_store
store = open_store(sys.argv[1], Owner(Names("my run/2"), "model", "token1"))
"""
WRITE = """
try:
    store.write("2", memoryview(bytes(40 * 2**20)))
except SnapshotError as error:
    print(error)
"""
LIMITED = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20 * 2**20, 20 * 2**20))
"""
NOBODY = "os.geteuid() or os.setuid(65534)\n"


def child(script: str, url: str, *before: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", CHILD + script, url],
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def said(script: str, url: str, *before: str) -> str:
    process = child(script, url, *before)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_a_file_that_may_not_grow_leaves_nothing(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://{tmp_path}"
    store = open_store(url, OWNER)
    place, _ = store.write("1", CONTENT)
    output = said(LIMITED + WRITE, url)
    assert "2." in output
    assert f"cannot be written by user id {os.geteuid()} (File too large)" in output
    assert "ROOMGRAD_SNAPSHOTS" in output
    assert store.places() == [place]
    assert len(list(folder(tmp_path).iterdir())) == 1


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A file system of 30 MiB, of which no more than 40 are wanted."""
    mount = f'mount -t tmpfs -o size=30m tmpfs {tmp_path} && exec "$@"'
    prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    try:
        possible = subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    except OSError:
        possible = False
    if not possible:
        pytest.skip("no file system can be mounted: unshare of util-linux, and user namespaces")
    look = "import subprocess\nprint(subprocess.getoutput(f'find {store.url[7:]} -type f'))"
    output = said(WRITE + look, tmp_path.as_uri(), *prefix)
    assert "(No space left on device): make space there" in output
    assert output.count("\n") == 2, "only the sentence, and no file"
    assert output.endswith("\n\n")


@pytest.mark.parametrize("action", ["store.check()", 'store.write("2", memoryview(b"x"))'])
def test_a_folder_that_may_not_be_written_is_told(action: str) -> None:
    """With its path, the user id, and what to do."""
    script = NOBODY + f"try:\n    {action}\nexcept SnapshotError as error:\n    print(error)"
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o555)
        output = said(script, f"file://{path}")
    user = os.geteuid() or 65534
    assert output.startswith(f"file://{path}/")
    assert f"cannot be written by user id {user} (Permission denied)" in output
    assert "let this user read and write the folder, or name another one by ROOMGRAD_SN" in output


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "snapshots").touch()
    store = open_store((tmp_path / "snapshots").as_uri(), OWNER)
    with pytest.raises(SnapshotError, match=r"cannot be written .*(exists|Not a directory)"):
        store.check()


def test_a_writer_that_is_killed_leaves_no_snapshot(tmp_path: Path) -> None:
    """A part of a file, which is an orphan an hour later."""
    endless = 'import mmap\nstore.write("2", memoryview(mmap.mmap(-1, 2**30)))'
    process = child(endless, tmp_path.as_uri())
    store = open_store(tmp_path.as_uri(), OWNER)

    def parts() -> list[Path]:
        found = folder(tmp_path).glob(".*") if folder(tmp_path).exists() else ()
        return [each for each in found if each.stat().st_size >= pieces.PIECE_BYTES]

    (partial,) = until(parts)
    process.kill()
    process.communicate()
    assert os.listdir(folder(tmp_path)) == [partial.name]
    assert orphans(store, list) == []
    old = partial.stat().st_mtime - 3700
    os.utime(partial, (old, old))
    (orphan,) = orphans(store, list)
    store.delete(orphan)
    assert os.listdir(folder(tmp_path)) == []


# URLs


def test_the_default_store_is_below_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOMGRAD_STATE", str(tmp_path))
    store = open_store("", OWNER)
    assert store.url == default_url(OWNER.names.run)
    store.write("1", CONTENT)
    assert [each.parent for each in tmp_path.rglob("*.snapshot")] == [
        tmp_path / "my%20run%2F2" / "snapshots" / OWNER.folder
    ]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("snapshots", "expected a URL like file:///snapshots"),
        ("/snapshots", "expected a URL like file:///snapshots"),
        ("file://snapshots", "with three slashes, like file:///snapshots"),
        ("s3://key:secret@bucket", "'bucket': expected a URL .* without credentials"),
        ("simplecache::s3://bucket", "expected a URL"),
        ("nowhere://x", "nowhere"),
        ("s3://bucket", "s3fs"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        open_store(url, OWNER)


def test_a_place_that_this_machine_does_not_reach_is_told() -> None:
    with pytest.raises(SnapshotError, match="s3fs"):
        store_of(f"s3://bucket/{OWNER.folder}/1.snapshot", NEVER, OWNER)


def test_a_slash_at_the_end_makes_no_difference(tmp_path: Path) -> None:
    assert open_store(f"{tmp_path.as_uri()}/", OWNER).url == tmp_path.as_uri()


@pytest.mark.parametrize("token", ["", "a/b", "..", "a b", "x" * 60, "ж"])
def test_a_token_that_is_no_name_is_refused(files: FolderStore, token: str) -> None:
    if token in ("", ".."):
        place, sha256 = files.write(token, CONTENT)  # what follows makes it a plain name
        assert files.read(place, 5000, sha256) == CONTENT
    else:
        with pytest.raises(SnapshotError, match="cannot name a snapshot"):
            files.write(token, CONTENT)
