"""Melodies as sound: each slot has its frequency, rests are silent, and nothing clicks."""

from __future__ import annotations

import io
import subprocess
import sys
import wave
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from roomgrad_melody.genome import SCALES, Genomes
from roomgrad_melody.sound import PARTIALS, RATE, frequency, samples, to_wav, tone

REST = 8
SLOT = 60 / 128 * RATE  # samples


def melody(*values: int) -> Genomes:
    """A genome that begins with these values and goes on with rests."""
    slots = [*values, *[REST] * (32 - len(values))]
    return np.array([value >> bit & 1 for value in slots for bit in range(4)], dtype=np.uint8)


def heard(data: bytes, rate: int = RATE) -> NDArray[np.int16]:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, rate)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def slot(sound: NDArray[Any], number: int) -> NDArray[Any]:
    return sound[round(number * SLOT) : round((number + 1) * SLOT)]


def loudest(sound: NDArray[Any]) -> float:
    """Hz of the strongest partial, to 0.1."""
    size = 2**19
    return float(np.argmax(np.abs(np.fft.rfft(sound, size))) * RATE / size)


def test_frequencies() -> None:
    assert frequency(69) == 440.0
    assert frequency(57) == 220.0
    assert frequency(60) == pytest.approx(261.6256, abs=1e-4)


@pytest.mark.parametrize(
    ("root", "scale"), [(48, "major"), (36, "minor-pentatonic"), (96, "minor")]
)
def test_each_slot_has_its_frequency(root: int, scale: str) -> None:
    degrees = [0, 1, 2, 3, 4, 5, 6, 7, 0, 7, 3, 1]
    sound = heard(to_wav(melody(*degrees), root=root, scale=scale))
    assert len(sound) == round(32 * SLOT)
    for number, degree in enumerate(degrees):
        expected = frequency(root + SCALES[scale][degree])
        assert loudest(slot(sound, number)) == pytest.approx(expected, abs=0.5)


def test_rests_are_silent_and_a_root_sounds_after_one() -> None:
    sound = heard(to_wav(melody(REST, 0, REST + 7, REST, 4)))
    for number in (0, 2, 3, *range(5, 32)):
        assert not slot(sound, number).any()
    assert loudest(slot(sound, 1)) == pytest.approx(frequency(48), abs=0.5)
    assert loudest(slot(sound, 4)) == pytest.approx(frequency(55), abs=0.5)


def test_a_tied_pair_is_one_note() -> None:
    """It sounds on where one slot ends and the next begins; two notes fade out there and in."""
    edge = slice(round(SLOT) - 200, round(SLOT))  # the last 5 ms
    tied, apart = (np.abs(samples(melody(*pair))) for pair in ((0, 0), (0, 1)))
    assert tied[edge].max() > 0.15
    assert apart[edge].max() < tied[edge].max() / 3
    assert apart[round(SLOT) - 1] == apart[round(SLOT)] == 0


@pytest.mark.parametrize("midi", [24, 48, 60, 108])
def test_nothing_clicks(midi: int) -> None:
    """No step is larger than sines of these frequencies make."""
    sound = tone(frequency(midi), round(SLOT))
    assert sound[0] == sound[-1] == 0
    steepest = sum(amplitude * number for number, amplitude in enumerate(PARTIALS, 1))
    limit = 0.8 / sum(PARTIALS) * steepest * 2 * np.pi * frequency(midi) / RATE
    assert np.abs(np.diff(sound)).max() < limit + 0.8 / (0.01 * RATE)


@settings(max_examples=20)
@given(hnp.arrays(np.uint8, 128, elements=st.integers(0, 1)), st.sampled_from([20, 128, 400]))
def test_nothing_clips(genome: Genomes, bpm: int) -> None:
    sound = heard(to_wav(genome, bpm, rate=8000), 8000)
    assert np.abs(sound.astype(int)).max() <= 0.8 * 32768
    assert len(sound) == round(32 * 60 / bpm * 8000)


def test_a_note_begins_softly() -> None:
    sound = np.abs(tone(440.0, round(SLOT)))
    assert sound[: RATE // 1000].max() < sound.max() / 5  # its first 1 ms
    assert sound[: RATE // 50].max() == sound.max()


def test_it_is_loud_enough_to_hear() -> None:
    sound = heard(to_wav(melody(0, 1, 2, 3)))
    assert np.abs(sound.astype(int)).max() > 0.4 * 32768


def test_partials_beyond_half_the_rate_are_left_out() -> None:
    """They would sound as other frequencies: of 1760 Hz at 8000, only two partials fit."""
    sound = tone(1760.0, 8000, 8000)
    spectrum = np.abs(np.fft.rfft(sound))  # by Hz
    strong = np.flatnonzero(spectrum > spectrum.max() / 20)
    assert {round(each / 1760) for each in strong} == {1, 2}
    assert np.abs(strong - np.rint(strong / 1760) * 1760).max() < 20
    assert not tone(5000.0, 100, 8000).any()


def test_the_same_melody_is_the_same_sound() -> None:
    assert to_wav(melody(1, 2)) == to_wav(melody(1, 2))
    assert to_wav(melody(1, 2)) == to_wav(melody(1, 2, *[REST + 5] * 30))
    assert to_wav(melody(1, 2)) != to_wav(melody(2, 1))


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"bpm": 0}, "the tempo is 0 BPM; expected 20 to 400"),
        ({"bpm": float("inf")}, "expected 20 to 400"),
        ({"rate": 7999}, "the rate is 7999; expected 8000 to 192000"),
        ({"rate": 10**9}, "expected 8000 to 192000"),
        ({"root": -1}, "the root is -1"),
        ({"scale": "blue"}, "the scale is 'blue'"),
    ],
)
def test_what_cannot_sound(others: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        to_wav(melody(0), **others)


def test_sound_needs_no_library_for_midi() -> None:
    code = "import sys; sys.modules['mido'] = None; import roomgrad_melody.sound"
    subprocess.run([sys.executable, "-c", code], check=True)
