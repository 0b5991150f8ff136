"""Arrays of any layout in memory arrive exactly as they are, or are refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from roomgrad import (
    Array,
    Component,
    Context,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    dtypes,
    exact_json,
    on,
)
from roomgrad.codec import decode, encode, header, pack, unpack
from roomgrad.errors import MessageError
from roomgrad.testing import call

FORWARD, ROOM, OUT = MessageType.FORWARD, Room("room"), Room("out")
Numbers = NDArray[Any]


def read_only(array: Numbers) -> Numbers:
    array = array.copy()
    array.flags.writeable = False
    return array


TAKEN: dict[str, Callable[[Numbers], Numbers]] = {
    "Fortran": np.asfortranarray,
    "transposed": lambda array: array.T,
    "every other column": lambda array: array[:, ::2],
    "every other row": lambda array: array[1::2],
    "backwards": lambda array: array[::-1, ::-1],
    "read-only": read_only,
    "broadcast": lambda array: np.broadcast_to(array[:1], array.shape),
    "diagonal": lambda array: array.diagonal(),
    "0-d": lambda array: array[1, 1, ...],
    "0-d of a view": lambda array: array[::-1].reshape(-1)[3:4].reshape(()),
    "matrix": lambda array: array.view(np.matrix),
    "no rows": lambda array: array.T[:0],
}
REFUSED: dict[str, Callable[[Numbers], Numbers]] = {
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "0-d, big-endian": lambda array: array.astype(array.dtype.newbyteorder(">"))[1, 1, ...],
    "masked": lambda array: np.ma.masked_less(array, 3),
    "record": lambda array: array.reshape(-1)[:2].view([("x", array.dtype)]),
}
# Inline in `m`, and in a field of its own; floats of a record are never inline.
BOTH_SIZES = pytest.mark.parametrize("rows", [4, 40])
DTYPES = pytest.mark.parametrize("dtype", ["<f4", "<i8", "bfloat16"])
EACH_TAKEN = pytest.mark.parametrize("layout", TAKEN.values(), ids=TAKEN)
EACH_REFUSED = pytest.mark.parametrize("layout", REFUSED.values(), ids=REFUSED)


def array_of(layout: Callable[[Numbers], Numbers], dtype: str, rows: int = 4) -> Numbers:
    plain = np.arange(rows * 3).reshape(rows, 3) % 100
    return layout(plain.astype(dtypes.from_name(dtype)))


def stream_for(array: Numbers, dtype: str, room: Room = ROOM) -> Stream:
    schema = Array(dtype, tuple(f"n{axis}" for axis in range(array.ndim)))
    return Stream(room, FORWARD, {"DATA": schema}, ("echo",) if room is ROOM else ())


def assert_same(found: Any, array: Numbers) -> None:
    """The same dtype, shape and numbers, in a plain array that may be changed."""
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.astype("<f8").tolist() == array.astype("<f8").tolist()
    assert found.flags.c_contiguous
    assert found.flags.writeable


@EACH_TAKEN
@BOTH_SIZES
@DTYPES
def test_a_message_brings_any_layout(
    layout: Callable[[Numbers], Numbers], dtype: str, rows: int
) -> None:
    """By lists, or by bytes in the order of C."""
    array = array_of(layout, dtype, rows)
    stream = stream_for(array, dtype)
    checked = stream.schema["DATA"].check("DATA", array)
    assert np.array_equal(checked, array)
    message = Message.open(ROOM, array)
    assert_same(decode("1-1", encode(message, stream), stream).data, array)
    assert str(list(array.shape)).replace(" ", "").encode() in header(message)


@EACH_TAKEN
@BOTH_SIZES
@DTYPES
def test_a_record_brings_any_layout(
    layout: Callable[[Numbers], Numbers], dtype: str, rows: int
) -> None:
    array = array_of(layout, dtype, rows)
    assert_same(unpack(pack({"x": array, "after": np.ones(3)}))["x"], array)


@EACH_TAKEN
@BOTH_SIZES
@DTYPES
def test_a_handler_gets_and_returns_any_layout(
    layout: Callable[[Numbers], Numbers], dtype: str, rows: int
) -> None:
    """Also through memory and tables."""
    array = array_of(layout, dtype, rows)

    @on(ROOM, FORWARD, replies=[(OUT, FORWARD)])
    def echo(message: Message, context: Context) -> Message:
        assert_same(message.data, array)
        context.memory.put(message.id, kept=array)
        context.table("shown").put("x", kept=array)
        return message.reply(OUT, array)

    streams = (stream_for(array, dtype), stream_for(array, dtype, OUT))
    system = System("layouts", streams, ("echo",))
    component = Component("echo", system, RuntimeSettings, [echo], tables=["shown"])
    message = Message.open(ROOM, array)
    called = call(component, message, memory={"before": {"kept": array}})
    assert_same(called.replies[0].data, array)
    for record in (*called.memory.values(), called.tables["shown"]["x"]):
        assert_same(record["kept"], array)


@EACH_TAKEN
@pytest.mark.parametrize("dtype", ["<f4", "<i8", "bfloat16", ">f4", ">i8"])
def test_json_has_the_numbers_of_any_layout(
    layout: Callable[[Numbers], Numbers], dtype: str
) -> None:
    """Without a schema an array is lists, so its byte order does not matter."""
    array = array_of(layout, dtype)
    free = Stream(ROOM, FORWARD, {})
    message = Message.open(ROOM, X=array, MORE=[{"deep": array}])
    fields = decode("1-1", encode(message, free), free).fields
    assert fields["X"] == fields["MORE"][0]["deep"] == array.tolist()
    assert exact_json.loads(exact_json.dumps(array, default=str)) == array.tolist()


@EACH_REFUSED
@BOTH_SIZES
@DTYPES
def test_what_would_be_misread_is_refused(
    layout: Callable[[Numbers], Numbers], dtype: str, rows: int
) -> None:
    """In messages and in records, before anything is written."""
    array = array_of(layout, dtype, rows)
    for refused in (
        lambda: stream_for(array, dtype).schema["DATA"].check("DATA", array),
        lambda: encode(Message.open(ROOM, array), stream_for(array, dtype)),
        lambda: pack({"DATA": array}),
    ):
        with pytest.raises(MessageError, match="DATA: expected"):
            refused()
