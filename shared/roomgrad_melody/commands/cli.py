"""The commands of the melody maker: `roomgrad rate`, `labels ...` and `melody ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from roomgrad.cli import options as typed
from roomgrad.cli import output

FORMATS = ("csv", "jsonl", "json")

Format = Annotated[
    str | None,
    typed.word("--format", FORMATS, "csv, jsonl, or json of Label Studio; by the name if empty."),
]

app = typer.Typer()
labels = typer.Typer(
    name="labels", help="Labels as files: import and export.", no_args_is_help=True
)
melody = typer.Typer(name="melody", help="Melodies as files: MIDI, sound.", no_args_is_help=True)

app.add_typer(labels)
app.add_typer(melody)


@app.command()
def rate(
    rater: Annotated[str, Option(help="Your name, under which the labels are stored.")] = "",
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
            "What to do with a melody or pair that has another answer.",
        ),
    ] = "error",
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would happen.")] = False,
    skip_bad_lines: Annotated[
        bool, Option("--skip-bad-lines", help="Import the lines that can be read.")
    ] = False,
    rater: Annotated[str, Option(help="Name of the rater, if the file names none.")] = "file",
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Give the ratings or votes in a file to a running learner: all of them, or none."""
    from roomgrad_melody.commands import importing

    importing.run(
        importing.Import(file, format, on_conflict, rater, dry_run, skip_bad_lines), run, redis
    )


@labels.command("export")
def export_labels(
    file: Annotated[str, Argument(help="The file; - for standard output.")] = "-",
    format: Format = None,
    pairs: Annotated[
        bool, Option("--pairs", help="Write votes on two melodies in place of ratings.")
    ] = False,
    latest: Annotated[
        bool, Option("--latest", help="Write the last answer for each melody or pair only.")
    ] = False,
    force: typed.Force = False,
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Write all answers in the order in which they were given, without those taken back."""
    from roomgrad_melody.commands import exporting

    exporting.run(exporting.Export(file, format, pairs, latest, force), run, redis)


@melody.command("export")
def export_melodies(
    folder: Annotated[Path, Argument(help="The folder for the files.")] = Path("melodies"),
    format: Annotated[
        str, typed.word("--format", ("midi", "wav"), "midi, which holds the genome, or wav.")
    ] = "midi",
    bpm: Annotated[float, Option(help="Notes of a bar per minute, of which a bar has 4.")] = 128,
    scale: Annotated[str, Option(help="major, minor, dorian, pentatonic...")] = "major",
    force: typed.Force = False,
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Write the best melodies of the current generation, one file for each."""
    from roomgrad_melody.commands import tunes

    tunes.export(tunes.Export(folder, format, bpm, scale, force), run, redis)


@melody.command("import")
def import_melody(file: Annotated[Path, Argument(help="A file of `melody export`.")]) -> None:
    """Print the genome that a MIDI file holds."""
    from roomgrad_melody.commands import tunes

    output.say(tunes.genome_in(file))


@melody.command("show")
def show_melody(
    melody: Annotated[str, Argument(help="128 characters 0 and 1, or a MIDI file.")],
) -> None:
    """Draw a melody as a piano roll."""
    from roomgrad_melody.commands import tunes

    output.say(*tunes.drawn(melody).splitlines())
