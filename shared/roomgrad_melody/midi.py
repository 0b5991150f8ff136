"""Melodies as Standard MIDI Files, with all bits of the genome in a text event.

A slot is a quarter note, so a bar of the melody is a bar of 4/4.
"""

from __future__ import annotations

import io
import re

import mido

from roomgrad.errors import FormatError
from roomgrad_melody.genome import BITS, ROOT, SLOTS, SLOTS_PER_BAR, Genomes, notes
from roomgrad_melody.rows import InvalidValue, as_given, genome_of
from roomgrad_melody.sound import BPM, checked_bpm

GENOME = "roomgrad:genome="
"""Beginning of the text event with the genome."""

TICKS = 480  # of a slot
VELOCITY = 80

MAX_BYTES = 16 * 1024 * 1024
"""Limit of a file that is read; a melody alone has 500 bytes."""


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

    The file may have been saved by any program since: only the event with the genome has to be
    whole. The notes are ignored: they lack the silent bits of rests. Raises FormatError if the data
    are not a MIDI file, or contain no genome or a damaged one.
    """
    if len(data) > MAX_BYTES:
        raise FormatError(f"expected a MIDI file of at most {MAX_BYTES} bytes, got {len(data)}")
    if b"MThd" not in data:
        raise FormatError(f"expected a Standard MIDI File, got {data[:4]!r}...")
    # A title may begin like a genome, so text events come first.
    events = sorted(_EVENT.finditer(data), key=lambda event: event["kind"] != b"\x01")
    if not events:
        raise FormatError(
            f"the MIDI file has no text event with {GENOME}, and its notes alone lack the bits of "
            "rests: use a file as `roomgrad melody export` or the page wrote it"
        )
    wrong = []
    for event in events:
        try:
            return genome_of(_rest(event))
        except InvalidValue as error:
            wrong.append(error)
    raise FormatError(f"the genome of the MIDI file is damaged: {wrong[0]}") from wrong[0]


# Found by its bytes. mido parses whole files, and fails at what programs really write: key
# signatures beyond its table, shortened events, chunks between tracks, tracks without an end.
# The kinds 1 to 15 are texts; some programs change the kind or put a language tag before a text.
_EVENT = re.compile(
    rb"\xff(?P<kind>[\x01-\x0f])(?=(?P<length>[\x80-\xff]{0,3}[\x00-\x7f])[^\xff]{0,32}?"
    + GENOME.encode()
    + rb"(?P<bits>.{0,%d}))" % (2 * BITS),
    re.DOTALL,
)


def _rest(event: re.Match[bytes]) -> str:
    """Return what an event has after `GENOME`, without the zero bytes and spaces that pad it."""
    length = 0
    for byte in event["length"]:
        length = length << 7 | byte & 0x7F
    end = event.end("length") + length
    return event["bits"][: max(0, end - event.start("bits"))].decode("latin-1").strip("\0 \r\n")
