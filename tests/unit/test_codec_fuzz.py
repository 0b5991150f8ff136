"""The decoder is fuzzed: real messages, changed anywhere, and bytes that are none.

Nothing but a MessageError comes out, nothing takes more memory than the input explains, and what is
decoded is encoded again as it was.
"""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roomgrad.codec import (
    MAX_TEXT_BYTES,
    array_from,
    decode,
    encode,
    from_body,
    pack,
    parse_body,
    unpack,
)
from roomgrad.errors import MessageError, format_value
from tests.fuzz.targets import NOTIFICATIONS, STREAM, written

EXAMPLES = written()


@st.composite
def mutated(draw: st.DrawFn) -> list[bytes]:
    """A real entry with some of its bytes replaced, put in, taken out or repeated."""
    fields = list(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(fields) - 1))
        value = fields[place]
        start = draw(st.integers(0, len(value)))
        end = draw(st.integers(start, min(len(value), start + 12)))
        words = st.sampled_from(
            [b"[", b"]", b"{", b'"', b"null", b"-1", b"1e999", b"$array", b"\\"]
        )
        put = draw(st.binary(max_size=6) | words | st.just(value[start:end] * 3))
        fields[place] = value[:start] + put + value[end:]
    return fields


def check(fields: list[bytes]) -> None:
    try:
        message = decode("1-1", fields, STREAM)
    except MessageError:
        return
    again = decode("1-1", encode(message, STREAM), STREAM)
    assert (again.id, again.root_id, again.status) == (message.id, message.root_id, message.status)
    assert again.array.tobytes() == message.array.tobytes()
    assert again.fields.keys() == message.fields.keys()


FEW = settings(max_examples=200)


@FEW
@given(mutated())
def test_a_message_that_was_changed_anywhere(fields: list[bytes]) -> None:
    """It is a message, or refused as one."""
    check(fields)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
SPECS = st.dictionaries(st.sampled_from(["dtype", "shape", "field", "at", "values"]), values)


def check_parts(raw: bytes, body: Any, spec: dict[str, Any], tail: bytes) -> None:
    with contextlib.suppress(MessageError):
        parse_body(raw)
    with contextlib.suppress(MessageError):
        from_body({"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "DATA": body}, STREAM, {})
    with contextlib.suppress(MessageError):
        array_from("DATA", spec, tail)
    with contextlib.suppress(MessageError):
        unpack(raw + b"\n" + tail)
    for payload in (raw, tail):
        with contextlib.suppress(MessageError):
            NOTIFICATIONS._read("room", parse_body(payload))
    assert len(format_value(body)) < 2000


@FEW
@given(st.binary(max_size=200), values, SPECS, st.binary(max_size=64))
def test_any_part_of_it(raw: bytes, body: Any, spec: dict[str, Any], tail: bytes) -> None:
    """Bodies, specs, records and what is heard on a channel: nothing but a MessageError."""
    check_parts(raw, body, spec, tail)


@FEW
@given(
    st.dictionaries(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1) | st.text(), max_size=4)
)
def test_a_record_that_was_cut_is_refused_as_one(record: dict[str, Any]) -> None:
    """At every place: somebody may have written into a hash."""
    try:
        value = pack({**record, "data": np.ones(20, "<f4")})
    except MessageError:  # half a surrogate pair
        return
    for end in range(0, len(value), 7):
        with contextlib.suppress(MessageError):
            unpack(value[:end])


@pytest.mark.slow  # to watch each allocation takes its time
@pytest.mark.timeout(300)
@pytest.mark.parametrize("inside", ["[]", "{}", "null", '""', "1", "[[]]"])
def test_json_takes_no_more_memory_than_its_length_explains(inside: str) -> None:
    """The longest text that is parsed, full of what grows most: below 500 MB."""
    count = (MAX_TEXT_BYTES - 200) // (len(inside) + 1)
    array = "[" + ",".join([inside] * count) + "]"
    good = orjson.dumps({"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "DATA": "X"})
    fields = [b"m", good.replace(b'"X"', array.encode())]
    tracemalloc.start()
    try:
        with pytest.raises(MessageError):
            decode("1-1", fields, STREAM)
        assert tracemalloc.get_traced_memory()[1] < 500_000_000
    finally:
        tracemalloc.stop()
