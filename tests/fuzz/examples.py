"""Valid inputs of every kind, from which bad ones are derived."""

from __future__ import annotations

import io
import json

import numpy as np
import orjson
from safetensors.numpy import save

from roomgrad.codec import pack
from roomgrad_melody import formats
from roomgrad_melody.formats import Pair, Row, as_given
from roomgrad_melody.genome import from_text
from roomgrad_melody.midi import to_midi

GENOMES = [from_text(("0110" * 32)[shift : shift + 64] + "01" * 32) for shift in range(3)]
ROWS = [
    Row(genome, rating, rater, at)
    for genome, rating, rater, at in zip(
        GENOMES, (0, 3, 5), ("", "anna", "b@example.org"), (None, 0.0, 1.7e9), strict=True
    )
]
PAIRS = [
    Pair(as_given(GENOMES[0]), as_given(GENOMES[1]), "second", "anna", 1.7e9, (4000, 2500)),
    Pair(as_given(GENOMES[1]), as_given(GENOMES[2]), "equal", "b@example.org"),
]


def files(format: str) -> tuple[bytes, ...]:
    """Files of ratings and of pairs."""
    ratings = [formats.write(rows, format) for rows in (ROWS, ROWS[1:2])]
    return tuple(each.encode() for each in [*ratings, formats.write_pairs(PAIRS, format)])


CSV, JSONL, LABEL_STUDIO = map(files, ("csv", "jsonl", "json"))
MIDI = tuple(to_midi(genome, title="Melodie ä") for genome in GENOMES)

RECORDS = (
    pack({"ROOT_ID": "r", "data": np.ones((20, 2), "<f4"), "version": "1-a", "step": 3}),
    pack({"genomes": np.ones((4, 16), "|u1"), "bits": np.ones(3, bool), "at": 1.5}),
)

_ENVELOPE = {"ID": "i", "ROOT_ID": "r", "TO_ROOM": "room", "SENT_BY": "ann", "MODEL_STATUS": 1}
PUBLISHED = tuple(
    orjson.dumps(each)
    for each in (
        {"TYPE": "DATA/FORWARD", "DATA": [[1.0, 2.0], [3, 4]], **_ENVELOPE},
        {"TYPE": "DATA/FORWARD", **_ENVELOPE, "TO_ROOM": "input", "DATA": [[3.0, 60.0]]},
        {"TYPE": "DATA/CUSTOM", **_ENVELOPE, "DATA": {"a": [1, None, "ä"]}, "N": 7},
        {"TYPE": "COMMAND/REGISTER", "NAME": "ann", "TO_ROOM": "_command"},
        {"ring": 1, "TYPE": "DATA/FORWARD", "ID": "i", "client": "c", "entry": "1700000000000-0"},
    )
)


def _request(first: str, body: object = None) -> bytes:
    text = b"" if body is None else orjson.dumps(body)
    lines = [f"{first} HTTP/1.1", "Host: localhost:8321", "Cookie: roomgrad-0=x; a=b"]
    lines += ["Origin: http://localhost:8321", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(text)}", "", ""]
    return "\r\n".join(lines).encode() + text


_VOTE = {"rater": "Ada", "first": "01" * 64, "second": "10" * 64, "root": "r", "prefer": "first"}
_ANSWER = {"rater": "Ada", "melody": "01" * 64, "root": "r", "rating": 4, "plays": 1}
REQUESTS = (
    _request("GET /?token=x"),
    _request(f"GET /api/melodies/{'01' * 64}.mid"),
    _request("GET /api/answers?rater=Ada%20B"),
    _request("POST /api/questions", {"rater": "Ada", "count": 2, "skipped": ["01" * 64]}),
    _request("POST /api/answers", {**_ANSWER, "id": "0a" * 16}),
    _request("POST /api/preferences", {**_VOTE, "listened": [1, 2], "id": "0a" * 16}),
    _request("POST /api/breeding", {"command": "ASK"}),
)

WEIGHTS = (
    save({"a.weight": np.ones((4, 3), "<f4"), "a.bias": np.zeros(4, "<f4")}),
    save({"x": np.ones(2, "<i8"), "y": np.ones(1, "<f2")}, {"by": "somebody"}),
    save({"empty": np.ones((0, 3), "<f4"), "scalar": np.array(1.0, "<f4")}),
)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


ARRAYS = (
    _npy(np.ones((3, 2), "<f4")),
    _npy(np.asfortranarray(np.ones((2, 2, 2), "<i8"))),
    _npy(np.array(["a", "b"])),
)

SWARMS = (
    b"settings:\n  python_envpath: env/bin/\ncomponents:\n  trainer:\n    filepath: trainer.py\n"
    b"    delay: 2\n  other: {filepath: other.jl, envpath: &a here, terminal_cmd: *a}\n",
    b"components:\n  ? one\n  : filepath: !!str a.py\n    delay: 0.5e0 # soon\n",
)

WORDS = (
    *(b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\", b"\0", b"\xff", b"\r\n", b"(", b")", b"'"),
    *(b"null", b"true", b"NaN", b"-1", b"1e999", b"-0", b"0x", b"1e-400", b"\\ud800", b"\\u0000"),
    *(b"$array", b"__metadata__", b"dtype", b"shape", b"data_offsets", b"ROOT_ID", b"TYPE"),
    *(b"DATA/FORWARD", b"COMMAND/JOINROOM", b'"v":2', b"&a", b"*a", b"<<: *a", b"!!int ", b"!!"),
    *(b"!!timestamp x", b"!!bool x", b"!!float x", b"!!python/object:os.system ", b"? ", b"- "),
    *(b"MThd", b"MTrk", b"\xf0", b"\xff\x2f\x00", b"\xff\x51\x03", b"PK\x03\x04", b"\x93NUMPY"),
    *(b"|O", b"<f4", b"<f8", b"fortran_order", b"was_cancelled", b'"rating"', b"2026-01-31T25:00"),
)
LIMITS = (
    *(0, 1, -1, 2**7, 2**8, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63),
    *(2**64 - 1, 2**64, -(2**63), 10**30, 1e308, -1e308, 5e-324, 0.1, 1e17),
)
NUMBERS = (
    *(json.dumps(number).encode() for number in LIMITS),
    *(b"9" * 5000, b"1" + b"0" * 400, b"-" + b"0" * 50, b"0" * 400),
)
