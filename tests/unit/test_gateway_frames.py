"""Frames and bodies of the original's protocol, whatever bytes come."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomgrad import codec
from roomgrad.errors import DecodeError, MessageError
from roomgrad_swergio.gateway import codec as gateway_codec
from roomgrad_swergio.gateway import frames
from roomgrad_trebuchet.contract import TREBUCHET

values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", min_size=1), inner),
    max_leaves=10,
)
fields = st.dictionaries(st.text("ABCXYZ", min_size=2, max_size=6), values)


def read_all(data: bytes, header: int = 10, most: int = 1000) -> list[bytes]:
    """The bodies in these bytes, after which the connection ends."""

    async def read() -> list[bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        found = []
        while head := await frames.next_header(reader, header, 1.0):
            found.append(await frames.rest(reader, frames.length_of(head, most), 1.0))
        return found

    return asyncio.run(read())


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(3, 20))
def test_what_is_framed_is_read_again(texts: list[bytes], header: int) -> None:
    data = b"".join(frames.framed(text, header) for text in texts)
    assert read_all(data, header) == texts


@given(st.binary(max_size=100))
def test_any_bytes_are_frames_or_a_frame_error(data: bytes) -> None:
    try:
        assert all(len(text) <= 1000 for text in read_all(data))
    except frames.FrameError:
        return


def test_a_header_is_padded_on_the_right_as_the_original_does() -> None:
    assert frames.framed(b"{}", 10) == b"2         {}"
    assert frames.length_of(b"        42", 100) == 42  # whoever does it on the left is understood
    with pytest.raises(MessageError, match="1000 bytes do not fit into a header of 3"):
        frames.framed(b"x" * 1000, 3)


@given(st.binary(max_size=200), st.sampled_from(["utf-8", "latin-1", "ascii", "cp1252"]))
def test_any_bytes_are_a_body_or_a_decode_error(text: bytes, encoding: str) -> None:
    try:
        body = gateway_codec.parse(text, encoding)
        type_ = gateway_codec.type_of(body)
        gateway_codec.complete(body, "ann")
        stream = gateway_codec.stream_of(
            TREBUCHET, gateway_codec.text_field(body, "TO_ROOM"), type_
        )
        codec.encode(gateway_codec.message_of(body, stream), stream)
    except MessageError:
        return


@given(fields)
def test_a_free_message_arrives_as_it_was_sent(payload: dict[str, Any]) -> None:
    """Through the stream, and back into JSON."""
    sent = {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/CUSTOM", "TO_ROOM": "cave", **payload}
    body = gateway_codec.parse(json.dumps(sent).encode(), "utf-8")
    gateway_codec.complete(body, "ann")
    stream = gateway_codec.stream_of(None, "cave", "DATA/CUSTOM")
    pairs = codec.encode(gateway_codec.message_of(body, stream), stream)
    entry = gateway_codec.entry_of(
        "cave", "DATA/CUSTOM", "1-0", dict(zip(pairs[::2], pairs[1::2], strict=True))
    )
    assert json.loads(gateway_codec.encode(entry.body, "utf-8")) == {
        "SENT_BY": "ann",
        "MODEL_STATUS": 1,
        **sent,
    }
    assert json.loads(gateway_codec.encode(entry.body, "ascii")) == entry.body


def test_arrays_of_components_become_lists() -> None:
    stream = TREBUCHET.stream("input", "DATA/FORWARD")
    batch = np.arange(200, dtype="<f4").reshape(100, 2) / 7
    message = gateway_codec.message_of(
        {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "DATA": batch.tolist()}, stream
    )
    pairs = codec.encode(message, stream)
    entry = gateway_codec.entry_of(
        *stream.key, "1-0", dict(zip(pairs[::2], pairs[1::2], strict=True))
    )
    got = json.loads(gateway_codec.encode(entry.body, "utf-8"))["DATA"]
    assert np.array(got, "<f4").tobytes() == batch.tobytes()
    assert got[1] == pytest.approx(batch[1].tolist())


@pytest.mark.parametrize("name", ["v", "m"])
def test_names_of_the_protocol_are_not_lost_without_a_word(name: str) -> None:
    stream = gateway_codec.stream_of(None, "cave", "DATA/CUSTOM")
    with pytest.raises(DecodeError, match=f"{name}: this name is the protocol's"):
        gateway_codec.message_of(
            {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/CUSTOM", name: 1}, stream
        )


def test_numbers_as_ids_are_texts_from_then_on() -> None:
    body: dict[str, Any] = {"ID": 7, "ROOT_ID": None}
    gateway_codec.complete(body, "ann")
    assert body["ID"] == "7"
    assert len(body["ROOT_ID"]) == 32
    assert body["SENT_BY"] == "ann"


def test_a_message_in_streams_that_is_none_is_an_error() -> None:
    for found in ({}, {b"m": b"rubbish"}, {b"m": b"[]"}):
        with pytest.raises(DecodeError):
            gateway_codec.entry_of("cave", "DATA/CUSTOM", "1-0", found)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("number", [2**53 + 1, 2**64 - 1, 2**64 + 1, -(2**63) - 1, 10**30])
def test_integers_of_any_size_arrive_as_they_were_sent(number: int, encoding: str) -> None:
    """Also as IDs, which are texts from then on."""
    sent = {"ID": number, "ROOT_ID": "r", "TYPE": "DATA/CUSTOM", "TO_ROOM": "cave", "X": [number]}
    body = gateway_codec.parse(json.dumps(sent).encode(encoding), encoding)
    gateway_codec.complete(body, "ann")
    stream = gateway_codec.stream_of(None, "cave", "DATA/CUSTOM")
    pairs = codec.encode(gateway_codec.message_of(body, stream), stream)
    entry = gateway_codec.entry_of(
        "cave", "DATA/CUSTOM", "1-0", dict(zip(pairs[::2], pairs[1::2], strict=True))
    )
    got = json.loads(gateway_codec.encode(entry.body, encoding))
    assert (got["ID"], got["X"]) == (str(number), [number])


def test_numbers_that_json_does_not_have_reach_clients_as_null() -> None:
    body = {"LOSS": math.nan, "BEST": np.array([1, np.inf])}
    assert gateway_codec.encode(body, "utf-8") == b'{"LOSS":null,"BEST":[1.0,null]}'
