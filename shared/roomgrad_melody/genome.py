"""Melodies as 128 bits: 8 bars of 4 slots of 4 bits, low bit first. Pure functions of arrays.

A value of 0 to 7 is a degree of a scale, 8 to 15 a rest. The low three bits of a rest are silent:
the *canonical* melody has them zeroed, and two genomes are the same melody if their canonical forms
are equal.

Genomes are uint8 arrays of 0 and 1, `(n, 128)` or `(128,)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Genomes = NDArray[np.uint8]

BITS = 128
BARS = 8
SLOTS = 32
SLOT_BITS = 4
SLOTS_PER_BAR = SLOTS // BARS
REST = 8
"""The lowest value that is a rest, and the value of every canonical one."""

ROOT = 48
"""MIDI number of degree 0, the C below middle C."""

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11, 12),
    "minor": (0, 2, 3, 5, 7, 8, 10, 12),
    "harmonic-minor": (0, 2, 3, 5, 7, 8, 11, 12),
    "dorian": (0, 2, 3, 5, 7, 9, 10, 12),
    "phrygian": (0, 1, 3, 5, 7, 8, 10, 12),
    "lydian": (0, 2, 4, 6, 7, 9, 11, 12),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10, 12),
    # Five notes to the octave, so that eight degrees reach into the second.
    "pentatonic": (0, 2, 4, 7, 9, 12, 14, 16),
    "minor-pentatonic": (0, 3, 5, 7, 10, 12, 15, 17),
}
"""Semitones of the degrees 0 to 7 above the root."""

SPREAD = 4  # purpose of random numbers

WEIGHTS = np.array([1, 2, 4, 8], dtype=np.uint8)  # of the bits of a slot


def check(genomes: ArrayLike) -> Genomes:
    """Return the genomes as uint8 `(n, 128)`. Raises ValueError for other shapes or values."""
    rows = np.asarray(genomes)
    if rows.ndim != 2 or rows.shape[1] != BITS:
        raise ValueError(f"the genomes have the shape {rows.shape}; expected (n, {BITS})")
    wrong = rows[(rows != 0) & (rows != 1)]
    if wrong.size:
        raise ValueError(f"the genomes hold the value {wrong[0].item()!r}; expected 0 or 1")
    return rows.astype(np.uint8)


def values(genomes: Genomes) -> Genomes:
    """Return the 4-bit values: `(..., 128)` in, uint8 `(..., 32)` of 0 to 15 out."""
    bits = np.asarray(genomes, dtype=np.uint8)
    slots = bits.reshape(*bits.shape[:-1], SLOTS, SLOT_BITS)
    return slots @ WEIGHTS


def degrees(genomes: Genomes) -> NDArray[np.int8]:
    """Return the degrees: `(..., 128)` in, int8 `(..., 32)` out, 0 to 7, or -1 for a rest."""
    numbers = values(genomes).astype(np.int8)
    return np.where(numbers < REST, numbers, np.int8(-1))


def canonical(genomes: Genomes) -> Genomes:
    """Return the melodies with the silent bits of rests zeroed: uint8 of the same shape."""
    bits = np.asarray(genomes, dtype=np.uint8)
    slots = bits.reshape(*bits.shape[:-1], SLOTS, SLOT_BITS).copy()
    slots[..., :3] *= 1 - slots[..., 3:]
    return slots.reshape(bits.shape)


def texts(genomes: Genomes) -> list[str]:
    """Return the canonical melodies of `(n, 128)` as texts of 128 characters 0 and 1."""
    letters = (canonical(genomes) + np.uint8(ord("0"))).tobytes().decode("ascii")
    return [letters[start : start + BITS] for start in range(0, len(letters), BITS)]


def text(genome: Genomes) -> str:
    """Return the canonical melody of `(128,)` as 128 characters 0 and 1: the key of its label."""
    return texts(genome.reshape(1, BITS))[0]


def from_text(text: str) -> Genomes:
    """Return the genome `(128,)` of 128 characters 0 and 1. Raises ValueError for another text."""
    if len(text) != BITS:
        raise ValueError(
            f"the melody {text!r} has {len(text)} characters; expected {BITS} of 0 and 1"
        )
    if set(text) - {"0", "1"}:
        raise ValueError(f"the melody is {text!r}; expected {BITS} characters 0 and 1")
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8) - np.uint8(ord("0"))


def from_texts(texts: Iterable[str]) -> Genomes:
    """Return the genomes `(n, 128)` of texts. Raises ValueError for another text."""
    return np.array([from_text(text) for text in texts], np.uint8).reshape(-1, BITS)


def pair_key(one: str, other: str) -> str:
    """Return the key of a pair of canonical texts, the same in either order."""
    return "-".join(sorted((one, other)))


def packed(genomes: Genomes) -> Genomes:
    """Pack the bits into bytes, low bit first: `(..., 128)` in, uint8 `(..., 16)` out."""
    return np.packbits(np.asarray(genomes, dtype=np.uint8), axis=-1, bitorder="little")


def unpacked(packed: Genomes) -> Genomes:
    """Undo `packed`: uint8 `(..., 16)` in, uint8 `(..., 128)` out."""
    return np.unpackbits(np.asarray(packed, dtype=np.uint8), axis=-1, bitorder="little")


def random_genomes(seed: int, number: int, count: int) -> Genomes:
    """Return draw `number` of a seed: `(count, 128)` fair bits, so half of the slots are rests.

    Philox is keyed by (seed, number), so any replica draws the same.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, number]))
    return random.integers(0, 2, size=(count, BITS), dtype=np.uint8)


def spread_genomes(seed: int, count: int) -> Genomes:
    """Return canonical melodies of all kinds, `(count, 128)`, while random ones are much alike.

    Some have many notes and others few; the notes wander in small steps or large ones, or jump.
    """
    key = np.random.Philox(key=[seed, 0], counter=[0, 0, 0, SPREAD])
    random = np.random.Generator(key)
    rests = random.random((count, SLOTS)) > random.uniform(0.15, 1.0, (count, 1))
    steps = np.rint(random.normal(size=(count, SLOTS)) * random.choice([1, 2, 8], (count, 1)))
    walks = random.integers(0, REST, (count, 1)) + np.cumsum(steps, axis=1).astype(np.int64)
    inside = REST - 1 - np.abs(walks % (2 * REST - 2) - (REST - 1))  # reflected at both ends
    notes = np.where(rests, REST, inside)
    bits = notes[:, :, None] >> np.arange(SLOT_BITS) & 1
    return np.asarray(bits.reshape(count, BITS), dtype=np.uint8)


def distinct(genomes: Genomes) -> NDArray[np.bool_]:
    """Mark the first genome of each sound: `(n, 128)` in, bool `(n,)` out."""
    sounds = packed(canonical(genomes))
    marks = np.zeros(len(sounds), dtype=np.bool_)
    marks[np.unique(sounds, axis=0, return_index=True)[1]] = True
    return marks


@dataclass(frozen=True)
class Note:
    """A note; start and length are in slots, of which a bar has 4."""

    start: int
    length: int
    midi: int


def pitches(root: int = ROOT, scale: str = "major") -> tuple[int, ...]:
    """Return the MIDI numbers of the degrees 0 to 7.

    Raises ValueError for an unknown scale, or a root whose degrees are outside 0 to 127.
    """
    if scale not in SCALES:
        raise ValueError(f"the scale is {scale!r}; expected one of {', '.join(SCALES)}")
    steps = SCALES[scale]
    if not 0 <= root <= 127 - steps[-1]:
        raise ValueError(f"the root is {root}; expected 0 to {127 - steps[-1]}")
    return tuple(root + step for step in steps)


def notes(genome: Genomes, root: int = ROOT, scale: str = "major") -> list[Note]:
    """Return the notes of a genome `(128,)`; successive equal degrees are one longer note."""
    midi = pitches(root, scale)
    found: list[Note] = []
    before = -1
    for slot, degree in enumerate(degrees(genome).tolist()):
        if degree >= 0 and degree == before:
            last = found.pop()
            found.append(Note(last.start, last.length + 1, last.midi))
        elif degree >= 0:
            found.append(Note(slot, 1, midi[degree]))
        before = degree
    return found
