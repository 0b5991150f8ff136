"""The commands of the melody maker: `roomgrad rate`, `labels ...` and `melody ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from roomgrad.cli import options as typed

FORMATS = ("csv", "jsonl", "json")

Format = Annotated[
    str | None,
    typed.word("--format", FORMATS, "csv, jsonl, or json of Label Studio; by the name if empty."),
]

labels = typer.Typer(
    name="labels", help="Labels as files: import and export.", no_args_is_help=True
)
melody = typer.Typer(name="melody", help="Melodies as files: MIDI, sound.", no_args_is_help=True)


def rate(
    rater: Annotated[str, Option(help="Your name, under which the labels stand.")] = "",
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Answer the questions of a running melody maker in the terminal."""
    from roomgrad_melody.commands import rate as rating

    rating.run(rater or rating.own_name(), run, redis)


@labels.command("import")
def import_labels(
    file: Annotated[Path, Argument(help="CSV, JSONL or JSON of Label Studio.")],
    format: Format = None,
    on_conflict: Annotated[
        str,
        typed.word(
            "--on-conflict",
            ("error", "keep", "replace"),
            "What a melody gets that has another rating already.",
        ),
    ] = "error",
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would happen, no more.")] = False,
    skip_bad_lines: Annotated[
        bool, Option("--skip-bad-lines", help="Import the lines that can be read.")
    ] = False,
    rater: Annotated[
        str, Option(help="Who has rated, where the file does not name one person.")
    ] = "file",
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Give labels that were made elsewhere to a running learner: all of a file, or nothing."""
    from roomgrad_melody.commands import importing

    importing.run(
        importing.Import(file, format, on_conflict, rater, dry_run, skip_bad_lines), run, redis
    )


@labels.command("export")
def export_labels(
    file: Annotated[str, Argument(help="The file; - for standard output.")] = "-",
    format: Format = None,
    latest: Annotated[
        bool, Option("--latest", help="One row for each melody, no earlier revisions.")
    ] = False,
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Write all ratings that were given, in their order; those taken back are left out."""
    from roomgrad_melody.commands import exporting

    exporting.run(file, format, latest, run, redis)


@melody.command("export")
def export_melodies(
    folder: Annotated[Path, Argument(help="Where the files go.")] = Path("melodies"),
    format: Annotated[
        str, typed.word("--format", ("midi", "wav"), "midi, which holds the genome, or wav.")
    ] = "midi",
    bpm: Annotated[float, Option(help="Notes of a bar per minute, of which a bar has 4.")] = 128,
    scale: Annotated[str, Option(help="major, minor, dorian, pentatonic...")] = "major",
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Write the best melodies of the generation now, one file for each."""
    from roomgrad_melody.commands import tunes

    tunes.export(folder, format, bpm, scale, run, redis)


@melody.command("import")
def import_melody(file: Annotated[Path, Argument(help="A file of `melody export`.")]) -> None:
    """Print the genome that a MIDI file holds."""
    from roomgrad_melody.commands import tunes

    print(tunes.genome_in(file))


@melody.command("show")
def show_melody(
    melody: Annotated[str, Argument(help="128 characters 0 and 1, or a MIDI file.")],
) -> None:
    """Draw a melody as a piano roll."""
    from roomgrad_melody.commands import tunes

    print(tunes.drawn(melody))
