"""What somebody may XADD into a stream or PUBLISH on a channel, and what becomes of it.

Messages of the echo system: `DATA` is `<f4 (n,)`, `HOW` an optional whole number. Expected is the
reason of the dead letter and of the answer in room `errors`, or HANDLED.
"""

from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np

HANDLED = ""
ROOT = b"~root~"  # in each input: its number comes in its place
ID = "expected a text of 1 to 128 characters"


@dataclass(frozen=True)
class Hostile:
    """One input. `fields`: names and values of an entry."""

    name: str
    fields: list[bytes]
    reason: str
    published: bool = True
    """Whether `m` alone is as bad when it is published."""

    @property
    def text(self) -> bytes:
        """`m`."""
        pairs = dict(zip(self.fields[::2], self.fields[1::2], strict=True))
        return pairs.get(b"m", b"")


def body(**changes: Any) -> dict[str, Any]:
    """A good message but for the changes; `...` leaves a field out."""
    good = {"v": 1, "ID": "i", "ROOT_ID": ROOT.decode(), "TYPE": "DATA/FORWARD", "DATA": [1.0, 2.0]}
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def text(**changes: Any) -> bytes:
    return json.dumps(body(**changes)).encode()


def m(value: bytes) -> list[bytes]:
    return [b"ROOT_ID", ROOT, b"m", value]


def changed(name: str, reason: str, **changes: Any) -> Hostile:
    return Hostile(name, m(text(**changes)), reason)


class Bomb:
    """Would write a file if anybody unpickled it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("/tmp/roomgrad-was-unpickled", "w"))


def deep(levels: int, inside: str = "1") -> bytes:
    """A message with so many brackets in DATA."""
    array = "[" * levels + inside + "]" * levels
    return text(DATA="X").replace(b'"X"', array.encode())


def written(value: str, field: str = "DATA") -> bytes:
    """A message with a value that json would not write."""
    return text(**{field: "X"}).replace(b'"X"', value.encode())


GOOD = text()
NO_JSON = {
    "empty": b"",
    "a NUL": b"\0",
    "a word": b"hello",
    "binary": bytes(range(256)),
    "invalid UTF-8": GOOD.replace(ROOT, b"\xff\xfe"),
    "overlong UTF-8": GOOD.replace(ROOT, b"\xc0\xaf"),
    "UTF-8 of half a pair": GOOD.replace(ROOT, b"\xed\xa0\x80"),
    "a BOM before it": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "gzip": gzip.compress(GOOD, mtime=0),
    "a pickle": pickle.dumps(Bomb()),
    "a pickle in text": pickle.dumps(Bomb(), protocol=0),
    "MessagePack": b"\x82\xa2ID\xa1i\xa7ROOT_ID\xa1r",
    "XML": b"<?xml version='1.0'?><ID>i</ID>",
    "Python": b"{'ID': 'i'}",
    "a comma too much": GOOD[:-1] + b",}",
    "a comment": GOOD + b"// good",
    "twice": GOOD + GOOD,
    "rubbish behind": GOOD + b"\0",
    "half a surrogate pair": GOOD.replace(ROOT, b"\\ud800"),
    "the wrong half": GOOD.replace(ROOT, b"\\udc00\\ud800"),
    "a broken escape": GOOD.replace(ROOT, b"\\x41"),
    "a control character": GOOD.replace(ROOT, b"a\nb"),
    "bare NaN": written("[NaN]"),
    "bare Infinity": written("[Infinity]"),
    "minus Infinity": written("[-Infinity]"),
    "hexadecimal": written("[0x10]"),
    "a plus": written("[+1]"),
    "leading zeros": written("[01]"),
    "a point without digits": written("[1.]"),
    "100,000 brackets": b"[" * 100_000,
    "100,000 brackets, closed": b"[" * 100_000 + b"]" * 100_000,
    "100,000 braces": b'{"a":' * 100_000,
    "100,000 brackets in DATA": deep(100_000),
}
NO_OBJECT = {"null": b"null", "true": b"true", "a number": b"1", "a text": b'"ID"', "a list": b"[]"}
KINDS = {
    "null": None,
    "a number": 5,
    "a fraction": 1.5,
    "true": True,
    "a list": [],
    "an object": {},
    "deep": [[[[[[[[1]]]]]]]],
    "129 characters": "x" * 129,
    "a million characters": "x" * 1_000_000,
}


def texts() -> list[Hostile]:
    """JSON or not."""
    found = [Hostile(name, m(value), "not JSON") for name, value in NO_JSON.items()]
    found += [Hostile(n, m(v), "expected a JSON object") for n, v in NO_OBJECT.items()]
    cuts = range(1, len(GOOD), 2)
    return found + [Hostile(f"cut after {n} bytes", m(GOOD[:n]), "not JSON") for n in cuts]


def envelopes() -> list[Hostile]:
    """The envelope."""
    found = [
        changed("nothing at all", "TYPE: " + ID, v=..., ID=..., ROOT_ID=..., TYPE=..., DATA=...)
    ]
    for name in ("ID", "ROOT_ID", "TYPE"):
        found += [changed(f"{name}: {kind}", f"{name}: ", **{name: v}) for kind, v in KINDS.items()]
        found += [changed(f"no {name}", f"{name}: {ID}", **{name: ...})]
        found += [changed(f"{name} empty", f"{name}: {ID}", **{name: ""})]
    for name in ("SENT_BY", "TO"):
        kinds = {kind: value for kind, value in KINDS.items() if value is not None}
        found += [
            changed(f"{name}: {kind}", f"{name}: {ID}", **{name: v}) for kind, v in kinds.items()
        ]
    for value in (
        "DATA/NOISE",
        "data/forward",
        "DATA/FORWARD ",
        "DATA/GRADIENT",
        "LOG/ERROR",
        "\0",
    ):
        found.append(Hostile(f"TYPE {value!r}", m(text(TYPE=value)), "TYPE", published=False))
    for value in (0, 2, 99, -1, "1", 1.0, True, None, [], {}, 2**63, "x" * 100_000):
        found.append(changed(f"v {str(value)[:9]!r}", "format version", v=value))
    for value in (0, 4, -1, "1", None, True, False, 1.0, 2.0, [], [1], {}, 2**63, 10**30):
        found.append(
            changed(f"MODEL_STATUS {value!r}", "MODEL_STATUS: expected 1", MODEL_STATUS=value)
        )
    for value in ("moon", "", 5, [], {}, None, "x" * 1000):
        found.append(changed(f"TO_ROOM {str(value)[:9]!r}", HANDLED, TO_ROOM=value))
    found += [
        changed("NUL in ID", HANDLED, ID="a\0b"),
        changed("ID of many languages", HANDLED, ID="ä\u202e\U0001f99c\ufeff"),
        changed("SENT_BY null", HANDLED, SENT_BY=None),
        changed("m within m", HANDLED, m="m"),
        Hostile("ID twice", m(GOOD.replace(b'"ID"', b'"ID": "other", "ID"')), HANDLED),
        Hostile("DATA twice", m(GOOD[:-1] + b', "DATA": [3.0]}'), HANDLED),
        Hostile("DATA twice, then text", m(GOOD[:-1] + b', "DATA": "x"}'), "DATA: expected"),
    ]  # fmt: skip
    for name in ("EXTRA", "", "__proto__", "__class__", "DATA ", "data", "x" * 100_000):
        found.append(changed(f"unknown field {name[:9]!r}", "unknown field", **{name: 1}))
    return found


def numbers() -> list[Hostile]:
    """DATA and HOW as JSON."""
    wrong: dict[str, Any] = {
        "null": None, "a text": "text", "true": True, "an object": {}, "a record": {"a": 1},
        "a number": 5, "two axes": [[1.0]], "no two axes": [[1], [2, 3]], "a list in it": [1, [2]],
        "true in it": [True], "a text in it": ["1"], "null in it": [None], "an object in it": [{}],
        "too large for f4": [1e39], "minus, too large": [-1e39], "2**200": [2**200],
    }  # fmt: skip
    found = [changed(f"DATA {name}", "DATA: expected", DATA=value) for name, value in wrong.items()]
    found.append(changed("no DATA", "field DATA of shape (n,) is missing", DATA=...))
    found.append(Hostile("DATA 1e999", m(written("[1e999]")), "not JSON: number is infinity"))
    for levels in (2, 32, 64, 65, 900, 980, 1000, 1015):
        found.append(Hostile(f"DATA {levels} deep", m(deep(levels)), "DATA: expected"))
        found.append(Hostile(f"DATA {levels} deep, empty", m(deep(levels, "")), "DATA: expected"))
    for value in (1.5, True, "1", [1], [], {}, None, 2**63, -(2**63) - 1, 10**30):
        found.append(changed(f"HOW {value!r}", "HOW: expected", HOW=value))
    found += [
        changed("DATA empty", HANDLED, DATA=[]),
        changed("DATA of huge whole numbers", HANDLED, DATA=[2**63, 10**30, -(2**63)]),
        changed("DATA of tiny numbers", HANDLED, DATA=[1e-300, -0.0]),
        changed("HOW negative", HANDLED, HOW=-1),
    ]
    return found


ROW = np.arange(100, dtype="<f4").tobytes()


def raw(name: str, reason: str, buffer: bytes = ROW, **spec: Any) -> Hostile:
    """A message whose array stands in a field of its own."""
    good = {"field": "DATA", "dtype": "<f4", "shape": [100]}
    spec = {key: value for key, value in {**good, **spec}.items() if value is not ...}
    return Hostile(
        name, [*m(text(DATA={"$array": spec})), b"DATA", buffer], reason, published=False
    )


def arrays() -> list[Hostile]:
    """Arrays as bytes."""
    sizes = (0, 1, 2, 3, 4, 100, 396, 398, 399, 401, 404, 800)
    found = [raw(f"{n} bytes for 400", f"has 400 bytes, got {n}", (ROW * 2)[:n]) for n in sizes]
    for value in (np.nan, np.inf, -np.inf):
        row = np.frombuffer(ROW, "<f4").copy()
        row[7] = value
        found.append(raw(f"{value} as bytes", "expected finite numbers", row.tobytes()))
    for dtype in ("<f8", "<i8", "<f2", "|u1"):
        found.append(
            raw(f"bytes of {dtype}", "bytes, got 400" if dtype != "|u1" else "got 400", dtype=dtype)
        )
    found.append(raw("another dtype that fits", "expected dtype <f4, got <i4", dtype="<i4"))
    for dtype in (
        ">f4",
        "O",
        "<U3",
        "<c8",
        "|V4",
        "f4",
        "float32",
        "",
        "<f4,<f4",
        5,
        None,
        [],
        {},
        ...,
    ):
        found.append(raw(f"dtype {dtype!r}", "expected a dtype among", dtype=dtype))
    for shape in (
        ..., None, [-1], [-100], [1.5], [100.0], [True], ["100"], "100", 100, {}, [None], [[100]],
        [2**63], [2**40, 2**40], [0, 2**63], [10**18] * 8, [10**30], [1] * 9, [1] * 100_000,
    ):  # fmt: skip
        found.append(raw(f"no shape: {shape!r:.30}", "expected a shape", shape=shape))
    for shape in ([], [0], [99], [101], [100, 2], [2**39]):
        found.append(raw(f"shape {shape} for 400 bytes", "bytes, got 400", shape=shape))
    for shape in ([100, 1], [1, 100], [10, 10], [1] * 7 + [100]):
        found.append(raw(f"shape {shape}", "expected shape (n,)", shape=shape))
    for field in ("GONE", "", "data", 5, None, [], {}, True):
        found.append(raw(f"bytes in {field!r}", "the field with its bytes is missing", field=field))
    found.append(raw("field m", "bytes, got", field="m"))
    found.append(raw("field ROOT_ID", "bytes, got 8", field="ROOT_ID"))
    for spec in (None, 5, [], "DATA", True):
        found.append(changed(f"$array {spec!r}", "DATA: expected an array", DATA={"$array": spec}))
    found += [
        changed(
            "no bytes", "the field with its bytes is missing", DATA={"$array": {"field": "DATA"}}
        ),
        raw("no field named", HANDLED, field=...),
        raw("more in the spec", HANDLED, more=[[]]),
        raw("shape 1 x 0 bytes", HANDLED, b"", shape=[0]),
    ]
    return found


def entries() -> list[Hostile]:
    """Entries as such."""
    many = [part for n in range(3900) for part in (b"f%d" % n, b"")]
    made = [
        ("without m", [b"hello", b"world"], "expected a field m"),
        ("M instead of m", [b"M", GOOD], "expected a field m"),
        ("an empty name", [b"", GOOD], "expected a field m"),
        ("7,800 names and values", many, "3500 fields at most"),
        ("20,000 names and values", [b"f", b""] * 10_000, "3500 fields at most"),
        ("20,000 beside a bad m", [b"f", b""] * 10_000 + m(b"no"), "3500 fields at most"),
        ("a name of 1 MB", [b"n" * 1_000_000, b"", *m(b"no")], "not JSON"),
        ("names that are no UTF-8", [b"\xff\xfe", b"\xff", *m(b"no")], "not JSON"),
        ("m twice, the last bad", [*m(GOOD), b"m", b"no"], "not JSON"),
        ("a ROOT_ID of 1 MB beside", [b"ROOT_ID", b"r" * 1_000_000, b"m", b"no"], "not JSON"),
        ("JSON of 9 MB", m(text(DATA="x" * 9_000_000)), "8388608 bytes at most"),
        ("a million lists", m(deep(1, ",".join(["[]"] * 1_000_000))), "DATA: expected"),
        ("a million objects", m(deep(1, ",".join(["{}"] * 1_000_000))), "DATA: expected"),
        ("m twice, the last good", [b"m", b"no", *m(GOOD)], HANDLED),
        ("only m", [b"m", GOOD], HANDLED),
        ("other IDs beside", [b"ID", b"x", b"ROOT_ID", b"\xff" * 500, b"m", GOOD], HANDLED),
        ("odd fields beside", [*m(GOOD), b"", b"", b"X", b"\0" * 1000, b"\xff", b"\xff"], HANDLED),
        ("7,002 with a good m", [b"f", b""] * 3499 + m(GOOD), "3500 fields at most"),
        ("7,000 with a good m", [b"f", b""] * 3498 + m(GOOD), HANDLED),
    ]  # fmt: skip
    return [Hostile(name, fields, reason, published=False) for name, fields, reason in made]


ALL = [*texts(), *envelopes(), *numbers(), *arrays(), *entries()]
