"""Melodies as sound: a plain plucked tone, made of sines. Pure functions of arrays."""

from __future__ import annotations

import io
import wave

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.genome import ROOT, SLOTS, Genomes, notes

Float64 = NDArray[np.float64]

BPM = 128
"""Default tempo: quarter notes, each a slot, per minute."""

SLOWEST, FASTEST = 20, 400  # BPM

RATE = 44100
"""Samples per second."""

LOUDNESS = 0.8
"""Highest amplitude, as a share of full scale: the partials never add up to more."""

PARTIALS = (1.0, 0.5, 0.25, 0.12, 0.06)  # amplitudes at 1, 2, 3... times the frequency
ATTACK = 0.01  # s from silence to loud
DECAY = 1.5  # 1/s; the second partial decays twice as fast, the third three times
RELEASE = 0.04  # s back to silence, at the end of the note

SLOWEST_RATE, FASTEST_RATE = 8000, 192000


def checked_bpm(bpm: float) -> float:
    """Return the tempo. Raises ValueError if it is too slow or too fast."""
    if not SLOWEST <= bpm <= FASTEST:
        raise ValueError(f"the tempo is {bpm} BPM; expected {SLOWEST} to {FASTEST}")
    return bpm


def to_wav(
    genome: Genomes,
    bpm: float = BPM,
    root: int = ROOT,
    scale: str = "major",
    rate: int = RATE,
) -> bytes:
    """Return a WAV file, mono, 16 bits, of a genome `(128,)`: 32 quarter notes.

    Raises ValueError for an invalid tempo, root, scale or sample rate.
    """
    loud = np.rint(samples(genome, bpm, root, scale, rate) * 32767).astype("<i2")
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(loud.tobytes())
    return data.getvalue()


def samples(
    genome: Genomes,
    bpm: float = BPM,
    root: int = ROOT,
    scale: str = "major",
    rate: int = RATE,
) -> Float64:
    """Return the sound of a genome `(128,)`: float64 `(n,)` in [-0.8, 0.8].

    Raises ValueError for an invalid tempo, root, scale or sample rate.
    """
    if not SLOWEST_RATE <= rate <= FASTEST_RATE:
        raise ValueError(f"the rate is {rate}; expected {SLOWEST_RATE} to {FASTEST_RATE}")
    slot = 60.0 / checked_bpm(bpm) * rate  # samples, not whole
    sound = np.zeros(round(SLOTS * slot))
    for note in notes(genome, root, scale):
        start, end = round(note.start * slot), round((note.start + note.length) * slot)
        sound[start:end] = tone(frequency(note.midi), end - start, rate)
    return sound


def frequency(midi: int) -> float:
    """Return the frequency of a MIDI number in Hz; 69 is the A of 440 Hz."""
    return float(440.0 * 2.0 ** ((midi - 69) / 12))


def tone(frequency: float, length: int, rate: int = RATE) -> Float64:
    """Return a note of `length` samples, float64, silent at both ends so that nothing clicks.

    Partials above half the sample rate are left out, as they would alias.
    """
    time = np.arange(length) / rate  # s
    sound = np.zeros(length)
    for number, amplitude in enumerate(PARTIALS, 1):
        if number * frequency < rate / 2:
            sine = np.sin(2.0 * np.pi * number * frequency * time)
            sound += amplitude * np.exp(-DECAY * number * time) * sine
    left = time[::-1]  # s until the end
    envelope = np.minimum(time / ATTACK, 1.0) * np.minimum(left / RELEASE, 1.0)
    return np.asarray(sound * envelope * (LOUDNESS / sum(PARTIALS)))
