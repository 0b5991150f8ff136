"""Random mutations of valid inputs, which aim at what the formats are made of."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from tests.fuzz.examples import NUMBERS, WORDS

LARGEST = 1_000_000  # bytes of an input
_NUMBER = re.compile(rb"\d+")


def mutated(examples: Sequence[bytes], chance: random.Random) -> bytes:
    """Return an example changed in a few places or, rarely, random bytes."""
    if chance.random() < 0.02:
        return chance.randbytes(chance.randint(0, 300))
    data = chance.choice(examples)
    for _ in range(1 + min(int(chance.expovariate(0.7)), 8)):
        change = chance.choices(CHANGES, WEIGHTS)[0]
        data = change(data, examples, chance)[:LARGEST]
    return data


def _range(data: bytes, chance: random.Random, longest: int) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.randint(0, longest))


def flip(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Flip a bit."""
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def replace(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Replace some bytes by a word, by random bytes, or by nothing."""
    start, end = _range(data, chance, 12)
    word = chance.choice(WORDS) if chance.random() < 0.7 else chance.randbytes(chance.randint(0, 6))
    return data[:start] + word + data[end:]


def cut(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Cut off the end or the beginning."""
    at = chance.randint(0, len(data))
    return data[:at] if chance.random() < 0.8 else data[at:]


def repeat(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Repeat a piece a few times, rarely very often."""
    start, end = _range(data, chance, 60)
    times = chance.choice((2, 3, 10, 300)) if chance.random() < 0.998 else 20_000
    return data[:start] + data[start:end] * times + data[end:]


def splice(data: bytes, examples: Sequence[bytes], chance: random.Random) -> bytes:
    """Replace the end by that of another example."""
    other = chance.choice(examples)
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def number(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Replace a number by the largest, the smallest, or one beyond."""
    found = list(_NUMBER.finditer(data[:4000]))
    if not found:
        return data
    start, end = chance.choice(found).span()
    return data[:start] + chance.choice(NUMBERS) + data[end:]


def nest(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Nest a piece in many lists, which may be unterminated."""
    start, end = _range(data, chance, 12)
    depth = chance.choice((2, 8, 33, 65, 255, 1023, 1025, 3000))
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"- ", b""), (b"{", b"}")))
    tail = closing * depth if chance.random() < 0.7 else b""
    return data[:start] + opening * depth + data[start:end] + tail + data[end:]


def binary(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Write a wrong length of four or eight bytes."""
    at = chance.randint(0, min(len(data), 64))
    size = chance.choice((1, 2, 4, 8))
    value = chance.choice((0, 1, 127, 255, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)) % 256**size
    order = chance.choice(("little", "big"))
    return data[:at] + value.to_bytes(size, order) + data[at + size :]  # type: ignore[arg-type]


def swap(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Swap two pieces."""
    one, two, three = sorted(chance.randint(0, len(data)) for _ in range(3))
    return data[:one] + data[two:three] + data[one:two] + data[three:]


Change = Callable[[bytes, Sequence[bytes], random.Random], bytes]
CHANGES: tuple[Change, ...] = (flip, replace, cut, repeat, splice, number, nest, binary, swap)
WEIGHTS = (3, 5, 1, 1, 1, 4, 1, 1, 1)
