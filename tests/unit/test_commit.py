"""A commit as the arguments of its script."""

from __future__ import annotations

import hashlib

from roomgrad.commit import SCRIPT, SCRIPT_SHA, Commit, fingerprint


def test_the_script_is_called_by_its_hash() -> None:
    """The server knows it by the SHA-1 of its text."""
    assert hashlib.sha1(SCRIPT).hexdigest().encode() == SCRIPT_SHA
    assert Commit().command()[:2] == [b"EVALSHA", SCRIPT_SHA]


def test_each_key_is_named_once() -> None:
    """However many guards and operations touch it; they say its number."""
    commit = Commit()
    commit.same("hash", b"a", b"1")
    commit.same("hash", b"b", None)
    commit.do(b"HSET", "hash", b"a", b"2")
    commit.do(b"HSET", "other", b"a", b"2")
    keys, arguments = commit.parts()
    assert keys == [b"hash", b"other"]
    assert arguments[:9] == [
        b"PUBLISH", b"2", b"SAME", b"1", b"a", b"1", b"ABSENT", b"1", b"b"
    ]  # fmt: skip
    assert arguments[9:] == [
        b"2", b"HSET", b"1", b"2", b"a", b"2", b"HSET", b"2", b"2", b"a", b"2"
    ]  # fmt: skip


def test_long_values_are_compared_by_their_fingerprint() -> None:
    """A guard of a large record costs 40 bytes; up to 4 KiB, the record costs less than SHA-1."""
    assert fingerprint(b"short") == b"short"
    assert fingerprint(b"x" * 4096) == b"x" * 4096
    assert fingerprint(b"x" * 4097) == hashlib.sha1(b"x" * 4097).hexdigest().encode()


def test_a_commit_without_anything_has_no_keys() -> None:
    """No guards, no operations."""
    assert Commit().parts() == ([], [b"PUBLISH", b"0", b"0"])
