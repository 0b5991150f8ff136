"""`roomgrad labels import`: send the labels of a file to the learner, all or none."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roomgrad.cli import output
from roomgrad.codec import parse_body, unpack
from roomgrad.display import printable
from roomgrad.errors import RoomgradError
from roomgrad.local.session import password_file
from roomgrad.messages import Message
from roomgrad.names import ERRORS, Names
from roomgrad.redis import heartbeats
from roomgrad.redis.client import Client
from roomgrad.rooms import MessageType
from roomgrad_melody import formats
from roomgrad_melody.contract import CUSTOM, LABELS_LOG, LEARNER, MELODY, USER
from roomgrad_melody.formats import Row
from roomgrad_melody.genome import texts

OUTCOME_S = 60.0  # limit for the learner's outcome
LOOK_S = 1.0  # between two checks that the learner is alive
SHOWN = 20  # problems or conflicts that are printed

Records = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Import:
    """The options of an import."""

    file: Path
    format: str | None
    on_conflict: str
    rater: str
    dry_run: bool
    skip_bad_lines: bool


@dataclass(frozen=True)
class Sorted:
    """The rows of a file by their result; all revisions of a melody have the same one."""

    new: list[Row]
    same: list[Row]
    """Melodies whose last rating in the file equals the stored one."""

    other: list[Row]
    """Conflicts: melodies whose stored rating differs."""


def run(asked: Import, run: str, redis_url: str) -> None:
    """Import the file, or print what would be imported. Raises RoomgradError."""
    rows = _read(asked)
    with Client(MELODY, run, redis_url, password_file(), name="import") as client:
        if not client.redis.exists(client.names.run_info()):
            raise RoomgradError(
                f"there is no run {client.names.run!r} on this server: `roomgrad run melody` "
                f"starts one, and with --labels-file begins with labels"
            )
        found = sort(rows, labels(client))
        _refuse(asked, found, labels(client), client.names)
        chosen = chosen_of(rows, found, asked.on_conflict)
        if asked.dry_run:
            output.say(f"would import {_what(asked, found, chosen)}; nothing was changed.")
            return
        if chosen:
            _send(client, chosen, asked)
        output.say(f"imported {_what(asked, found, chosen)}.")


def _read(asked: Import) -> list[Row]:
    """Return the rows of the file. Raises RoomgradError for wrong lines, unless skipped."""
    found = formats.read(asked.file, asked.format)
    for problem in found.problems[:SHOWN]:
        print(printable(f"{asked.file}: {problem}"), file=sys.stderr)
    count = len(found.problems) + found.more
    if count > SHOWN:
        print(f"{asked.file}: and {count - SHOWN} more", file=sys.stderr)
    if count and not asked.skip_bad_lines:
        raise RoomgradError(
            f"{asked.file} has {_lines(count)} that cannot be read, so nothing was imported: "
            f"repair it, or import the rest by --skip-bad-lines"
        )
    return found.rows


def labels(client: Client) -> Records:
    """Return the stored labels by melody."""
    found: Any = client.redis.hgetall(client.names.table("labels"))
    return {name.decode(): unpack(value) for name, value in found.items()}


def sort(rows: Sequence[Row], standing: Records) -> Sorted:
    """Sort the rows by whether a label of their melody is stored, and which."""
    names = _melodies(rows)
    last = dict(zip(names, rows, strict=True))
    found = Sorted([], [], [])
    for name, row in zip(names, rows, strict=True):
        if name not in standing:
            found.new.append(row)
        elif standing[name]["rating"] == last[name].rating:
            found.same.append(row)
        else:
            found.other.append(row)
    return found


def chosen_of(rows: Sequence[Row], found: Sorted, on_conflict: str) -> list[Row]:
    """Return the rows to send, in their order."""
    wanted = {id(row) for row in found.new}
    if on_conflict == "replace":
        wanted |= {id(row) for row in found.other}
    return [row for row in rows if id(row) in wanted]


def _melodies(rows: Sequence[Row]) -> list[str]:
    return texts(np.array([row.genome for row in rows], np.uint8).reshape(-1, 128))


def _refuse(asked: Import, found: Sorted, standing: Records, names: Names) -> None:
    """Raise RoomgradError if ratings differ and `on_conflict` is "error"."""
    if asked.on_conflict != "error" or not found.other:
        return
    for row, name in list(zip(found.other, _melodies(found.other), strict=True))[:SHOWN]:
        label = standing[name]
        line = (
            f"{asked.file}: line {row.line}: the rating is {row.rating}, but {label['rating']} by "
            f"{label['rater']} in run {names.run}"
        )
        print(printable(line), file=sys.stderr)
    raise RoomgradError(
        f"{_lines(len(found.other))} of {asked.file} have another rating already, so nothing was "
        f"imported: choose --on-conflict keep or replace"
    )


def _what(asked: Import, found: Sorted, chosen: Sequence[Row]) -> str:
    parts = [f"{len(chosen)} of {len(chosen) + _left(asked, found)} ratings of {asked.file}"]
    if found.same:
        parts.append(f"{len(found.same)} are stored already")
    if found.other:
        done = "are kept unchanged" if asked.on_conflict == "keep" else "replace others"
        parts.append(f"{len(found.other)} {done}")
    return ", ".join(parts)


def _left(asked: Import, found: Sorted) -> int:
    return len(found.same) + (len(found.other) if asked.on_conflict == "keep" else 0)


def _send(client: Client, rows: Sequence[Row], asked: Import) -> None:
    """Send the rows as one message, and return when the learner has stored all of them."""
    message = Message.open(
        USER,
        type=CUSTOM,
        GENOMES=np.array([row.genome for row in rows], np.uint8),
        FITNESS=np.array([row.rating for row in rows], np.float64),
        RATER=asked.rater,
        RATERS=[row.rater for row in rows],
        AT=np.array([np.nan if row.at is None else row.at for row in rows], np.float64),
        CONFLICT=asked.on_conflict,
    )
    names = client.names
    keys = (names.log(LABELS_LOG), names.stream(ERRORS, MessageType.LOG_ERROR))
    after = {key: _newest(client, key) for key in keys}
    client.send(message)
    until = time.monotonic() + OUTCOME_S
    while not _outcome(client, message, after):
        if not heartbeats.find(client.redis, names, LEARNER):
            raise RoomgradError(
                f"no learner of run {names.run} runs: the labels wait in room {USER} and are taken "
                f"when one is started: `roomgrad doctor --run {names.run}` says how"
            )
        if time.monotonic() > until:
            raise RoomgradError(
                f"the learner of run {names.run} has not taken the labels within {OUTCOME_S:.0f} "
                f"s; they wait in room {USER}"
            )


def _outcome(client: Client, message: Message, after: dict[str, bytes]) -> bool:
    """Wait a moment, return whether the labels are stored. Raises RoomgradError if refused."""
    found: Any = client.redis.xread(after, count=1000, block=round(LOOK_S * 1000))  # type: ignore[arg-type]
    for key, entries in found or ():
        for entry, fields in entries:
            after[key.decode()] = entry
            body = parse_body(fields[b"m"]) if b"ROOT_ID" in fields else unpack(fields[b"m"])
            if body.get("answer") == message.id:
                return True
            if body.get("ROOT_ID") == message.root_id:
                raise RoomgradError(f"nothing was imported: {body.get('TEXT', 'it was refused')}")
    return False


def _newest(client: Client, key: str) -> bytes:
    newest: Any = client.redis.xrevrange(key, count=1)
    entry: bytes = newest[0][0] if newest else b"0-0"
    return entry


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"
