"""`roomgrad melody ...`: melodies as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from roomgrad import files
from roomgrad.cli import output
from roomgrad.errors import FormatError, RoomgradError, SettingsError
from roomgrad_melody.commands import standing, target
from roomgrad_melody.commands.roll import roll
from roomgrad_melody.genome import Genomes, from_text
from roomgrad_melody.rows import as_given


@dataclass(frozen=True)
class Export:
    """The options of an export; bpm: notes of a quarter of a bar per minute."""

    folder: Path
    format: str
    bpm: float
    scale: str
    force: bool


def export(asked: Export, run: str, redis_url: str) -> None:
    """Write the best melodies of the last generation that was rated: all of them, or none."""
    with target.opened(run, redis_url) as (client, names):
        generation, genomes, ratings = standing.best(client, names)
    if not len(genomes):
        raise RoomgradError(
            f"run {names.run} has no rated generation yet: `roomgrad run melody` breeds some"
        )
    ending = "mid" if asked.format == "midi" else "wav"
    places = range(1, len(genomes) + 1)
    paths = [asked.folder / f"generation-{generation:05d}-{n:02d}.{ending}" for n in places]
    for path in paths:
        files.refuse_existing(path, asked.force)
    for path, genome, rating in zip(paths, genomes, ratings, strict=True):
        _write(path, _bytes(genome, asked, path.stem), asked.force)
        output.say(f"{path}  expected rating {rating:.2f}")


def _bytes(genome: Genomes, asked: Export, title: str) -> bytes:
    from roomgrad_melody.midi import to_midi
    from roomgrad_melody.sound import to_wav

    try:
        if asked.format == "midi":
            return to_midi(genome, bpm=asked.bpm, scale=asked.scale, title=title)
        return to_wav(genome, bpm=asked.bpm, scale=asked.scale)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _write(path: Path, data: bytes, force: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error
    files.write(path, data, force=force)


def genome_in(path: Path) -> str:
    """Return the 128 characters of a MIDI file, with the silent bits. Raises FormatError."""
    from roomgrad_melody.midi import from_midi

    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return as_given(from_midi(data))
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def drawn(melody: str) -> str:
    """Draw a piano roll of a melody, given by its 128 characters or by a MIDI file."""
    text = genome_in(Path(melody)) if melody.lower().endswith((".mid", ".midi")) else melody
    try:
        return roll(from_text(text))
    except ValueError as error:
        raise SettingsError(str(error)) from error
