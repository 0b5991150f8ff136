"""Melodies as MIDI files: every bit comes back, and the notes are those that sound."""

from __future__ import annotations

import io
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from roomgrad.errors import FormatError
from roomgrad_melody.genome import Genomes, canonical, notes
from roomgrad_melody.midi import GENOME, MAX_BYTES, from_midi, to_midi
from roomgrad_melody.rows import as_given

REST = 8
genomes = hnp.arrays(np.uint8, 128, elements=st.integers(0, 1))


def melody(*values: int) -> Genomes:
    """A genome that begins with these values and goes on with rests."""
    slots = [*values, *[REST] * (32 - len(values))]
    return np.array([value >> bit & 1 for value in slots for bit in range(4)], dtype=np.uint8)


def parsed(data: bytes) -> Any:
    return mido.MidiFile(file=io.BytesIO(data))


def played(data: bytes) -> list[tuple[float, float, int]]:
    """Start and length in quarter notes, and number, of what a file plays."""
    file = parsed(data)
    ticks, on, found = 0, {}, []
    for event in file.tracks[0]:
        ticks += event.time
        if event.type == "note_on":
            on[event.note] = ticks
        elif event.type == "note_off":
            start = on.pop(event.note)
            found.append((start, ticks - start, event.note))
    assert not on
    beat = file.ticks_per_beat
    return [(start / beat, length / beat, note) for start, length, note in found]


def file_with(text: str, event: str = "text") -> bytes:
    track = mido.MidiTrack([mido.MetaMessage(event, **{"text": text})])
    file = io.BytesIO()
    mido.MidiFile(tracks=[track]).save(file=file)
    return file.getvalue()


@given(genomes, st.text())
@example(melody(1), "half a character: \ud800")
def test_every_bit_comes_back(genome: Genomes, title: str) -> None:
    found = from_midi(to_midi(genome, title=title))
    assert found.dtype == np.uint8
    assert (found == genome).all()


def test_silent_bits_come_back() -> None:
    genome = np.ones(128, dtype=np.uint8)
    assert not notes(genome)
    assert (canonical(genome) != genome).any()
    assert (from_midi(to_midi(genome)) == genome).all()


@given(genomes)
def test_it_plays_the_notes(genome: Genomes) -> None:
    expected = [(note.start, note.length, note.midi) for note in notes(genome, 60, "minor")]
    assert played(to_midi(genome, root=60, scale="minor")) == expected


def test_a_tied_pair_is_one_note_and_a_root_sounds_after_a_rest() -> None:
    data = to_midi(melody(REST, 0, 0, REST + 7, 0, 7))
    assert played(data) == [(1, 2, 48), (4, 1, 48), (5, 1, 60)]


def test_tempo_bars_and_length() -> None:
    file = parsed(to_midi(melody(0), bpm=128))
    assert file.type == 0
    assert len(file.tracks) == 1
    assert file.length == pytest.approx(32 * 60 / 128, abs=1e-4)  # rests at the end too
    events = {event.type: event for event in file.tracks[0]}
    assert events["set_tempo"].tempo == round(60e6 / 128)
    assert (events["time_signature"].numerator, events["time_signature"].denominator) == (4, 4)
    assert sum(event.time for event in file.tracks[0]) == 32 * file.ticks_per_beat


def test_the_title() -> None:
    assert b"\x05\xc3\xa9 \xd0\x96" in to_midi(melody(), title="é Ж")
    names = [event for event in parsed(to_midi(melody())).tracks[0] if event.type == "track_name"]
    assert not names
    assert (from_midi(to_midi(melody(1), title=GENOME + "0")) == melody(1)).all()


def test_the_same_melody_is_the_same_file() -> None:
    assert to_midi(melody(1, 2, 3), title="a") == to_midi(melody(1, 2, 3), title="a")


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"bpm": 19.9}, "the tempo is 19.9 BPM; expected 20 to 400"),
        ({"bpm": 401}, "expected 20 to 400"),
        ({"bpm": float("nan")}, "expected 20 to 400"),
        ({"root": 120}, "the root is 120"),
        ({"scale": "blue"}, "the scale is 'blue'"),
    ],
)
def test_what_cannot_be_played(others: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        to_midi(melody(0), **others)


# files of others

HEADER = b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\x40"
SAVED = melody(3, 15, 2, 7)
WRITTEN = to_midi(SAVED)
TEXT = WRITTEN.index(b"\xff\x01\x81\x10")  # the event with the genome, 128 + 16 bytes long
LONGER = WRITTEN[:TEXT] + b"\xff\x01\x81"  # without the last byte of the length


def before(*event: int) -> bytes:
    """The file with another event before the one with the genome."""
    return WRITTEN[:TEXT] + bytes(event) + b"\0" + WRITTEN[TEXT:]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "expected a Standard MIDI File"),
        (b"RIFF....", "expected a Standard MIDI File, got b'RIFF'"),
        (to_midi(melody(0))[10:], "expected a Standard MIDI File"),
        (to_midi(melody(0))[:100], "damaged: .* got 57 characters"),
        (b"\0" * (MAX_BYTES + 1), "expected a MIDI file of at most 16777216 bytes"),
        (file_with("hello"), "no text event with roomgrad:genome="),
        (HEADER + GENOME.encode() + b"0" * 128, "no text event with roomgrad:genome="),
        (file_with(GENOME), "damaged: .* got 0 characters"),
        (file_with(GENOME + "0" * 127), "damaged: .* got 127 characters"),
        (file_with(GENOME + "0" * 127 + "2"), "damaged: .* got '2' as character 128"),
        (file_with(GENOME + "0" * 129), "damaged: .* got 129 characters"),
    ],
)
def test_a_file_without_a_melody(data: bytes, sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        from_midi(data)


@pytest.mark.parametrize(
    "data",
    [
        before(0xFF, 0x59, 2, 0, 255),
        before(0xFF, 0x59, 2, 8, 0),
        before(0xFF, 0x59, 1, 0),
        before(0xFF, 0x51, 0),
        before(0xFF, 0x58, 2, 4, 2),
        before(0xFF, 0x54, 5, 255, 0, 0, 0, 0),
        before(0xFF, 0x20, 0),
        before(0x90, 60, 64, 0, 0xFF, 1, 1, 97, 0, 60, 0),
        before(0xF0, 4, 0x43, 255, 1, 0xF7),
        WRITTEN[:14] + b"XFIH\0\0\0\2ab" + WRITTEN[14:],
        b"RIFF\xff\1\0\0RMIDdata\xff\1\0\0" + WRITTEN,
        b"\0" * 128 + WRITTEN + b"\0" * 512,
        WRITTEN[:10] + b"\0\7" + WRITTEN[12:],
        WRITTEN[:12] + b"\xe7\x28" + WRITTEN[14:],
        WRITTEN[:-4],
        WRITTEN[: TEXT + 148],
        WRITTEN + b"MTrk\0\0\0\x09\0" * 100_000,
        LONGER + b"\x11" + WRITTEN[TEXT + 4 : TEXT + 148] + b"\0" + WRITTEN[TEXT + 148 :],
        LONGER + b"\x18{@LATIN}" + WRITTEN[TEXT + 4 :],
        WRITTEN[: TEXT + 148] + b"0" + WRITTEN[TEXT + 149 :],
        *(WRITTEN[: TEXT + 1] + bytes([kind]) + WRITTEN[TEXT + 2 :] for kind in range(1, 16)),
    ],
)
def test_the_genome_is_found_however_a_program_saved_the_rest(data: bytes) -> None:
    """Other events as they occur, chunks, headers, lengths, padding, and kinds of the text."""
    assert (from_midi(data) == SAVED).all()


def test_a_title_is_not_taken_for_the_genome() -> None:
    assert (from_midi(to_midi(SAVED, title=GENOME + "1" * 128)) == SAVED).all()


def test_a_file_that_another_program_saved() -> None:
    """Two tracks, other events before: the text event is all that counts."""
    genome = melody(3, 15, 2)
    first = mido.MidiTrack([mido.MetaMessage("text", text="by hand"), mido.Message("note_on")])
    second = mido.MidiTrack([mido.MetaMessage("text", text=GENOME + as_given(genome))])
    file = io.BytesIO()
    mido.MidiFile(tracks=[first, second]).save(file=file)
    assert (from_midi(file.getvalue()) == genome).all()


def test_a_file_with_a_velocity_that_there_is_not() -> None:
    data = to_midi(melody(0))
    assert data.count(b"\x90\x30\x50") == 1
    assert (from_midi(data.replace(b"\x90\x30\x50", b"\x90\x30\xff")) == melody(0)).all()


@given(st.binary() | st.binary().map(HEADER.__add__))
@example(HEADER + b"\0\xff\x59\2\x7f\0")  # a key that there is not
@example(HEADER + b"\0\xff\x51\0")  # a tempo without bytes
@example(HEADER + b"\0\xff\x54\5\xff\0\0\0\0")
@example(HEADER + b"\xff" * 9000)
def test_garbage_is_no_midi_file(data: bytes) -> None:
    with pytest.raises(FormatError):
        from_midi(data)


@given(genomes, st.data())
def test_damage_raises_nothing_else(genome: Genomes, edits: st.DataObject) -> None:
    data = bytearray(to_midi(genome))
    at = edits.draw(st.integers(0, len(data) - 1))
    data[at : at + edits.draw(st.integers(0, 3))] = edits.draw(st.binary(max_size=3))
    try:
        found = from_midi(bytes(data))
    except FormatError:
        return
    assert found.shape == (128,)
    assert set(found.tolist()) <= {0, 1}
