"""What stands in Redis is read by the releases that come: entries and records as they are today.

A change of these bytes is a change of a format. It takes a new version, and a release before it
that understands what it writes; see "Releases side by side" in `docs/protocol.md`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import orjson
import pytest

from roomgrad import Array, Message, MessageType, ModelStatus, Room, Stream
from roomgrad.codec import FORMATS, decode, encode, header, pack, unpack
from roomgrad.errors import DecodeError
from roomgrad.schema import Declaration, HandlerDeclaration
from tests.systems.trebuchet.release import FORMAT_2

ROOM = Room("room")
PAIRS = Stream(ROOM, MessageType.FORWARD, {"DATA": Array("<f4", ("batch", 2))})

SMALL = [
    *(b"ID", b"i", b"ROOT_ID", b"r", b"m"),
    b'{"v":1,"ID":"i","ROOT_ID":"r","TYPE":"DATA/FORWARD","TO_ROOM":"room","SENT_BY":"me",'
    b'"MODEL_STATUS":2,"TO":"you","DATA":[[1.0,0.5]]}',
]
LARGE = [
    *(b"ID", b"i", b"ROOT_ID", b"r", b"m"),
    b'{"v":1,"ID":"i","ROOT_ID":"r","TYPE":"DATA/FORWARD","TO_ROOM":"room","SENT_BY":"me",'
    b'"MODEL_STATUS":1,"DATA":{"$array":{"field":"DATA","dtype":"<f4","shape":[9,2]}}}',
    *(b"DATA", bytes.fromhex("0000803f0000003f") * 9),
]
SECOND = [
    *(b"ID", b"i", b"ROOT_ID", b"r", b"m"),
    b'{"v":2,"ID":"i","ROOT_ID":"r","TYPE":"DATA/FORWARD","SENT_BY":"me","TO":"you",'
    b'"DATA":[[1.0,0.5]],"MODE":"validate"}',
]
RING = (
    b'{"ring":1,"ID":"i","ROOT_ID":"r","TYPE":"DATA/FORWARD","SENT_BY":"me","shape":[1,2],"entry":"'
)
RECORD = (
    b'{"ROOT_ID":"r","batch":7,"bits":{"$array":{"dtype":"|b1","shape":[2],"values":[true,false]}},'
    b'"target":{"$array":{"dtype":"<f4","shape":[2],"at":0}}}\n' + bytes.fromhex("0000803f0000003f")
)
DECLARED = (
    b'{"handlers":[{"name":"shoot","room":"model","type":"DATA/FORWARD",'
    b'"replies":[["output","DATA/FORWARD"]],"about":"Shoots."}],'
    b'"everyone":false,"starts":false,"learns":true}'
)


def message(rows: int, status: ModelStatus, to: str) -> Message:
    data = np.tile(np.array([[1, 0.5]], "<f4"), (rows, 1))
    return Message("room", "DATA/FORWARD", "i", "r", data, status, "me", to)


GOLDEN = [(SMALL, 1, ModelStatus.VALIDATE, "you"), (LARGE, 9, ModelStatus.TRAIN, "")]


@pytest.fixture
def second() -> Iterator[None]:
    """A release that understands format 2, too, and still writes format 1."""
    FORMATS.versions[2] = FORMAT_2
    yield
    FORMATS.current = 1
    del FORMATS.versions[2]


@pytest.mark.parametrize(("entry", "rows", "status", "to"), GOLDEN)
def test_entries_are_written_and_read_as_ever(
    entry: list[bytes], rows: int, status: ModelStatus, to: str
) -> None:
    """Byte by byte; one without a version is of the first."""
    sent = message(rows, status, to)
    assert encode(sent, PAIRS) == entry
    without = [part.replace(b'"v":1,', b"") for part in entry]
    for fields in (entry, without):
        assert_same(decode("1-1", fields, PAIRS), sent)


def test_an_entry_with_a_seed_is_that_entry_with_one_field_more() -> None:
    """`m` and the version stay, so that a release that does not know SEED reads it."""
    sent = message(9, ModelStatus.TRAIN, "")
    sent.seed = 2**63 - 1
    entry = [*LARGE[:6], b"SEED", b"9223372036854775807", *LARGE[6:]]
    assert encode(sent, PAIRS) == entry
    assert decode("1-1", entry, PAIRS).seed == sent.seed


def assert_same(back: Message, sent: Message) -> None:
    assert np.array_equal(back.array, sent.array)
    assert (back.id, back.root_id, back.status) == (sent.id, sent.root_id, sent.status)
    assert (back.sent_by, back.to) == (sent.sent_by, sent.to)


def test_headers_records_and_declarations_are_as_ever() -> None:
    """They carry no version: fields may come, none changes what it means."""
    sent = message(1, ModelStatus.TRAIN, "")
    assert header(sent) == RING
    bits, target = np.array([True, False]), np.array([1, 0.5], "<f4")
    assert pack({"ROOT_ID": "r", "batch": 7, "bits": bits, "target": target}) == RECORD
    back = unpack(RECORD)
    assert (back["ROOT_ID"], back["batch"]) == ("r", 7)
    assert np.array_equal(back["bits"], bits)
    assert np.array_equal(back["target"], target)
    shoot = HandlerDeclaration(
        "shoot", "model", "DATA/FORWARD", (("output", "DATA/FORWARD"),), about="Shoots."
    )
    declared = Declaration((shoot,), learns=True)
    assert Declaration.from_json(DECLARED) == declared
    more = orjson.dumps(orjson.loads(DECLARED) | {"of_a_later_release": 1})
    assert Declaration.from_json(more) == declared


@pytest.mark.usefixtures("second")
def test_a_release_reads_the_format_that_the_next_one_writes() -> None:
    """And the next one reads what this one wrote; so does who is rolled back."""
    sent = message(1, ModelStatus.VALIDATE, "you")
    assert encode(sent, PAIRS) == SMALL
    assert_same(decode("1-1", SECOND, PAIRS), sent)
    FORMATS.current = 2
    written = encode(sent, PAIRS)
    assert written == [part.replace(b'"v":1', b'"v":2') for part in SECOND]
    for fields in (SMALL, SECOND, written):
        assert_same(decode("1-1", fields, PAIRS), sent)


def test_a_format_that_nobody_prepared_for_says_what_to_do() -> None:
    """It becomes a dead letter, which is kept, and can be put back after the update."""
    with pytest.raises(DecodeError, match=r"reads 1; .* `roomgrad dead requeue`"):
        decode("1-1", SECOND, PAIRS)
