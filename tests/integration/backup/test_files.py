"""A file that is not a complete backup is refused with a sentence, and nothing is written."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import resource
import tarfile
import zlib
from collections.abc import Callable, Iterator

import msgpack
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from roomgrad.errors import FormatError
from roomgrad.names import Names
from roomgrad.ops.backup import archive
from roomgrad.ops.backup.records import Item, KeyHeader
from roomgrad.ops.backup.restore import Target, restore
from roomgrad.ops.backup.save import save
from roomgrad.redis.server import connect

RUN = "kept"
HUGE = 10**15


@pytest.fixture(scope="module")
def client(embedded_url: str) -> Iterator[redis.Redis]:
    found = connect(embedded_url)
    yield found
    found.close()


@pytest.fixture(scope="module")
def whole(client: redis.Redis, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small backup with something of each kind."""
    names = Names(RUN)
    client.hset(names.run_info(), mapping={"token": "t", "raw": b"\xff\x00"})
    client.zadd(names.ledger("learner"), {"root": 1})
    client.hset(names.later_bodies("learner"), mapping={"count": 0})
    for number in range(20):
        client.xadd(names.stream("room", "DATA"), {"number": number})
    client.xgroup_create(names.stream("room", "DATA"), "learner", "0")
    client.xreadgroup("learner", "one", {names.stream("room", "DATA"): ">"}, count=3)
    path = tmp_path_factory.mktemp("backup") / "run.backup"
    save(client, names, path)
    client.delete(*client.keys(names.everything()))
    return path.read_bytes()


def refused(client: redis.Redis, data: bytes) -> str:
    """The sentence; and that nothing stands on the server after it."""
    with pytest.raises(FormatError) as caught:
        restore(client, io.BytesIO(data), "run.backup", "", fresh=False)
    assert not client.keys("{kept}*")
    assert str(caught.value).startswith("run.backup is not a complete backup: ")
    assert len(str(caught.value)) < 500
    return str(caught.value)


def signed(*lines: bytes) -> bytes:
    """A file whose sums fit, whatever stands in it."""
    file = io.BytesIO()
    writer = archive.Writer(file, archive.Origin(RUN, "valkey 9", "0.1", 1))
    for each in lines:
        writer._write(each + b"\n")
        writer._keys += each.startswith(b'{"key"')
        writer._items += each.startswith(b"[")
    writer.finish()
    return file.getvalue()


HASH = b'{"key":"run","type":"hash","items":1}'
ABOUT_SNAPSHOT = b'{"key":"model:x:snapshot:1-a","type":"snapshot","items":1}'
ABOUT_STREAM = b'"last":"5-0","added":2,"deleted":"0-0","groups":[]}'
SNAPSHOT = b'{"key":"model:x:snapshot:1-a","type":"snapshot","items":1}'
STREAM = b'{"key":"a:b","type":"stream","items":2,' + ABOUT_STREAM


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([HASH, b'["a","b"]', HASH, b'["a","b"]'], "occurs twice"),
        ([HASH, b'["a"]'], "parts"),
        ([HASH, b'["a",1]'], "expected a text or base64"),
        ([HASH, b'["a",{"base64":"?"}]'], "not base64"),
        ([HASH, b'["a",{"base64":"","more":1}]'], "expected a text or base64"),
        ([HASH], "expected an item of"),
        ([HASH.replace(b":1}", b":%d}" % HUGE), b'["a","b"]'], "expected an item of"),
        ([HASH.replace(b":1}", b":-1}")], "expected a whole number"),
        ([HASH.replace(b":1}", b":1e9}")], "expected a whole number"),
        ([HASH.replace(b":1}", b":0}")], "0 items"),
        ([HASH.replace(b"hash", b"list"), b'["a"]'], "expected a key"),
        ([HASH.replace(b'"run"', b'"alive:x"'), b'["a","b"]'], "does not belong in a backup"),
        ([HASH.replace(b'"run"', b'"restoring:x:0"'), b'["a","b"]'], "does not belong in a backup"),
        ([HASH.replace(b'"run"', b"7"), b'["a","b"]'], "expected a text or base64"),
        ([HASH.replace(b"hash", b"zset"), b'["a","nan"]'], "expected a score"),
        ([HASH.replace(b"hash", b"zset"), b'["a",1]'], "expected a score"),
        ([STREAM, b'["2-0","f","v"]', b'["1-0","f","v"]'], "not in order"),
        ([STREAM, b'["2-0","f","v"]', b'["6-0","f","v"]'], "not in order"),
        ([STREAM, b'["0-0","f","v"]', b'["1-0","f","v"]'], "not in order"),
        ([STREAM, b'["1-0","f"]', b'["2-0","f","v"]'], "parts"),
        ([STREAM, b'["*","f","v"]', b'["2-0","f","v"]'], "expected the ID of an entry"),
        ([STREAM.replace(b'"added":2', b'"added":1')], "more entries than were ever added"),
        ([STREAM.replace(b'"deleted":"0-0"', b'"deleted":"9-0"')], "but the newest ID is"),
        ([STREAM.replace(b'"groups":[]', b'"groups":7')], "expected groups"),
        (
            [STREAM.replace(b"[]", b'[{"name":"g","last":"0-0","read":0,"pending":9}]')],
            "more pending entries than items",
        ),
        (
            [HASH.replace(b"run", b"later:x:bodies"), b'["1",{"base64":"3f////8="}]'],
            "a delayed message is not",
        ),
        (
            [HASH.replace(b"run", b"later:x:bodies"), b'["1","no"]'],
            "a delayed message is not",
        ),
        ([SNAPSHOT.replace(b"1-a", b"../x"), b'["a"]'], "is not the name of a snapshot"),
        ([SNAPSHOT.replace(b'"model', b'"modal'), b'["a"]'], "is not the name of a snapshot"),
        ([SNAPSHOT, b'["a","b"]'], "parts"),
        ([SNAPSHOT, b"[1]"], "expected a text or base64"),
        ([SNAPSHOT.replace(b":1}", b":2}"), b'["a"]'], "expected an item of"),
        ([HASH.replace(b"run", b"model:x"), b'["snapshots","x"]'], "cannot be read"),
        ([b"[" * 100_000], "not JSON"),
        ([b"{"], "not JSON"),
        ([b"null"], "expected a key"),
    ],
)
def test_what_no_server_takes_is_found_before(
    client: redis.Redis, lines: list[bytes], why: str
) -> None:
    """Although its sums fit, as those of a file that somebody made on purpose."""
    assert why in refused(client, signed(*lines))


def test_a_message_for_later_may_not_go_to_another_run(client: redis.Redis) -> None:
    """The server would send it wherever it says."""
    foreign = msgpack.packb([b"{other}:in:DATA", b"{other}:in", b"", b"", b"m", b"1"])
    value = archive.line(["1", {"base64": base64.b64encode(foreign).decode()}]).rstrip()
    head = HASH.replace(b"run", b"later:x:bodies")
    assert "is for another run" in refused(client, signed(head, value))


def retold(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The lines changed, and packed again."""
    return lambda whole: gzip.compress(change(gzip.decompress(whole)))


def tar(whole: bytes) -> bytes:
    """An archive of the usual kind, with a name that leads out of it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as made:
        info = tarfile.TarInfo("../../etc/passwd")
        info.size = len(whole)
        made.addfile(info, io.BytesIO(whole))
    return file.getvalue()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda _: b"", "the last line is missing"),
        (lambda whole: whole[: len(whole) // 2], "end"),
        (lambda whole: whole[:-4], "end"),
        (lambda _: b"labels,melody\n1,2\n", "gzip"),
        (tar, "not JSON"),
        (retold(lambda lines: lines[: lines.rindex(b"\n", 0, -1) + 1]), "the last line is missing"),
        (
            retold(lambda lines: lines.replace(b'"number","7"', b'"number","8"')),
            "the totals do not match",
        ),
        (retold(lambda lines: lines + b"{}\n"), "data after the last line"),
        (retold(lambda lines: lines.replace(b'backup":2', b'backup":3')), "it has format 3"),
        (retold(lambda lines: lines.replace(b'backup":2', b'backup":true')), "it has format"),
        (retold(lambda lines: lines.replace(b'"run":"kept"', b'"run":""')), "which run"),
        (
            retold(lambda lines: lines.replace(b"roomgrad_backup", b"something")),
            "not that of a backup",
        ),
    ],
)
def test_a_file_that_is_not_whole_is_refused(
    client: redis.Redis, whole: bytes, change: Callable[[bytes], bytes], why: str
) -> None:
    """Cut off, changed, or something else."""
    assert why in refused(client, change(whole))


def test_nothing_is_written_before_the_file_was_read_to_its_end(
    client: redis.Redis, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = Target.write

    def noted(target: Target, header: KeyHeader, items: Iterator[Item]) -> None:
        written.append(header.key)
        write(target, header, items)

    monkeypatch.setattr(Target, "write", noted)
    change = retold(lambda lines: lines.replace(b'"number","7"', b'"number","8"'))
    assert "the totals do not match" in refused(client, change(whole))
    assert written == []


def content(data: bytes) -> bytes:
    """The lines of a file, as far as they are whole."""
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return b""


def test_any_bit_and_any_cut_is_noticed(client: redis.Redis, whole: bytes) -> None:
    """But for bits that change no line.

    Those are the time in gzip's header, those behind the last code, and, now and then, a code that
    refers to another occurrence of the same text. Every bit at both ends, one of each byte between.
    """
    lines = content(whole)
    for at in range(len(whole)):
        refused(client, whole[:at])
        for bit in range(8) if at < 16 or at > len(whole) - 16 else [at % 8]:
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            if content(damaged) != lines:
                refused(client, bytes(damaged))
                continue
            restore(client, io.BytesIO(damaged), "run.backup", "", fresh=False)
            assert client.hget(Names(RUN).run_info(), "raw") == b"\xff\x00"
            client.delete(*client.keys(Names(RUN).everything()))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_refused(client: redis.Redis, data: bytes, zipped: bool) -> None:
    """Rubbish, and rubbish in gzip."""
    refused(client, gzip.compress(data) if zipped else data)


def test_a_line_without_an_end_takes_no_memory(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GiB in a MB of file: it is given up at the longest line that there may be."""
    monkeypatch.setattr(archive, "MAX_LINE_BYTES", 8 * 2**20)
    bomb = gzip.compress(bytes(2**20)) * 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "a line is longer than" in refused(client, bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


def test_a_backup_of_an_older_release_is_read(client: redis.Redis, whole: bytes) -> None:
    """It has no snapshots; a component takes over the weights that it has."""
    lines = gzip.decompress(whole).replace(b'{"roomgrad_backup":2', b'{"roomgrad_backup":1')
    *content, _ = lines.splitlines(keepends=True)
    end = archive.line(
        {
            "end": True,
            "keys": sum(each.startswith(b'{"key"') for each in content),
            "items": sum(each.startswith(b"[") for each in content),
            "sha256": hashlib.sha256(b"".join(content)).hexdigest(),
        }
    )
    restore(client, io.BytesIO(gzip.compress(b"".join(content) + end)), "x", "", fresh=False)
    assert client.hget(Names(RUN).run_info(), "raw") == b"\xff\x00"
    client.delete(*client.keys(Names(RUN).everything()))
