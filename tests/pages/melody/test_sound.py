"""What the page plays: rendered by the browser, without a loudspeaker, and measured here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from roomgrad_melody.genome import from_text, notes
from roomgrad_melody.sound import frequency, samples
from tests.pages.conftest import Open
from tests.pages.melody.labelling_run import MELODIES, LabellingRun

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

RATE = 44100
BPM = 240
RENDER = """async ([notes, bpm, rate, seconds, from, isEven, inParts]) => {
    const { evenGain, renderMelody } = await import('/panels/melody/sound.js');
    const context = new OfflineAudioContext(1, Math.ceil(seconds * 44100), 44100);
    const gain = isEven ? evenGain(notes, { bpm, rate }) : 1;
    const parts = [];
    const later = inParts ? (work) => parts.push(work) : undefined;
    renderMelody(context, notes, { bpm, rate, from, gain, later });
    if (inParts !== parts.length > 0) throw new Error('the notes are not put off as asked');
    while (parts.length) parts.shift()();
    const buffer = await context.startRendering();
    const bytes = new Uint8Array(buffer.getChannelData(0).buffer);
    let text = '';
    for (let at = 0; at < bytes.length; at += 8192) {
        text += String.fromCharCode(...bytes.subarray(at, at + 8192));
    }
    return btoa(text);
}"""

Sound = NDArray[np.float32]


@pytest.fixture
def page(labelling: LabellingRun, visit: Open) -> Page:
    return visit(labelling.page().url)


def played(
    page: Page,
    melody: str,
    *,
    rate: float = 1.0,
    start: int = 0,
    even: bool = False,
    in_parts: bool = False,
) -> Sound:
    """The sound of a melody, from a slot on."""
    import base64

    listed: list[Any] = [[n.start, n.length, n.midi] for n in notes(from_text(melody))]
    seconds = 32 * 60 / BPM / rate
    text = page.evaluate(RENDER, [listed, BPM, rate, seconds, start, even, in_parts])
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def pitch(sound: Sound) -> float:
    """The strongest frequency in Hz, to a fraction of a bin."""
    size = 1 << 16
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size))
    at = int(np.argmax(power))
    left, middle, right = np.log(power[at - 1 : at + 2])
    return float((at + 0.5 * (left - right) / (left - 2 * middle + right)) * RATE / size)


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_every_note_has_its_pitch_and_rests_are_silent(page: Page, rate: float) -> None:
    """In each of the 32 slots, at any speed."""
    melody = MELODIES[3]
    sound = played(page, melody, rate=rate)
    slot = len(sound) / 32
    silent = np.ones(32, bool)
    for note in notes(from_text(melody)):
        silent[note.start : note.start + note.length] = False
        start, end = round(note.start * slot), round((note.start + note.length) * slot)
        heard = pitch(sound[start:end])
        assert abs(12 * np.log2(heard / frequency(note.midi))) < 0.2  # semitones
    assert 0 < silent.sum() < 32
    for number in np.flatnonzero(silent):
        rest = sound[round(number * slot) + 2 : round((number + 1) * slot) - 2]
        assert np.abs(rest).max() < 1e-4


def test_nothing_clicks_and_nothing_clips(page: Page) -> None:
    sound = played(page, "00001000" * 16)  # two notes, by turns
    assert 0.1 < np.abs(sound).max() <= 1.0
    for number in range(1, 32):
        assert abs(sound[round(number * len(sound) / 32)]) < 0.02


def test_the_page_sounds_as_the_files_do(page: Page) -> None:
    """The WAV file that one downloads is what one has heard."""
    melody = MELODIES[5]
    sound = played(page, melody)
    file = samples(from_text(melody), bpm=BPM)
    assert np.corrcoef(sound, file[: len(sound)])[0, 1] > 0.95
    assert np.abs(sound).max() == pytest.approx(np.abs(file).max(), rel=0.15)


def test_notes_that_are_put_off_sound_the_same(page: Page) -> None:
    """The page schedules the first notes at once, and the others as it has time."""
    melody = MELODIES[3]
    parts, whole = played(page, melody, in_parts=True), played(page, melody)
    assert np.allclose(parts, whole, atol=1e-4)  # sums of the same sines, in any order


def test_it_goes_on_in_the_middle(page: Page) -> None:
    """From a slot on: as when the speed is changed while it plays."""
    melody = MELODIES[3]
    whole, rest = played(page, melody), played(page, melody, start=8)
    slot = len(whole) // 32
    assert np.allclose(rest[: 20 * slot], whole[8 * slot : 28 * slot], atol=0.02)


QUARTERS, HALVES, WHOLES = "00001000" * 16, "0000000010001000" * 8, ("0000" * 4 + "1000" * 4) * 4
RESTS = "0000000110000001" * 8


def test_all_melodies_are_equally_loud(page: Page) -> None:
    """The mean power while notes sound; with one gain for all it differs by some dB."""
    melodies = [*MELODIES[:2], QUARTERS, HALVES, WHOLES, RESTS]
    uneven = [loudness(page, each, even=False) for each in melodies]
    even = [loudness(page, each, even=True) for each in melodies]
    assert max(uneven) - min(uneven) > 3.0
    assert max(even) - min(even) < 0.5


def loudness(page: Page, melody: str, *, even: bool) -> float:
    """Return the mean power in dB of the slots that are no rests."""
    sound = played(page, melody, even=even)
    assert np.abs(sound).max() <= 1.0
    sounding = np.zeros(32, bool)
    for note in notes(from_text(melody)):
        sounding[note.start : note.start + note.length] = True
    power = (sound.reshape(32, -1)[sounding].astype(np.float64) ** 2).mean()
    return float(10 * np.log10(power))
