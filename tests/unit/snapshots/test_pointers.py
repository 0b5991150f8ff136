"""Pointers to snapshots: what is written is read, and nothing else is."""

from __future__ import annotations

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from roomgrad.errors import SnapshotError
from roomgrad.snapshots.pointers import NO_ENTRY, Score, Snapshot, from_json, to_json

FILE = "file:///snapshots/trebuchet~1/model/7-abc.snapshot"
GOOD = Snapshot(
    version="7-abc", step=7, entry="5-0", place=FILE, size=3, sha256="0" * 64, at=1700000000.25
)
tokens = st.from_regex(r"\A[A-Za-z0-9_.-]{1,64}\Z")
snapshots = st.builds(
    Snapshot,
    version=tokens,
    step=st.integers(0, 2**63 - 1),
    entry=st.from_regex(r"\A[0-9]{1,20}-[0-9]{1,20}\Z").filter(str.isascii) | st.just(NO_ENTRY),
    place=st.tuples(st.sampled_from(["redis:", "file:///a%20b/", "s3://bucket/ж/"]), tokens).map(
        "".join
    ),
    size=st.integers(0, 2**50),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    at=st.floats(0, 1e10),
    checkpoint=st.booleans(),
    score=st.none()
    | st.builds(
        Score,
        metric=st.text(max_size=20),
        mean=st.floats(allow_nan=False, allow_infinity=False),
        record=st.integers(0, 2**63 - 1),
    ),
)


@given(st.lists(snapshots, max_size=4))
def test_pointers_come_back_in_their_order(written: list[Snapshot]) -> None:
    assert from_json(to_json(written)) == written


def test_a_model_without_the_field_has_no_snapshot() -> None:
    assert from_json(None) == []


def altered(**changes: object) -> bytes:
    fields = {**orjson.loads(to_json([GOOD]))[0], **changes}
    return orjson.dumps([{name: each for name, each in fields.items() if each is not ...}])


UNREADABLE = {
    "nothing": b"",
    "half": to_json([GOOD])[:-3],
    "no list": to_json([GOOD])[1:-1],
    "a number": b"[1]",
    "a field twice": to_json([GOOD]).replace(b'"step":7', b'"step":7,"step":8'),
    "another field": b'[{"color":1,' + to_json([GOOD])[2:],
    "nested deeply": b"[" * 100_000,
    "no UTF-8": b'["\xff"]',
    "infinite": to_json([GOOD]).replace(b"1700000000.25", b'{"$float":"inf"}'),
    **{
        f"{name} {value!r:.40}": altered(**{name: value})
        for name, values in {
            "version": ["", "a b", "a/b", "x" * 65, "7-abc\n", 7, None],
            "step": [-1, 1.5, "7", True, None],
            "entry": ["", "5", "5-", "-1-0", "5-0\n", "٥-٠", "+"],
            "place": ["", "redis:", "redis:a/b", "/etc/passwd", "file:///a/", "file:///a/b c", 1],
            "size": [-1, 2.5, "3", True],
            "sha256": ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"],
            "at": [-1, "now", True, None],
            "checkpoint": [1, None],
            "score": [1, {}, {"metric": "a.b", "mean": "1", "record": 1}],
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
def test_anything_else_is_an_error_that_says_what_is_wrong(value: bytes) -> None:
    with pytest.raises(SnapshotError, match=r"the field snapshots .* cannot be read: .+ backup"):
        from_json(value)


def test_a_missing_field_is_named() -> None:
    without = orjson.loads(to_json([GOOD]))
    del without[0]["entry"]
    with pytest.raises(SnapshotError, match=r"0\.entry: "):
        from_json(orjson.dumps(without))


@pytest.mark.parametrize("at", [math.nan, math.inf, -1.0])
def test_no_pointer_that_could_not_be_read_is_made(at: float) -> None:
    with pytest.raises(ValidationError, match="at"):
        Snapshot(version="1", step=1, entry="0-0", place="redis:1", size=1, sha256="0" * 64, at=at)


@given(st.binary(max_size=60))
def test_no_bytes_raise_another_error(value: bytes) -> None:
    try:
        found = from_json(value)
    except SnapshotError:
        return
    assert found == []
