"""`roomgrad labels export`: every rating that was given, as a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from roomgrad.errors import RoomgradError
from roomgrad.local.session import password_file, running_server
from roomgrad.names import Names
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import connect
from roomgrad_melody import formats
from roomgrad_melody.commands import standing
from roomgrad_melody.contract import MELODY
from roomgrad_melody.formats import Row
from roomgrad_melody.genome import from_text

STDOUT = "-"


def run(file: str, format: str | None, latest: bool, run: str, redis_url: str) -> None:
    """Write the ratings of a run; the file is replaced as a whole, or not at all."""
    names = Names(run or MELODY.name)
    format = format or ("csv" if file == STDOUT else formats.format_of(Path(file)))
    with (
        running_server(redis_url) as (url, _),
        closing(connect(for_run(url, names.run), password_file())) as client,
    ):
        entries = standing.log(client, names)
    found = rows(entries, latest)
    text = formats.write(found, format)
    if file == STDOUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    _write(Path(file), text)
    print(f"wrote {len(found)} ratings of run {names.run} to {file}.")


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


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(text.encode())
        os.replace(partial, path)
    except OSError as error:
        raise RoomgradError(f"{path} cannot be written: {error.strerror}") from error
