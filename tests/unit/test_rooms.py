"""Rooms, schemas and contracts."""

from __future__ import annotations

import numpy as np
import pytest

from roomgrad import Array, MessageType, Room, Stream, System, dtypes
from roomgrad.errors import ContractError, SchemaError
from roomgrad.rooms import MOST_DOT_VALUES
from roomgrad_trebuchet.contract import TREBUCHET

PAIRS = Array("<f4", ("batch", 2))
ROOM = Room("room")


@pytest.mark.parametrize(
    ("value", "expected", "came"),
    [
        (np.zeros((3, 2)), "expected dtype <f4", "got <f8"),
        (np.zeros((3, 2), ">f4"), "expected dtype <f4", "got >f4"),
        (np.zeros((3, 3), "<f4"), "expected shape (batch, 2)", "got (3, 3)"),
        (np.zeros(2, "<f4"), "expected shape (batch, 2)", "got (2,)"),
        (np.array([[1, np.nan]], "<f4"), "expected finite numbers", "NaN"),
        (np.array([[1, np.inf]], "<f4"), "expected finite numbers", "infinity"),
        ([[1, 2], [3]], "expected numbers of shape (batch, 2)", "got [[1, 2], [3]]"),
        ([["1", "2"]], "expected numbers", "got [['1', '2']]"),
        ([[True, False]], "expected numbers", "got [[True, False]]"),
        ([[None, 1]], "expected numbers", "got [[None, 1]]"),
        ([[1e39, 1]], "expected finite numbers", "infinity"),
        ({"a": 1}, "expected numbers", "got {'a': 1}"),
        ("12", "expected numbers", "got '12'"),
    ],
)
def test_what_does_not_fit_is_named_with_what_was_expected(
    value: object, expected: str, came: str
) -> None:
    """The error names the field, the expectation and what came."""
    with pytest.raises(SchemaError) as caught:
        PAIRS.check("DATA", value)
    text = str(caught.value)
    assert text.startswith("DATA: ")
    assert expected in text
    assert came in text


@pytest.mark.parametrize("value", [1.5, [1], "1", True, None, 2**63, float("nan")])
def test_a_whole_number_is_never_rounded_or_read_from_text(value: object) -> None:
    """1.5 frames are refused, not taken for 1."""
    with pytest.raises(SchemaError, match="FRAMES: expected"):
        Array("<i8", ()).check("FRAMES", value)


@pytest.mark.parametrize(("dtype", "value"), [("|i1", 128), ("|u1", -1), ("<i2", 2**15)])
def test_a_number_too_large_for_its_dtype_is_refused(dtype: str, value: int) -> None:
    """It does not wrap around."""
    with pytest.raises(SchemaError):
        Array(dtype, ("n",)).check("DATA", [value])


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("<f4", [1, 2]), ("<f8", [0.5]), ("|i1", [-128]), ("|b1", [True]), ("<f4", []), ("|u1", [])],
)
def test_lists_become_arrays_of_the_schema(dtype: str, value: list[float]) -> None:
    """A message that a person typed is as good as any."""
    array = Array(dtype, ("n",)).check("DATA", value)
    assert array.dtype.str == dtype
    assert array.tolist() == value


HALF = Array("bfloat16", ("n",), low=-2, high=0.1, nullable=True)
BFLOAT16 = dtypes.from_name("bfloat16")


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", "bfloat16"])
def test_a_limit_is_as_exact_as_the_dtype(dtype: str) -> None:
    """0.1 and 0.7 are within 0.1 to 0.7, also where they are rounded; their neighbors are not."""
    schema = Array(dtype, ("n",), low=0.1, high=0.7)
    array = schema.check("DATA", [0.1, 0.7])
    for value in (0.099, 0.71):
        with pytest.raises(SchemaError, match=r"expected numbers from 0\.1 to 0\.7, got"):
            schema.check("DATA", np.array([value], array.dtype))
    assert Array(dtype, ("n",), high=1e300).check("DATA", [1.0]).tolist() == [1]


def test_bfloat16_is_a_dtype_like_others() -> None:
    """Lists are rounded to it; what is not finite, not in the range or no number is refused."""
    array = HALF.check("DATA", [0.1, -2, None, 0])
    assert array.dtype == BFLOAT16
    assert np.isnan(array.astype("<f4")[2])
    assert array.astype("<f4")[[0, 1, 3]].tolist() == [0.10009765625, -2, 0]
    assert HALF.check("DATA", array) is array
    assert HALF.check("DATA", list(array)).tobytes() == array.tobytes()
    assert Array("bfloat16", ()).check("DATA", array[1]).shape == ()
    assert Array("bfloat16", ("n",)).check("DATA", [2**70]).tolist() == [2.0**70]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([0.11], "expected numbers from -2 to 0.1, got 0.109863"),
        (np.array([-3], BFLOAT16), "expected numbers from -2 to 0.1, got -3"),
        (np.array([np.inf], BFLOAT16), "expected finite numbers or null, got infinity"),
        ([3.4e38], "expected finite numbers or null, got infinity"),
        (["1"], "expected numbers of shape"),
        ([True], "expected numbers of shape"),
        ([[1], [2, 3]], "expected numbers of shape"),
        (np.zeros(2, "<f4"), "expected dtype bfloat16, got <f4"),
        (np.zeros(2, "V2"), "expected dtype bfloat16, got |V2"),
        (np.zeros(2, BFLOAT16.newbyteorder()), "expected dtype bfloat16, got >V2"),
    ],
)
def test_what_does_not_fit_bfloat16_is_refused(value: object, expected: str) -> None:
    with pytest.raises(SchemaError) as caught:
        HALF.check("DATA", value)
    assert expected in str(caught.value)
    with pytest.raises(SchemaError, match="expected dtype <f4, got bfloat16"):
        PAIRS.check("DATA", np.zeros((1, 2), BFLOAT16))


@pytest.mark.parametrize("name", ["ID", "ROOT_ID", "SEED", "TYPE", "v", "m"])
def test_a_schema_cannot_take_a_name_of_the_envelope(name: str) -> None:
    """A field named ID would hide the message's own."""
    with pytest.raises(ContractError, match=name):
        Stream(ROOM, MessageType.FORWARD, {name: PAIRS})


def test_a_contract_refuses_consumers_that_it_does_not_name() -> None:
    """Who consumes is one of the components."""
    stream = Stream(ROOM, MessageType.FORWARD, {"DATA": PAIRS}, ("nobody",))
    with pytest.raises(ContractError, match="nobody"):
        System("system", (stream,), ("somebody",))


def test_a_contract_refuses_two_pages_for_one_stream() -> None:
    """One room and one TYPE look one way."""
    stream = Stream(ROOM, MessageType.FORWARD, {"DATA": PAIRS})
    with pytest.raises(ContractError, match="DATA/FORWARD"):
        System("system", (stream, stream), ())


def test_an_unknown_stream_is_answered_with_those_that_there_are() -> None:
    """A typing error in a room's name is found at once."""
    with pytest.raises(ContractError) as caught:
        TREBUCHET.stream("inputs", "DATA/FORWARD")
    assert "no DATA/FORWARD in room inputs" in str(caught.value)
    assert "input DATA/FORWARD" in str(caught.value)


def test_the_trebuchet_is_a_ring_of_three_rooms() -> None:
    """Every stream of the system has exactly one consumer."""
    assert TREBUCHET.rooms == ("input", "model", "output")
    assert {len(stream.consumers) for stream in TREBUCHET.streams} == {1}
    assert [s.room.name for s in TREBUCHET.consumed_by("simulator")] == ["model", "output"]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("<i8", [1.5], "expected integers of shape (n,), got [1.5]"),
        ("|u1", [True], "expected integers of shape (n,), got [True]"),
        ("|b1", [1], "expected true or false of shape (n,), got [1]"),
        ("<f4", [True], "expected numbers of shape (n,), got [True]"),
    ],
)
def test_the_kind_of_values_that_are_expected_is_said(
    dtype: str, value: object, expected: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        Array(dtype, ("n",)).check("DATA", value)
    assert str(caught.value) == f"DATA: {expected}"


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("size", [3, MOST_DOT_VALUES, MOST_DOT_VALUES + 1])
def test_one_value_that_is_not_finite_is_found_among_any_others(dtype: str, size: int) -> None:
    """Also beside numbers whose squares are no longer finite."""
    schema = Array(dtype, ("n",))
    largest = np.finfo(dtype).max
    for others in (0.0, largest, -largest):
        array = np.full(size, others, dtype)
        assert schema.check("DATA", array) is array
        for wrong in (np.nan, np.inf, -np.inf):
            array[-1] = wrong
            with pytest.raises(SchemaError, match="expected finite numbers"):
                schema.check("DATA", array)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (), (2, 3)])
def test_arrays_are_accepted_whatever_numpy_made_of_them(shape: tuple[int, ...]) -> None:
    """Views, other byte strides and shapes that were seen before."""
    schema = Array("<f4", tuple(f"n{axis}" for axis in range(len(shape))))
    array = np.ones(shape, "<f4")
    for each in (array, array.T.T, np.asfortranarray(array).reshape(shape), array.copy()):
        assert schema.check("DATA", each) is each
