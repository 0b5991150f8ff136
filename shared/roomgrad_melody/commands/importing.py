"""`roomgrad labels import`: send the ratings or votes of a file to the learner, all or none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

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
from roomgrad_melody.contract import CUSTOM, LABELS_LOG, LEARNER, MELODY, PAIRS_LOG, USER
from roomgrad_melody.formats import Pair, Result, Row
from roomgrad_melody.genome import from_text, from_texts, pair_key, text, texts
from roomgrad_melody.votes import preference_as_shown

OUTCOME_S = 60.0  # limit for the learner's outcome
LOOK_S = 1.0  # between two checks that the learner is alive
SHOWN = 20  # problems or conflicts that are printed

BATCH = 1000  # votes that are sent before the learner has stored them

Records = dict[str, dict[str, Any]]
L = TypeVar("L", Row, Pair)


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
class Sorted(Generic[L]):
    """The labels of a file by their result; all revisions of a melody or pair have the same one."""

    new: list[L]
    same: list[L]
    """Those whose last revision in the file equals what is stored."""

    other: list[L]
    """Conflicts: those for which something else is stored."""


@dataclass(frozen=True)
class Kind(Generic[L]):
    """What differs between ratings and votes."""

    noun: str
    table: str
    log: str
    name: Callable[[L], str]
    """Returns the field of a label in the table."""

    says: Callable[[L], Any]
    stored: Callable[[dict[str, Any], L], Any]
    """Returns what a record says; of a pair, as if it had been shown in the order of a label."""

    batches: Callable[[Sequence[L], Import], list[list[Message]]]
    """Returns messages; those of a batch are sent when the ones before are stored."""


def run(asked: Import, run: str, redis_url: str) -> None:
    """Import the file, or print what would be imported. Raises RoomgradError."""
    found = _read(asked)
    with Client(MELODY, run, redis_url, password_file(), name="import") as client:
        if not client.redis.exists(client.names.run_info()):
            raise RoomgradError(
                f"there is no run {client.names.run!r} on this server: `roomgrad run melody` "
                f"starts one, and with --labels-file begins with labels"
            )
        if found.pairs:
            _import(client, asked, VOTES, found.pairs)
        else:
            _import(client, asked, RATINGS, found.rows)


def _import(client: Client, asked: Import, kind: Kind[L], labels: Sequence[L]) -> None:
    records = _records(client, kind.table)
    found = sort(labels, records, kind)
    _refuse(asked, found, records, kind, client.names)
    chosen = chosen_of(labels, found, asked.on_conflict)
    if asked.dry_run:
        output.say(f"would import {_what(asked, found, chosen, kind)}; nothing was changed.")
        return
    for batch in kind.batches(chosen, asked) if chosen else ():
        _send(client, batch, kind)
    output.say(f"imported {_what(asked, found, chosen, kind)}.")


def _read(asked: Import) -> Result:
    """Return the labels of the file. Raises RoomgradError for wrong lines, unless skipped."""
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
    return found


def _records(client: Client, table: str) -> Records:
    found: Any = client.redis.hgetall(client.names.table(table))
    return {name.decode(): unpack(value) for name, value in found.items()}


def sort(labels: Sequence[L], records: Records, kind: Kind[L]) -> Sorted[L]:
    """Sort the labels by whether one of their melody or pair is stored, and which."""
    names = [kind.name(label) for label in labels]
    last = dict(zip(names, labels, strict=True))
    found: Sorted[L] = Sorted([], [], [])
    for name, label in zip(names, labels, strict=True):
        if name not in records:
            found.new.append(label)
        elif kind.stored(records[name], last[name]) == kind.says(last[name]):
            found.same.append(label)
        else:
            found.other.append(label)
    return found


def chosen_of(labels: Sequence[L], found: Sorted[L], on_conflict: str) -> list[L]:
    """Return the labels to send, in their order."""
    wanted = {id(label) for label in found.new}
    if on_conflict == "replace":
        wanted |= {id(label) for label in found.other}
    return [label for label in labels if id(label) in wanted]


def _refuse(asked: Import, found: Sorted[L], records: Records, kind: Kind[L], names: Names) -> None:
    """Raise RoomgradError if labels differ and `on_conflict` is "error"."""
    if asked.on_conflict != "error" or not found.other:
        return
    for label in found.other[:SHOWN]:
        record = records[kind.name(label)]
        line = (
            f"{asked.file}: line {label.line}: the {kind.noun} is {kind.says(label)}, but "
            f"{kind.stored(record, label)} by {record['rater']} in run {names.run}"
        )
        print(printable(line), file=sys.stderr)
    raise RoomgradError(
        f"{_lines(len(found.other))} of {asked.file} have another {kind.noun} already, so nothing "
        f"was imported: choose --on-conflict keep or replace"
    )


def _what(asked: Import, found: Sorted[L], chosen: Sequence[L], kind: Kind[L]) -> str:
    total = len(chosen) + _left(asked, found)
    parts = [f"{len(chosen)} of {total} {kind.noun}s of {asked.file}"]
    if found.same:
        parts.append(f"{len(found.same)} are stored already")
    if found.other:
        done = "are kept unchanged" if asked.on_conflict == "keep" else "replace others"
        parts.append(f"{len(found.other)} {done}")
    return ", ".join(parts)


def _left(asked: Import, found: Sorted[L]) -> int:
    return len(found.same) + (len(found.other) if asked.on_conflict == "keep" else 0)


# ratings: all in one message


def _rating_message(rows: Sequence[Row], asked: Import) -> list[list[Message]]:
    message = Message.open(
        USER,
        type=CUSTOM,
        GENOMES=np.array([row.genome for row in rows], np.uint8),
        FITNESS=np.array([row.rating for row in rows], np.float64),
        **_origin(rows, asked),
        CONFLICT=asked.on_conflict,
    )
    return [[message]]


def _origin(labels: Sequence[Row] | Sequence[Pair], asked: Import) -> dict[str, Any]:
    return {
        "RATER": asked.rater,
        "RATERS": [label.rater for label in labels],
        "AT": np.array([np.nan if each.at is None else each.at for each in labels], np.float64),
    }


RATINGS: Kind[Row] = Kind(
    noun="rating",
    table="labels",
    log=LABELS_LOG,
    name=lambda row: text(row.genome),
    says=lambda row: row.rating,
    stored=lambda record, _row: record["rating"],
    batches=_rating_message,
)


# votes: a message for each


def _vote_messages(pairs: Sequence[Pair], asked: Import) -> list[list[Message]]:
    """Return a message for each vote. A revision is in a later batch than what it revises."""
    batches: list[list[Message]] = [[]]
    known: set[str] = set()
    here: set[str] = set()
    for pair in pairs:
        name = _pair_name(pair)
        if name in here or len(here) == BATCH:
            batches.append([])
            here = set()
        # What this import has stored before is no conflict.
        conflict = "replace" if name in known else asked.on_conflict
        batches[-1].append(_vote_message(pair, asked, conflict))
        known.add(name)
        here.add(name)
    return batches


def _vote_message(pair: Pair, asked: Import, conflict: str) -> Message:
    return Message.open(
        USER,
        type=CUSTOM,
        PAIR=from_texts((pair.first, pair.second)),
        PREFER=pair.prefer,
        LISTENED=np.array(pair.listened, np.int64),
        **_origin([pair], asked),
        CONFLICT=conflict,
    )


def _pair_name(pair: Pair) -> str:
    return pair_key(*texts(from_texts((pair.first, pair.second))))


def _stored_vote(record: dict[str, Any], pair: Pair) -> str:
    return preference_as_shown(record, text(from_text(pair.first)))


VOTES: Kind[Pair] = Kind(
    noun="vote",
    table="pairs",
    log=PAIRS_LOG,
    name=_pair_name,
    says=lambda pair: pair.prefer,
    stored=_stored_vote,
    batches=_vote_messages,
)


# sending


def _send(client: Client, messages: Sequence[Message], kind: Kind[Any]) -> None:
    """Send messages, and return when the learner has stored what they hold."""
    names = client.names
    keys = (names.log(kind.log), names.stream(ERRORS, MessageType.LOG_ERROR))
    after = {key: _newest(client, key) for key in keys}
    for message in messages:
        client.send(message)
    waiting = {message.id: message.root_id for message in messages}
    until = time.monotonic() + OUTCOME_S
    while waiting:
        if _take_outcomes(client, waiting, after):
            until = time.monotonic() + OUTCOME_S
        elif not heartbeats.find(client.redis, names, LEARNER):
            raise RoomgradError(
                f"no learner of run {names.run} runs: the labels wait in room {USER} and are taken "
                f"when one is started: `roomgrad doctor --run {names.run}` says how"
            )
        elif time.monotonic() > until:
            raise RoomgradError(
                f"the learner of run {names.run} has not taken the labels within {OUTCOME_S:.0f} "
                f"s; they wait in room {USER}"
            )


def _take_outcomes(client: Client, waiting: dict[str, str], after: dict[str, bytes]) -> bool:
    """Wait a moment; drop the messages that are stored, and return whether there were any.

    Raises RoomgradError if the learner has refused one.
    """
    before = len(waiting)
    found: Any = client.redis.xread(after, count=1000, block=round(LOOK_S * 1000))  # type: ignore[arg-type]
    for key, entries in found or ():
        for entry, fields in entries:
            after[key.decode()] = entry
            body = parse_body(fields[b"m"]) if b"ROOT_ID" in fields else unpack(fields[b"m"])
            waiting.pop(str(body.get("answer")), None)
            if body.get("ROOT_ID") in waiting.values():
                said = body.get("TEXT", "it was refused")
                raise RoomgradError(f"the learner refused a label of the import: {said}")
    return len(waiting) < before


def _newest(client: Client, key: str) -> bytes:
    newest: Any = client.redis.xrevrange(key, count=1)
    entry: bytes = newest[0][0] if newest else b"0-0"
    return entry


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"
