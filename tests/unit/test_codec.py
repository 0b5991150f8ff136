"""Messages to entries and back; and whatever else may stand in an entry."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from roomgrad import Array, Message, MessageType, ModelStatus, Room, Stream, dtypes
from roomgrad.codec import (
    HEADER_PREFIX,
    INLINE_VALUES,
    MAX_MESSAGE_BYTES,
    decode,
    encode,
    from_body,
    header,
    pack,
    parse_body,
    unpack,
)
from roomgrad.errors import DecodeError, MessageError, SchemaError
from roomgrad.messages import MAX_SEED
from roomgrad.rooms import Text

ROOM = Room("room")
DTYPES = dtypes.NAMES
PAIRS = Stream(
    ROOM,
    MessageType.FORWARD,
    {"DATA": Array("<f4", ("batch", 2)), "FRAMES": Array("<i8", (), optional=True)},
)
FREE = Stream(ROOM, MessageType.FORWARD, {})


def arrays() -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Finite arrays of every dtype, of up to 4 dimensions, on both sides of the inline limit."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
    finite = {"allow_nan": False, "allow_infinity": False}
    of_numpy = st.sampled_from([each for each in DTYPES if each != dtypes.BFLOAT16])
    bfloat16 = hnp.arrays("<u2", shapes).map(
        lambda bits: np.asarray(bits & 0xFF7F, "<u2").view(dtypes.from_name("bfloat16"))
    )
    return bfloat16 | of_numpy.flatmap(
        lambda dtype: hnp.arrays(dtype, shapes, elements=finite if "f" in dtype else None)
    )


def any_shape(array: np.ndarray[Any, Any]) -> Stream:
    schema = Array(dtypes.name_of(array.dtype), tuple(f"n{axis}" for axis in range(array.ndim)))
    return Stream(ROOM, MessageType.FORWARD, {"DATA": schema})


@given(arrays())
def test_a_message_comes_back_as_it_went(array: np.ndarray[Any, Any]) -> None:
    """Every dtype, shape and size keeps every bit, inline or raw."""
    message = Message.open(ROOM, array, status=ModelStatus.VALIDATE)
    message.sent_by, message.to = "me", "you"
    fields = encode(message, any_shape(array))
    back = decode("1-1", fields, any_shape(array))
    assert back.data is not None
    assert (back.data.dtype, back.data.shape) == (array.dtype, array.shape)
    assert back.data.tobytes() == array.tobytes()
    assert (back.id, back.root_id, back.status) == (message.id, message.root_id, message.status)
    assert (back.sent_by, back.to, back.entry) == ("me", "you", "1-1")
    large = array.size > INLINE_VALUES or (array.size == 0 and array.ndim > 1)
    assert (len(fields) > 6) == large


@given(st.none() | st.integers(0, MAX_SEED), st.integers(1, 20))
def test_a_seed_comes_back_as_it_went(seed: int | None, rows: int) -> None:
    """In an entry field of its own, beside arrays inline or raw, or in a body."""
    message = Message.open(ROOM, np.ones((rows, 2), "<f4"), seed=seed)
    fields = encode(message, PAIRS)
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    assert pairs.get(b"SEED") == (None if seed is None else b"%d" % seed)
    assert b"SEED" not in pairs[b"m"]
    assert decode("1-1", fields, PAIRS).seed == seed
    body = parse_body(pairs[b"m"]) | {"SEED": seed}
    assert from_body(body, PAIRS, {b"DATA": pairs.get(b"DATA", b"")}).seed == seed
    assert from_body(body, PAIRS, pairs).seed == seed


def test_a_seed_in_the_body_counts_before_that_of_the_entry() -> None:
    """As for ID and ROOT_ID."""
    body = {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "SEED": 1}
    assert from_body(body, FREE, {b"SEED": b"2"}).seed == 1


WRONG_SEEDS = [-1, 2**63, 2**80, 1.0, True, "5", [1], math.nan]


@pytest.mark.parametrize("seed", WRONG_SEEDS)
def test_a_seed_that_is_none_is_refused_with_its_value(seed: Any) -> None:
    message = Message.open(ROOM, np.ones((1, 2), "<f4"), seed=seed)
    expected = "SEED: expected a whole number from 0 to 2\\*\\*63 - 1, got"
    with pytest.raises(SchemaError, match=expected):
        encode(message, PAIRS)
    body = {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "SEED": seed}
    with pytest.raises(DecodeError, match=expected):
        from_body(body, FREE, {})


@pytest.mark.parametrize(
    "text", [b"", b"-1", b"+1", b" 1", b"1_0", b"9" * 19, b"9" * 10**6, b"\xb2"]
)
def test_a_seed_whose_text_is_none_is_refused(text: bytes) -> None:
    fields = encode(Message.open(ROOM, np.ones((1, 2), "<f4")), PAIRS)
    with pytest.raises(DecodeError, match="SEED: expected a whole number"):
        decode("1-1", [*fields, b"SEED", text], PAIRS)


@given(st.dictionaries(st.text(min_size=1, max_size=5), arrays(), max_size=4))
def test_a_record_comes_back_as_it_went(record: dict[str, np.ndarray[Any, Any]]) -> None:
    """Arrays of a record keep dtype, shape and bits."""
    try:
        packed = pack(record)
    except MessageError:  # half a surrogate pair in a name
        return
    back = unpack(packed)
    assert back.keys() == record.keys()
    for name, array in record.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()


def test_a_record_holds_texts_numbers_and_lists() -> None:
    """And its first line is JSON that a person can read."""
    record = {"ROOT_ID": "r", "batch": 7, "miss": 0.5, "tags": ["a", "b"], "none": None}
    packed = pack({**record, "data": np.zeros(3, "<f4")})
    assert orjson.loads(packed.partition(b"\n")[0])["batch"] == 7
    back = unpack(packed)
    assert back.pop("data").tolist() == [0, 0, 0]
    assert back == record


@pytest.mark.parametrize("dtype", [">f4", "<c8", "<U3", "O", "<M8[s]"])
def test_a_record_refuses_arrays_that_would_not_come_back(dtype: str) -> None:
    """When it is put, not when it is needed again."""
    with pytest.raises(SchemaError, match="targets"):
        pack({"targets": np.zeros(3, dtype)})


def test_float_records_keep_nan() -> None:
    """Memory is the component's own: NaN there is no error of a message."""
    assert np.isnan(unpack(pack({"x": np.array([np.nan], "<f4")}))["x"]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, INLINE_VALUES, INLINE_VALUES + 1, 1000])
def test_every_array_that_is_read_may_be_changed_in_place(dtype: str, size: int) -> None:
    """In messages and in records; what was read before stays as it was."""
    array = np.zeros(size, dtypes.from_name(dtype))
    fields, packed = encode(Message.open(ROOM, array), any_shape(array)), pack({"x": array})
    for read in (
        lambda: decode("1-1", fields, any_shape(array)).array,
        lambda: unpack(packed)["x"],
    ):
        changed = read()
        changed[...] = 1
        assert not read().any()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 2**64 + 1, -(2**63) - 1, 0.0])
def test_any_number_comes_back_where_no_schema_forbids_it(number: float) -> None:
    """In fields of a message without a schema, and in records, also in lists and in numpy."""
    given = {"A": number, "B": [1.0, {"c": [number]}], "C": None, "D": np.float64(number)}
    message = Message.open(ROOM, **given)
    expected = repr({**given, "D": float(number)})
    assert repr(dict(decode("1-1", encode(message, FREE), FREE).fields)) == expected
    assert repr(unpack(pack(given))) == expected


def test_long_integers_are_numbers_for_an_array_of_floats() -> None:
    """As JavaScript writes 1e20; integers do not get them."""
    body = b'{"v":1,"ID":"a","ROOT_ID":"b","TYPE":"DATA/FORWARD","DATA":[100000000000000000000,1]}'
    floats = Stream(ROOM, MessageType.FORWARD, {"DATA": Array("<f4", ("n",))})
    whole = Stream(ROOM, MessageType.FORWARD, {"DATA": Array("<i8", ("n",))})
    for parsed in (parse_body(body), parse_body(body, exact=False)):
        assert from_body(parsed, floats, {}).array.tolist() == [np.float32(1e20), 1]
        with pytest.raises(SchemaError, match="expected integers"):
            from_body(parsed, whole, {})


@pytest.mark.parametrize("size", [2, 100])
def test_bfloat16_is_named_so_on_the_wire(size: int) -> None:
    """Its bytes are the upper half of a float32's; lists hold its numbers, also typed ones."""
    floats = np.linspace(-3, 3e38, size, dtype="<f4")
    array = floats.astype(dtypes.from_name("bfloat16"))
    stream = any_shape(array)
    assert stream.schema["DATA"].describe() == "(n0,)"
    fields = encode(Message.open(ROOM, array), stream)
    data = orjson.loads(fields[5])["DATA"]
    if size > INLINE_VALUES:
        assert data["$array"] == {"field": "DATA", "dtype": "bfloat16", "shape": [size]}
        upper = np.frombuffer(fields[7], "<u2").astype("<u4") << 16
        data = upper.view("<f4").tolist()
    assert data == array.astype("<f8").tolist()
    record = pack({"x": array})
    assert b'"dtype":"bfloat16"' in record
    assert unpack(record)["x"].dtype == array.dtype


def test_no_system_without_bfloat16_imports_ml_dtypes() -> None:
    """It takes 20 ms, as long as half of the SDK."""
    program = "import sys, numpy as np, roomgrad.testing as t, roomgrad.codec as c;"
    program += "c.unpack(c.pack({'x': np.zeros(40)})); assert 'ml_dtypes' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


# an empty gradient

GRADIENTS = Stream(
    ROOM,
    MessageType.GRADIENT,
    {
        "DATA": Array("<f4", ("batch", 2)),
        "SCALE": Array("bfloat16", ()),
        "WHY": Text(),
        "MORE": Array("<f4", (), optional=True),
    },
)


@pytest.mark.parametrize("stream", [GRADIENTS, Stream(ROOM, MessageType.GRADIENT, {})])
def test_a_gradient_without_any_field_fits_every_schema(stream: Stream) -> None:
    """For a sender that has nothing to learn from: its root comes home."""
    forward = Message.open(ROOM, np.ones((1, 2), "<f4"), seed=4)
    sent = forward.reply(ROOM, type=MessageType.GRADIENT, id=forward.id)
    back = decode("1-1", encode(sent, stream), stream)
    assert back.data is None
    assert back.fields == {}
    assert (back.id, back.root_id, back.seed) == (forward.id, forward.root_id, 4)
    assert back.array.size == 0
    header(back)


def test_a_gradient_with_some_of_its_fields_is_not_empty() -> None:
    """Nor is a forward message without any."""
    half = Message.open(ROOM, np.ones((1, 2), "<f4"), type=MessageType.GRADIENT)
    with pytest.raises(SchemaError, match="field SCALE of shape \\(\\) is missing"):
        encode(half, GRADIENTS)
    optional = Message.open(ROOM, type=MessageType.GRADIENT, MORE=np.float32(1))
    with pytest.raises(SchemaError, match=r"field DATA of shape .* is missing"):
        encode(optional, GRADIENTS)
    body = {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/GRADIENT"}
    with pytest.raises(SchemaError, match=r"field DATA of shape .* is missing"):
        from_body({**body, "WHY": "late"}, GRADIENTS, {})
    with pytest.raises(SchemaError, match=r"field DATA of shape .* is missing"):
        encode(Message.open(ROOM), PAIRS)


# what an entry looks like


def test_a_small_array_can_be_read_by_a_person() -> None:
    """Up to 16 values stand as lists in `m`."""
    message = Message.open(ROOM, np.array([[1, 2], [3, 4]], "<f4"))
    fields = encode(message, PAIRS)
    assert fields[::2] == [b"ID", b"ROOT_ID", b"m"]
    assert orjson.loads(fields[5])["DATA"] == [[1, 2], [3, 4]]


def test_a_larger_array_stands_in_a_field_of_its_own() -> None:
    """As raw little-endian bytes, with dtype and shape in `m`."""
    array = np.arange(200, dtype="<f4").reshape(100, 2)
    fields = encode(Message.open(ROOM, array), PAIRS)
    assert fields[6:] == [b"DATA", array.tobytes()]
    spec = orjson.loads(fields[5])["DATA"]
    assert spec == {"$array": {"field": "DATA", "dtype": "<f4", "shape": [100, 2]}}


def test_a_header_is_short_and_holds_no_numbers() -> None:
    """It says what came and where it stands, in less than 1 KiB."""
    text = header(Message.open(ROOM, np.zeros((1000, 2), "<f4")))
    assert text.startswith(HEADER_PREFIX)
    assert len(text) < 1024
    told = orjson.loads(text + b'1-1"}')
    assert told["shape"] == [1000, 2]
    assert told["entry"] == "1-1"


# what the sender is told


def test_a_sender_is_told_what_does_not_fit() -> None:
    """Missing and unknown fields are named; the envelope's names are not for the system."""
    with pytest.raises(SchemaError, match=r"field DATA of shape \(batch, 2\) is missing"):
        encode(Message.open(ROOM), PAIRS)
    with pytest.raises(SchemaError, match="unknown field 'FRAME'; allowed are DATA, FRAMES"):
        encode(Message.open(ROOM, np.zeros((1, 2), "<f4"), FRAME=1), PAIRS)
    with pytest.raises(SchemaError, match="ROOT_ID"):
        encode(Message("room", "DATA/FORWARD", "i", "r", fields={"ROOT_ID": "other"}), FREE)
    with pytest.raises(SchemaError, match="cannot be written as JSON"):
        encode(Message.open(ROOM, THING=object()), FREE)


def test_a_message_of_more_than_64_mib_is_refused_by_its_sender() -> None:
    """With the limit, and what to do."""
    array = np.zeros((MAX_MESSAGE_BYTES // 8 + 1, 2), "<f4")
    with pytest.raises(SchemaError, match="split the batch"):
        encode(Message.open(ROOM, array), PAIRS)


# what the receiver may find


def entry(**changes: Any) -> list[bytes]:
    body = {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "DATA": [[1, 2]]}
    body = {name: value for name, value in {**body, **changes}.items() if value is not ...}
    return [b"m", orjson.dumps(body)]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([b"x", b"1"], "expected a field m"),
        ([b"m", b"hello"], "not JSON"),
        ([b"m", b"[1, 2]"], "expected a JSON object, got list"),
        ([b"m", b'{"ID": "i", "DATA": NaN}'], "not JSON"),
        (entry(v=2), "format version 2: this release reads 1; update all components"),
        (entry(TYPE="DATA/NOISE"), "TYPE 'DATA/NOISE' does not belong"),
        (entry(TYPE=...), "TYPE: expected a text"),
        (entry(ROOT_ID=...), "ROOT_ID: expected a text of 1 to 128 characters"),
        (entry(ROOT_ID=""), "ROOT_ID: expected a text of 1 to 128 characters"),
        (entry(ID="x" * 129), "ID: expected a text of 1 to 128 characters"),
        (entry(ID=5), "ID: expected a text"),
        (entry(MODEL_STATUS=4), "MODEL_STATUS: expected 1 (train), 2 (validate) or 3"),
        (entry(MODEL_STATUS=[]), "MODEL_STATUS: expected 1 (train), 2"),
        (entry(MODEL_STATUS=True), "MODEL_STATUS: expected 1 (train), 2"),
        (entry(DATA=...), "field DATA of shape (batch, 2) is missing"),
        (entry(DATA=[[1, 2, 3]]), "expected shape (batch, 2), got (1, 3)"),
        (entry(DATA=[[None, 1]]), "DATA: expected"),
        (entry(DATA={"$array": 5}), "DATA: expected an array"),
        (entry(DATA={"$array": {"field": "gone"}}), "the field with its bytes is missing"),
        (entry(EXTRA=1), "unknown field 'EXTRA'; allowed are DATA, FRAMES"),
        (entry(FRAMES=1.5), "FRAMES: expected"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(fields: list[bytes], reason: str) -> None:
    """The reason names the field, the expectation and what came."""
    with pytest.raises(MessageError) as caught:
        decode("1-1", fields, PAIRS)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        {"dtype": "<f4", "shape": [100, 2]},  # of 800 bytes, got 8
        {"dtype": "<f4", "shape": [2**39, 2**39]},
        {"dtype": "<f4", "shape": [0, 2**39, 2**39]},
        {"dtype": "<f4", "shape": [-1, 2]},
        {"dtype": "<f4", "shape": [1.0, 2.0]},
        {"dtype": "<f4", "shape": [True, 2]},
        {"dtype": "<f4", "shape": "12"},
        {"dtype": "<f4"},
        {"dtype": "O", "shape": [1]},
        {"dtype": "<f8,<f8", "shape": [1]},
        {"dtype": ["<f4"], "shape": [1, 2]},
        {"shape": [1, 2]},
    ],
)
def test_announced_sizes_are_checked_before_anything_is_made(spec: dict[str, Any]) -> None:
    """A shape that does not match the bytes is refused and costs no memory."""
    fields = [*entry(DATA={"$array": {"field": "DATA", **spec}}), b"DATA", b"\0" * 8]
    tracemalloc.start()
    try:
        with pytest.raises(MessageError):
            decode("1-1", fields, PAIRS)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["DATA/FORWARD", "DATA", "$array", "<f4", "m"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["$array", "field", "dtype", "shape", "DATA", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "field": st.sampled_from(["DATA", "m", "", "FRAMES"]) | json,
        "dtype": st.sampled_from([*DTYPES, "O", ">f4"]) | json,
        "shape": st.lists(st.integers(-1, 2**41), max_size=9) | json,
    },
)


@settings(max_examples=300)
@given(
    body=st.fixed_dictionaries(
        {},
        optional={
            "v": st.just(1) | json,
            "ID": st.text(max_size=3) | json,
            "ROOT_ID": st.just("r") | json,
            "TYPE": st.just("DATA/FORWARD") | json,
            "MODEL_STATUS": st.sampled_from([1, 2]) | json,
            "SENT_BY": json,
            "TO": json,
            "DATA": json | specs.map(lambda spec: {"$array": spec}),
            "FRAMES": json | specs.map(lambda spec: {"$array": spec}),
        },
    ),
    raw=st.binary(max_size=64),
)
@example(body={"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "DATA": [[1e300, 1]]}, raw=b"")
def test_no_json_raises_anything_but_a_message_error(body: dict[str, Any], raw: bytes) -> None:
    """Whatever a body says, it is a message or it is refused as one."""
    try:
        text = orjson.dumps(body)
    except TypeError:
        return
    for stream in (PAIRS, FREE):
        try:
            message = decode("1-1", [b"m", text, b"DATA", raw], stream)
        except MessageError:
            continue
        assert message.id
        assert message.root_id


@given(st.lists(st.tuples(st.sampled_from([b"m", b"ID", b"DATA"]) | st.binary(), st.binary())))
def test_no_bytes_raise_anything_but_a_message_error(pairs: list[tuple[bytes, bytes]]) -> None:
    """Whatever stands in an entry, it is a message or it is refused as one."""
    fields = [part for pair in pairs for part in pair]
    with pytest.raises(MessageError):
        decode("1-1", fields, PAIRS)


@given(st.binary())
@example(b'{"x":{"$array":{"dtype":"<f4","shape":[-1],"at":0}}}\n')
@example(b'{"x":{"$array":{"dtype":"<f4","shape":"abc","at":0}}}\n')
@example(b'{"x":{"$array":{"dtype":"<f4","shape":[3],"values":[1]}}}')
@example(b'{"x":{"$array":{"dtype":"<f4","shape":5,"at":0}}}\n')
@example(b'{"x":{"$array":{"dtype":"|i1","shape":[1],"values":[1000]}}}\n')
def test_no_stored_bytes_raise_anything_but_a_decode_error(value: bytes) -> None:
    """Somebody may have written into the hash."""
    with contextlib.suppress(DecodeError):
        unpack(value)


def test_deeply_nested_lists_are_refused() -> None:
    """A thousand brackets are no array."""
    text = b'{"ID":"i","ROOT_ID":"r","TYPE":"DATA/FORWARD","DATA":%s}' % (b"[" * 900 + b"]" * 900)
    with pytest.raises(MessageError):
        decode("1-1", [b"m", text], PAIRS)
