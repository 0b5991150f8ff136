"""A run for the labelling page: questions in its tables, a small learner, and the page itself."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from roomgrad import Component, Context, Message, RuntimeSettings, codec, on
from roomgrad.codec import pack, unpack
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.testing import running
from roomgrad_melody.contract import CUSTOM, HEADS, LABELS_LOG, LEARNER, MELODY, USER
from roomgrad_melody.genome import canonical, from_texts, packed, random_genomes, texts
from roomgrad_melody.labelling.server import LabellingServer
from roomgrad_melody.labelling.settings import LabellingSettings
from roomgrad_melody.learner.pool import Pool
from tests.waiting import until

QUICK = {"heartbeat_interval_s": 0.1, "heartbeat_lives_s": 0.5, "block_s": 0.1}
MELODIES = texts(canonical(random_genomes(7, 0, 400)))


@on(USER, CUSTOM)
def learn(message: Message, context: Context) -> None:
    """Store an answer as the learner does: label and log; the question is deleted."""
    if "FITNESS" not in message.fields:
        return
    [melody] = texts(canonical(message.fields["GENOMES"]))
    rating = float(message.fields["FITNESS"][0])
    labels, questions = context.table("labels"), context.table("questions")
    asked = questions.get(melody) or labels.get(melody) or {}
    about = {
        "rater": message.fields["RATER"],
        "plays": int(message.fields["PLAYS"][0]),
        "root": message.root_id,
        "answer": message.id,
        "at": time.time(),
        **{name: asked.get(name) for name in ("guess", "probs", "version", "strategy", "again")},
    }
    given = None if np.isnan(rating) else int(rating)
    context.append(LABELS_LOG, melody=melody, genome=melody, rating=given, **about)
    if given is None:
        labels.delete(melody)
        questions.put(melody, **question(melody, rank=-1.0, root=message.root_id))
    else:
        labels.put(melody, rating=given, **about)
        questions.delete(melody)


learner = Component(LEARNER, MELODY, RuntimeSettings, [learn])


def question(_melody: str, rank: float = 0.0, **changed: Any) -> dict[str, Any]:
    """Return a question as the learner stores it."""
    record = {
        "root": secrets.token_hex(16),
        "asked": time.time(),
        "rank": rank,
        "version": "40-abc",
        "strategy": "design",
        "guess": 2.5,
        "probs": [0.1, 0.1, 0.3, 0.3, 0.1, 0.1],
        "again": False,
        "by": "",
        "open": True,
        "rater": "",
        "until": 0.0,
    }
    return {**record, **changed}


@dataclass
class LabellingRun:
    """One run of the melody system on a server, with its pages."""

    url: str
    stack: contextlib.ExitStack
    names: Names = field(default_factory=lambda: Names(f"test-{secrets.token_hex(6)}"))

    def __post_init__(self) -> None:
        self.client = self.stack.enter_context(Client(MELODY, self.names.run, self.url))
        self.redis = self.client.redis

    def put(self, table: str, name: str, **record: Any) -> None:
        """Write a record, as the owner of the table does."""
        self.redis.hset(self.names.table(table), name, pack(record))

    def get(self, table: str, name: str) -> dict[str, Any] | None:
        value: Any = self.redis.hget(self.names.table(table), name)
        return None if value is None else unpack(value)

    def table(self, name: str) -> dict[str, dict[str, Any]]:
        found: Any = self.redis.hgetall(self.names.table(name))
        return {each.decode(): unpack(value) for each, value in found.items()}

    def ask(self, *melodies: str, **changed: Any) -> list[str]:
        """Store questions; the first is to be answered first."""
        for rank, melody in enumerate(melodies):
            self.put("questions", melody, **question(melody, rank=float(rank), **changed))
        return list(melodies)

    def sent(self) -> list[Message]:
        """Return the answers that were sent, in order."""
        stream = MELODY.stream(USER, CUSTOM)
        entries: Any = self.redis.xrange(self.names.stream(*stream.key))
        return [
            codec.decode(entry.decode(), [part for pair in fields.items() for part in pair], stream)
            for entry, fields in entries
        ]

    def learn(self) -> None:
        """Start the small learner."""
        settings = RuntimeSettings(run=self.names.run, **QUICK)
        replica = self.stack.enter_context(running(learner, settings, self.url))
        until(lambda: self.redis.exists(self.names.alive(replica.consumer)))

    def page(self, **changed: Any) -> LabellingServer:
        """Serve a page until the end of the test."""
        values = {"run": self.names.run, "port": free_port(), **QUICK, **changed}
        return self.stack.enter_context(serving(LabellingSettings(**values), self.url))


@contextlib.contextmanager
def serving(settings: LabellingSettings, url: str) -> Iterator[LabellingServer]:
    """Serve a page in a thread."""
    site = LabellingServer(settings, url)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(site.serve()), daemon=True)
    thread.start()
    try:
        until(lambda: site.is_serving or not thread.is_alive())
        yield site
    finally:
        site.stop()
        thread.join(60)
        assert codes == [0], "the page did not end well"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def history(labelling: LabellingRun, labels: int = 120, batches: int = 400) -> None:
    """Store what a run that has learned for a while has stored, for the charts."""
    random = np.random.default_rng(3)
    for step in range(batches):
        loss = 0.75 + 1.1 * np.exp(-step / 140) + random.normal(0, 0.04)
        labelling.put("losses", str(step), step=step, loss=float(loss), chain=1 + step // 60)
    for number in range(labels):
        error = 0.7 + 1.1 * np.exp(-number / 45) + random.normal(0, 0.3)
        rating = int(random.integers(0, 6))
        guess = float(np.clip(rating + error * random.choice([-1, 1]), 0, 5))
        labelling.put(
            "curve", str(number), labels=number, rating=rating, guess=guess, rater="Ada", at=0
        )
    for generation in range(0, 60):
        mean = 2.1 + 1.6 * (1 - np.exp(-generation / 25)) + random.normal(0, 0.03)
        record = {"generation": generation, "mean": float(mean), "best": float(mean) + 0.7}
        labelling.put("generations", str(generation), distinct=180, **record)
    histogram = [9, 21, 34, 30, 18, 8]
    labelling.put(
        "learning",
        "now",
        labels=sum(histogram),
        histogram=histogram,
        asked=126,
        answered=sum(histogram),
        chain={"number": 7, "batch": 23, "batches": 60, "labels": sum(histogram)},
        runs=7,
        version="400-5a1b",
        agreement={"n": 8, "exact": 6, "absolute": 2.0},
    )
    now = {"generation": 59, "running": True, "version": "400-5a1b", "distinct": 183}
    labelling.put("population", "now", **now, mean=3.62, best=4.41)
    best = packed(canonical(random_genomes(9, 1, 10)))
    labelling.put(
        "population",
        "best",
        genomes=best,
        fitness=np.linspace(4.41, 4.0, 10),
        generation=59,
        version="400-5a1b",
    )


def heard(labelling: LabellingRun, *melodies: str) -> None:
    """Store what the learner knows of melodies that were heard, the best first."""
    scores = np.linspace(3.0, 1.0, len(melodies), dtype=np.float32)[:, None] + np.zeros((1, HEADS))
    order = np.argsort(melodies)  # the table has its own order
    genomes = from_texts([melodies[each] for each in order])
    pool = Pool(genomes, scores[order].astype(np.float32), np.ones(len(melodies), bool))
    labelling.put("learning", "heard", **pool.record())
