"""Snapshots of a melody run for pages, read from its tables.

They never contain what the model guesses of an open question: raters would be swayed by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import redis

from roomgrad.codec import head, parse_body, unpack
from roomgrad.inspect.series import Point, Series, curve, downsample, moving_mean
from roomgrad.names import ERRORS, Names
from roomgrad.rooms import MessageType
from roomgrad_melody.contract import CUSTOM, USER
from roomgrad_melody.genome import ROOT, from_text, notes, pitches, texts, unpacked
from roomgrad_melody.sound import BPM

BEST_SHOWN = 5
LADDER_SHOWN = 10
REJECTED_SHOWN = 20
ERROR_WIDTH = 20  # ratings over which the held-out error is averaged
RUNS_SHOWN = 8
RANGE = 0.8  # share of the last answers that were within the range around their guess
RANGE_LEAST = 5  # answers before there is a range

Record = dict[str, Any]


@dataclass(frozen=True)
class Sound:
    """How melodies sound on a page."""

    bpm: float = float(BPM)
    """Quarter notes per minute; a bar has 4."""

    root: int = ROOT
    """MIDI number of the lowest note."""

    scale: str = "major"


def notes_of(melody: str, sound: Sound) -> list[list[int]]:
    """Return `[start, length, MIDI number]` of each note of a melody of 128 characters 0 and 1.

    Start and length are in slots of a quarter note.
    """
    found = notes(from_text(melody), sound.root, sound.scale)
    return [[note.start, note.length, note.midi] for note in found]


class SnapshotReader:
    """Reads the tables of a run. Of the long ones, only new records are read."""

    def __init__(self, names: Names, sound: Sound) -> None:
        self._names = names
        self._sound = sound
        self._losses = Series(names.table("losses"))
        self._curve = Series(names.table("curve"))
        self._generations = Series(names.table("generations"))
        self._ranked: list[str] = []

    def read(self, client: redis.Redis) -> Record:
        """Return all that the page shows now."""
        for series in (self._losses, self._curve, self._generations):
            series.update(client)
        learning, heard, population, best, questions, rejected = self._read_tables(client)
        now = None if learning is None else unpack(learning)
        if now is not None:
            now = {name: now.get(name) for name in LEARNING_SHOWN}
        return {
            "server": {"connected": True, "reason": ""},
            "run": self._names.run,
            "sound": {
                "bpm": self._sound.bpm,
                "pitches": list(pitches(self._sound.root, self._sound.scale)),
            },
            "learning": now,
            "gathering": self._gathering(client) if not (now and now["asked"]) else None,
            "questions": _counted(questions),
            "population": _population(population),
            "best": self._best(client, best),
            "ladder": self._ladder(client, heard),
            "losses": self._losses_over_steps(),
            "errors": self._errors_over_labels(),
            "generations": self._over_generations(),
            "refused": self._rejected(rejected),
        }

    def _read_tables(self, client: redis.Redis) -> tuple[Any, ...]:
        names = self._names
        pipe = client.pipeline(transaction=False)
        pipe.hget(names.table("learning"), "now")
        pipe.hget(names.table("learning"), "heard")
        pipe.hget(names.table("population"), "now")
        pipe.hget(names.table("population"), "best")
        pipe.hvals(names.table("questions"))
        pipe.xrevrange(names.stream(ERRORS, MessageType.LOG_ERROR.value), count=REJECTED_SHOWN)
        return tuple(pipe.execute())

    def _gathering(self, client: redis.Redis) -> Record:
        """Return how many candidates there are, and how many the first question needs."""
        names = self._names
        pool: Any = client.hget(names.table("learning"), "pool")
        settings: Any = client.hget(names.run_info(), "settings:learner")
        have = len(unpack(pool)["genomes"]) if pool else 0
        return {
            "have": have,
            "wanted": orjson.loads(settings).get("nr_of_unlabeled_data") if settings else None,
        }

    def _best(self, client: redis.Redis, value: bytes | None) -> list[Record]:
        """Return the best melodies, each with the rating that was given to it, if it was heard."""
        if value is None:
            return []
        record = unpack(value)
        melodies = texts(unpacked(record["genomes"])[:BEST_SHOWN])
        labels: Any = client.hmget(self._names.table("labels"), melodies)
        return [
            {
                "melody": melody,
                "notes": notes_of(melody, self._sound),
                "fitness": round(float(fitness), 3),
                "heard": None if label is None else unpack(label)["rating"],
            }
            for melody, fitness, label in zip(melodies, record["fitness"], labels, strict=False)
        ]

    def _ladder(self, client: redis.Redis, value: bytes | None) -> list[Record]:
        """Return the best melodies of those that were heard, each with its votes and wins.

        While a new version of the network scores them, the order is that of the former version.
        """
        record = None if value is None else unpack(value)
        if record is None or record["scored"].all():
            self._ranked = [] if record is None else _ranked(record)
        if not self._ranked:
            return []
        compared: Any = client.hmget(self._names.table("compared"), self._ranked)
        counted = [unpack(each) if each else {"votes": 0, "wins": 0.0} for each in compared]
        return [
            {"melody": melody, "notes": notes_of(melody, self._sound), **counts}
            for melody, counts in zip(self._ranked, counted, strict=True)
        ]

    def _losses_over_steps(self) -> Record:
        records = list(self._losses.records.values())
        points: list[Point] = [[each["step"], each["loss"]] for each in records]
        starts = {each["chain"]: each["step"] for each in reversed(records)}
        return {**curve(points), "runs": sorted(starts.values())[-RUNS_SHOWN:]}

    def _errors_over_labels(self) -> Record:
        records = list(self._curve.records.values())
        errors = [abs(each["rating"] - each["guess"]) for each in records]
        means = moving_mean(errors, ERROR_WIDTH)
        points = [[each["labels"], mean] for each, mean in zip(records, means, strict=True)]
        late = errors[-ERROR_WIDTH:]
        range_ = float(np.quantile(late, RANGE)) if len(late) >= RANGE_LEAST else None
        curve = {"points": downsample(points), "n": len(errors), "width": ERROR_WIDTH}
        return {**curve, "range": range_}

    def _over_generations(self) -> list[Point]:
        records = self._generations.records.values()
        return downsample([[each["generation"], each["mean"], each["best"]] for each in records])

    def _rejected(self, entries: Any) -> list[Record]:
        """Return the answers that the learner rejected, oldest first."""
        stream = self._names.stream(USER.name, CUSTOM.value)
        found = []
        for entry, fields in reversed(entries):
            body = orjson.loads(fields.get(b"m", b"{}"))
            if body.get("stream", stream) == stream:
                reason = body.get("reason") or body.get("TEXT") or "it does not say why"
                root = body.get("ROOT_ID", "")
                found.append({"entry": entry.decode(), "root": root, "reason": reason})
        return found


LEARNING_SHOWN = (
    "labels",
    "pairs",
    "histogram",
    "asked",
    "answered",
    "chain",
    "runs",
    "version",
    "agreement",
    "pair_agreement",
)
POPULATION_SHOWN = ("generation", "running", "waiting", "version", "mean", "best", "distinct")


def _ranked(heard: Record) -> list[str]:
    """Return the melodies with the highest belief, the best first."""
    order = np.argsort(-heard["scores"].mean(axis=1), kind="stable")[:LADDER_SHOWN]
    return texts(unpacked(heard["genomes"])[order])


def _population(value: bytes | None) -> Record | None:
    if value is None:
        return None
    record = parse_body(head(value))  # the arrays after it are not shown
    return {name: record.get(name) for name in POPULATION_SHOWN}


def _counted(values: list[bytes]) -> Record:
    """Return how many questions are open, and which raters hold one."""
    records = [parse_body(head(value)) for value in values]
    raters = sorted({each["rater"] for each in records if each["rater"]})
    return {"open": sum(bool(each["open"]) for each in records), "raters": raters}
