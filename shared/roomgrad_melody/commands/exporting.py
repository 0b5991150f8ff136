"""`roomgrad labels export`: every rating or vote that was given, as a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roomgrad import files
from roomgrad.cli import output
from roomgrad_melody import formats
from roomgrad_melody.commands import standing, target
from roomgrad_melody.contract import LABELS_LOG, PAIRS_LOG, RETRACTED
from roomgrad_melody.formats import Pair, Row
from roomgrad_melody.genome import from_text, pair_key

STDOUT = "-"

Entry = dict[str, Any]  # of a log


@dataclass(frozen=True)
class Export:
    """The options of an export."""

    file: str
    format: str | None
    pairs: bool
    latest: bool
    force: bool


def run(asked: Export, run: str, redis_url: str) -> None:
    """Write the ratings or votes of a run. Raises SettingsError if there is no such run."""
    file = asked.file
    format = asked.format or ("csv" if file == STDOUT else formats.format_of(Path(file)))
    with target.opened(run, redis_url) as (client, names):
        entries = standing.log(client, names, PAIRS_LOG if asked.pairs else LABELS_LOG)
    found: Sequence[Row | Pair]
    if asked.pairs:
        found = pairs(entries, asked.latest)
        text = formats.write_pairs(found, format)
    else:
        found = rows(entries, asked.latest)
        text = formats.write(found, format)
    if file == STDOUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    files.write(Path(file), text.encode(), force=asked.force)
    noun = "votes" if asked.pairs else "ratings"
    output.say(f"wrote {len(found)} {noun} of run {names.run} to {file}.")


def rows(entries: Iterable[Entry], latest: bool = False) -> list[Row]:
    """Return the revisions of ratings that count, in their order.

    If a rating is taken back, all earlier ratings of that melody are dropped with it.
    latest: keep the last revision of each melody only.
    """
    given = ((each["melody"], each["rating"] is not None, each) for each in entries)
    return [
        Row(from_text(each["genome"]), each["rating"], each["rater"], each["at"])
        for each in _valid(given, latest)
    ]


def pairs(entries: Iterable[Entry], latest: bool = False) -> list[Pair]:
    """Return the revisions of votes that count, as `rows` does."""
    given = (
        (pair_key(each["first"], each["second"]), each["prefer"] != RETRACTED, each)
        for each in entries
    )
    names = ("first", "second", "prefer", "rater", "at", "listened")
    return [Pair(*(each[name] for name in names)) for each in _valid(given, latest)]


def _valid(given: Iterable[tuple[str, bool, Entry]], latest: bool) -> list[Entry]:
    """Return the entries that count. given: the name, whether it is an answer, and the entry."""
    kept: dict[str, list[tuple[int, Entry]]] = {}
    for place, (name, is_answer, entry) in enumerate(given):
        if latest or not is_answer:
            kept.pop(name, None)
        if is_answer:
            kept.setdefault(name, []).append((place, entry))
    return [
        entry for _, entry in sorted((each for one in kept.values() for each in one), key=_place)
    ]


def _place(pair: tuple[int, Entry]) -> int:
    return pair[0]
