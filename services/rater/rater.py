"""The simulated rater: a pure function of the genome that replaces a person.

Seven features in [0, 1], their weighted sum, and six classes of it. The network that learns to
predict the ratings sees genomes and ratings alone.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.contract import EQUAL, FIRST, SECOND
from roomgrad_melody.genome import BARS, SLOTS, SLOTS_PER_BAR, Genomes, canonical, degrees, packed

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Degrees = NDArray[np.int8]

FEATURES = ("density", "motion", "harmony", "cadence", "motif", "silence", "variety")
WEIGHTS = np.array([0.24, 0.26, 0.28, 0.06, 0.08, 0.04, 0.04])

SHARES, DENSITY = (0.20, 0.65, 0.90, 1.0), (0.0, 1.0, 1.0, 0.7)
MOTION = np.array([0.60, 1.00, 0.90, 0.50, 0.45, 0.15, 0.00, 0.35])  # of a step of 0 .. 7
HARMONY = np.array([1.0, 0.25, 1.0, 0.25, 1.0, 0.25, 0.25, 1.0, 0.0])  # of a degree; a rest is -1
VARIETY = np.array([0.0, 0.0, 0.3, 0.7, 1.0, 1.0, 1.0, 0.9, 0.8])  # of 0 .. 8 degrees
PAIRS = np.array([(0, 4), (1, 5), (2, 6), (3, 7), (0, 2), (1, 3), (4, 6), (5, 7)])  # of bars

LOWEST, SPAN = 0.36, 0.38  # the score of rating 0, and from there to rating 5
HIGHEST = 5


def previous(sounding: NDArray[np.bool_]) -> Integers:
    """Return for each slot of bool `(n, 32)` the sounding slot before it, -1 if there is none."""
    slots = np.where(sounding, np.arange(SLOTS), -1)
    latest = np.maximum.accumulate(slots, axis=1)
    return np.concatenate([np.full((len(slots), 1), -1), latest[:, :-1]], axis=1)


def motion(notes: Degrees) -> Floats:
    """Score how smoothly successive notes follow each other, rests left out: `(n,)`."""
    sounding = notes >= 0
    before = previous(sounding)
    steps = sounding & (before >= 0)
    sizes = np.abs(notes - np.take_along_axis(notes, np.maximum(before, 0), axis=1))
    total = np.where(steps, MOTION[np.where(steps, sizes, 0)], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(steps.sum(axis=1), 1))


def harmony(notes: Degrees) -> Floats:
    """Score chord notes on the first slot of each bar, and half as much on the third: `(n,)`."""
    credit = HARMONY[notes]
    weighed = 2.0 * credit[:, 0::SLOTS_PER_BAR] + credit[:, 2::SLOTS_PER_BAR]
    return np.asarray(weighed.mean(axis=1) / 3.0)


def cadence(notes: Degrees) -> Floats:
    """Score how final the last note is: `(n,)`."""
    slots = np.where(notes >= 0, np.arange(SLOTS), -1).max(axis=1)
    last = np.where(slots >= 0, notes[np.arange(len(notes)), slots], -1)
    tonic = np.where(slots >= SLOTS - SLOTS_PER_BAR, 1.0, 0.6)
    return np.where(np.isin(last, (0, 7)), tonic, np.where(np.isin(last, (2, 4)), 0.4, 0.0))


def motif(notes: Degrees) -> Floats:
    """Score how much pairs of bars resemble each other in rhythm and pitch: `(n,)`."""
    bars = notes.reshape(len(notes), BARS, SLOTS_PER_BAR)
    one, other = bars[:, PAIRS[:, 0]], bars[:, PAIRS[:, 1]]
    rhythm = ((one >= 0) == (other >= 0)).mean(axis=(1, 2))
    equal = ((one >= 0) & (one == other)).mean(axis=2)
    return np.asarray(0.5 * rhythm + 0.5 * np.minimum(1.0, 2.0 * equal).mean(axis=1))


def silence(notes: Degrees) -> Floats:
    """Score 1 if no run of rests is longer than 2 slots, down to 0 for one of 8: `(n,)`."""
    slots = np.arange(SLOTS)
    latest = np.maximum.accumulate(np.where(notes >= 0, slots, -1), axis=1)
    longest = (slots - latest).max(axis=1)
    return np.asarray(np.clip((8.0 - longest) / 6.0, 0.0, 1.0))


def variety(notes: Degrees) -> Floats:
    """Score the number of different degrees, neither too few nor too many: `(n,)`."""
    kinds = (notes[:, :, None] == np.arange(8)).any(axis=1).sum(axis=1)
    return np.asarray(VARIETY[kinds])


def features(genomes: Genomes) -> Floats:
    """Return the features of `(n, 128)` genomes, float64 `(n, 7)` in the order of FEATURES."""
    notes = degrees(genomes)
    density = np.interp((notes >= 0).mean(axis=1), SHARES, DENSITY)
    others = (motion, harmony, cadence, motif, silence, variety)
    return np.stack([density, *(feature(notes) for feature in others)], axis=1)


def score(genomes: Genomes) -> Floats:
    """Return the weighted sum of the features, float64 `(n,)`: the true quality of bred melodies.

    Ratings saturate at 5 long before the score does.
    """
    return np.asarray(features(genomes) @ WEIGHTS)


def moves(genomes: Genomes, noise: float, seed: int) -> Integers:
    """Return the noise of each genome's rating, int64 `(n,)` of -1, 0, 1.

    It is a hash of the canonical melody and the seed, so that a run is reproducible.
    """
    salt = str(seed).encode("ascii")
    sounds = packed(canonical(genomes))
    digests = [hashlib.blake2b(sound.tobytes() + salt, digest_size=8) for sound in sounds]
    numbers = [int.from_bytes(digest.digest(), "little") for digest in digests]
    moved = [1 - 2 * (one & 1) if (one >> 1) < noise * 2**63 else 0 for one in numbers]
    return np.array(moved, dtype=np.int64)


def rating(genomes: Genomes, noise: float = 0.0, seed: int = 0) -> Integers:
    """Return the ratings 0 to 5 of `(n, 128)` genomes, int64 `(n,)`.

    noise: share of genomes whose rating is off by one; 0 becomes 1, and 5 becomes 4. Raises
    ValueError unless it is in [0, 1].
    """
    if not 0.0 <= noise <= 1.0:
        raise ValueError(f"the noise is {noise}; expected 0 to 1")
    exact = np.floor(5.0 * (score(genomes) - LOWEST) / SPAN + 0.5)
    ratings = np.clip(exact, 0, HIGHEST).astype(np.int64)
    if noise == 0.0:
        return ratings
    change = moves(genomes, noise, seed)
    outside = (ratings + change < 0) | (ratings + change > HIGHEST)
    return np.asarray(ratings + np.where(outside, -change, change))


def preference(first: Genomes, second: Genomes, noise: float = 0.0, seed: int = 0) -> str:
    """Return which of two genomes `(128,)` has the higher score, `first`, `second`, or `equal`.

    noise: share of pairs for which the other one is returned. It is a hash of the two melodies, in
    either order, and the seed. Raises ValueError unless it is in [0, 1].
    """
    if not 0.0 <= noise <= 1.0:
        raise ValueError(f"the noise is {noise}; expected 0 to 1")
    both = np.stack([first, second])
    one, other = score(both)
    if one == other:
        return EQUAL
    sounds = b"".join(sorted(sound.tobytes() for sound in packed(canonical(both))))
    digest = hashlib.blake2b(sounds + str(seed).encode("ascii"), digest_size=8).digest()
    is_flipped = int.from_bytes(digest, "little") < noise * 2**64
    return FIRST if (one > other) != is_flipped else SECOND
