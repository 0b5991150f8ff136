"""`roomgrad melody ...`: melodies as files."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from roomgrad.errors import FormatError, RoomgradError, SettingsError
from roomgrad.local.session import password_file, running_server
from roomgrad.names import Names
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import connect
from roomgrad_melody.commands import standing
from roomgrad_melody.commands.roll import roll
from roomgrad_melody.contract import MELODY
from roomgrad_melody.genome import Genomes, from_text
from roomgrad_melody.rows import as_given


def export(folder: Path, format: str, bpm: float, scale: str, run: str, redis_url: str) -> None:
    """Write the best melodies of the last generation that was rated."""
    names = Names(run or MELODY.name)
    with (
        running_server(redis_url) as (url, _),
        closing(connect(for_run(url, names.run), password_file())) as client,
    ):
        generation, genomes, ratings = standing.best(client, names)
    if not len(genomes):
        raise RoomgradError(
            f"run {names.run} has no rated generation yet: `roomgrad run melody` breeds some"
        )
    ending = "mid" if format == "midi" else "wav"
    for place, (genome, rating) in enumerate(zip(genomes, ratings, strict=True), 1):
        path = folder / f"generation-{generation:05d}-{place:02d}.{ending}"
        _write(path, _bytes(genome, format, bpm, scale, path.stem))
        print(f"{path}  expected rating {rating:.2f}")


def _bytes(genome: Genomes, format: str, bpm: float, scale: str, title: str) -> bytes:
    from roomgrad_melody.midi import to_midi
    from roomgrad_melody.sound import to_wav

    try:
        if format == "midi":
            return to_midi(genome, bpm=bpm, scale=scale, title=title)
        return to_wav(genome, bpm=bpm, scale=scale)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise RoomgradError(f"{path} cannot be written: {error.strerror}") from error


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
