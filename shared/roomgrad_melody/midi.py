"""Melodies as Standard MIDI Files, with all bits of the genome in a text event.

A slot is a quarter note, so a bar of the melody is a bar of 4/4.
"""

from __future__ import annotations

import io

import mido

from roomgrad.errors import FormatError
from roomgrad_melody.genome import ROOT, SLOTS, SLOTS_PER_BAR, Genomes, notes
from roomgrad_melody.rows import InvalidValue, as_given, genome_of
from roomgrad_melody.sound import BPM, checked_bpm

GENOME = "roomgrad:genome="
"""Beginning of the text event with the genome."""

TICKS = 480  # of a slot
VELOCITY = 80

MAX_BYTES = 64 * 1024
"""Limit of a file that is read: a melody has 500, and mido takes quadratic time for some input."""


def to_midi(
    genome: Genomes,
    bpm: float = BPM,
    root: int = ROOT,
    scale: str = "major",
    title: str = "",
) -> bytes:
    """Return a file of one track for a genome `(128,)`: its bits, the tempo, and its notes.

    Raises ValueError for an invalid tempo, root or scale.
    """
    tempo = mido.bpm2tempo(checked_bpm(bpm))
    track = mido.MidiTrack()
    if title:
        # mido writes Latin-1; UTF-8, which players expect, is passed through as its bytes.
        name = title.encode("utf-8", "replace").decode("latin-1")
        track.append(mido.MetaMessage("track_name", name=name))
    track.append(mido.MetaMessage("text", text=GENOME + as_given(genome)))
    track.append(mido.MetaMessage("set_tempo", tempo=tempo))
    track.append(mido.MetaMessage("time_signature", numerator=SLOTS_PER_BAR, denominator=4))
    end = 0  # ticks of the event before
    for note in notes(genome, root, scale):
        start = note.start * TICKS
        length = note.length * TICKS
        track.append(mido.Message("note_on", note=note.midi, velocity=VELOCITY, time=start - end))
        track.append(mido.Message("note_off", note=note.midi, velocity=0, time=length))
        end = start + length
    # The track lasts through the rests at its end.
    track.append(mido.MetaMessage("end_of_track", time=SLOTS * TICKS - end))
    file = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save(file=file)
    return file.getvalue()


def from_midi(data: bytes) -> Genomes:
    """Return the genome `(128,)` that `to_midi` wrote into a file, as it was given.

    The notes are ignored: they lack the silent bits of rests. Raises FormatError if the data are
    not a MIDI file, or contain no genome or a damaged one.
    """
    if len(data) > MAX_BYTES:
        raise FormatError(f"expected a MIDI file of at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        # clip: some programs write velocities above 127, which do not concern the genome.
        file = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except Exception as error:  # of any kind: mido does not validate its input
        reason = f"{type(error).__name__} {error}".strip()
        raise FormatError(
            f"expected a Standard MIDI File, got {data[:4]!r}... ({reason})"
        ) from error
    texts = (event.text for track in file.tracks for event in track if event.type == "text")
    found = next((text for text in texts if text.startswith(GENOME)), None)
    if found is None:
        raise FormatError(f"the MIDI file has no text event that begins with {GENOME}")
    try:
        return genome_of(found.removeprefix(GENOME))
    except InvalidValue as wrong:
        raise FormatError(f"the genome of the MIDI file is damaged: {wrong}") from wrong
