"""`roomgrad labels export`: every rating that was given, as a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from roomgrad import files
from roomgrad.cli import output
from roomgrad_melody import formats
from roomgrad_melody.commands import standing, target
from roomgrad_melody.formats import Row
from roomgrad_melody.genome import from_text

STDOUT = "-"


def run(
    file: str, format: str | None, latest: bool, run: str, redis_url: str, *, force: bool
) -> None:
    """Write the ratings of a run. Raises SettingsError if there is no such run."""
    format = format or ("csv" if file == STDOUT else formats.format_of(Path(file)))
    with target.opened(run, redis_url) as (client, names):
        entries = standing.log(client, names)
    found = rows(entries, latest)
    text = formats.write(found, format)
    if file == STDOUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    files.write(Path(file), text.encode(), force=force)
    output.say(f"wrote {len(found)} ratings of run {names.run} to {file}.")


def rows(entries: Iterable[dict[str, Any]], latest: bool = False) -> list[Row]:
    """Return the revisions of labels that count, in their order.

    If a rating is taken back, all earlier ratings of that melody are dropped with it.
    latest: keep the last revision of each melody only.
    """
    kept: dict[str, list[tuple[int, Row]]] = {}
    for place, entry in enumerate(entries):
        if entry["rating"] is None or latest:
            kept.pop(entry["melody"], None)
        if entry["rating"] is not None:
            row = Row(from_text(entry["genome"]), entry["rating"], entry["rater"], entry["at"])
            kept.setdefault(entry["melody"], []).append((place, row))
    return [row for _, row in sorted((pair for each in kept.values() for pair in each), key=_place)]


def _place(pair: tuple[int, Row]) -> int:
    return pair[0]
