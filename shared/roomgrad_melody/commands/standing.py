"""The state of a run in Redis: its progress, and what was lost or doubled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import redis
from numpy.typing import NDArray

from roomgrad.codec import decode, unpack
from roomgrad.display import format_number, number
from roomgrad.errors import MessageError
from roomgrad.names import Names
from roomgrad.systems import Progress
from roomgrad_melody.contract import (
    CUSTOM,
    EVALNET,
    LABELS_LOG,
    LEARNER,
    MELODY,
    PAIRS_LOG,
    USER,
    is_question,
)
from roomgrad_melody.genome import Genomes, from_texts, pair_key, texts, unpacked, values

LATELY = 20  # answers that are compared with guesses, or with each other
CHUNK = 1000  # entries of a stream that are read at once


@dataclass(frozen=True)
class Standing:
    """The state of a run at one moment."""

    generation: int = -1
    """-1 before the first one."""

    rated: bool = False
    allowed: int = -1
    """In lock-step: the last generation that has no work left."""

    mean: float = 0.0
    """Expected rating of the generation that was rated last, by the network."""

    best: float = 0.0
    labels: int = 0
    pairs: int = 0
    asked: int = 0
    answered: int = 0
    runs: int = 0
    """Training runs that were opened."""

    batch: int = 0
    batches: int = 0
    """Batches of the open training run; 0 if none is open."""

    is_current: bool = False
    """Whether all labels are learned, and the generation is rated by what was learned."""

    sent: int = 0
    finished: int = 0
    dead: int = 0
    """Dead letters of any kind."""

    waiting: int = field(default=0, compare=False)
    """Questions that are open."""

    @property
    def answers(self) -> int:
        """Labels and votes from which the network learns."""
        return self.labels + self.pairs


def read(client: redis.Redis, names: Names) -> Standing:
    """Return the state of the run, read in one transaction."""
    with client.pipeline(transaction=True) as together:
        together.hget(names.table("population"), "now")
        together.hget(names.table("learning"), "now")
        together.hmget(names.counters(LEARNER), "sent", "finished")
        together.hlen(names.table("questions"))
        together.xlen(names.dead())
        population, learning, (sent, finished), waiting, dead = together.execute()
    bred = unpack(population) if population else {}
    learned = unpack(learning) if learning else {}
    chain = learned.get("chain") or {}
    busy = learned.get("dirty") or chain or learned.get("scoring")
    return Standing(
        generation=bred.get("generation", -1),
        rated=len(bred.get("fitness", ())) > 0,
        allowed=bred.get("allowed", -1),
        mean=number(bred.get("mean", 0.0)),
        best=number(bred.get("best", 0.0)),
        labels=learned.get("labels", 0),
        pairs=learned.get("pairs", 0),
        asked=learned.get("asked", 0),
        answered=learned.get("answered", 0),
        runs=learned.get("runs", 0),
        batch=chain.get("batch", 0),
        batches=chain.get("batches", 0),
        is_current=not busy and bred.get("version") == learned.get("version"),
        sent=int(sent or 0),
        finished=int(finished or 0),
        dead=int(dead),
        waiting=int(waiting),
    )


def progress(client: redis.Redis, names: Names) -> Progress | None:
    """Return how far breeding and learning are; None before the first generation."""
    now = read(client, names)
    if now.generation < 0:
        return None
    mean, best = (format_number(each) for each in (now.mean, now.best))
    votes = (f"{now.pairs} votes",) if now.pairs else ()
    details = (f"{now.labels} labels", *votes, f"expected rating {mean}", f"best {best}")
    return Progress(now.generation, None, "generations", details)


def population(client: redis.Redis, names: Names) -> tuple[int, Genomes]:
    """Return number and genomes `(n, 128)` of this generation; -1 and none before the first."""
    found = client.hget(names.table("population"), "now")
    if not isinstance(found, bytes):
        return -1, np.empty((0, 128), np.uint8)
    record = unpack(found)
    return int(record["generation"]), unpacked(record["genomes"])


def best(client: redis.Redis, names: Names) -> tuple[int, Genomes, NDArray[np.float64]]:
    """Return the best of the last rated generation: its number, `(n, 128)`, ratings `(n,)`."""
    found = client.hget(names.table("population"), "best")
    if not isinstance(found, bytes):
        return -1, np.empty((0, 128), np.uint8), np.empty(0)
    record = unpack(found)
    return int(record["generation"]), unpacked(record["genomes"]), record["fitness"]


def weights_sha256(client: redis.Redis, names: Names) -> str:
    """Return the SHA-256 of the network's parameters; empty if there is no network yet."""
    from roomgrad.inspect import models  # needs the package safetensors, of `roomgrad[cli]`

    return models.sha256(client, names, EVALNET)


def means(client: redis.Redis, names: Names) -> dict[int, float]:
    """Return the mean expected rating of each generation, by the network as it was then."""
    found: Any = client.hgetall(names.table("generations"))
    return {int(name): number(unpack(value).get("mean")) for name, value in found.items()}


def guesses(client: redis.Redis, names: Names) -> list[dict[str, Any]]:
    """Return the answers and the network's guesses, in the order of the answers."""
    found: Any = client.hgetall(names.table("curve"))
    return [unpack(found[number]) for number in sorted(found, key=int)]


def guess_error(found: list[dict[str, Any]]) -> float:
    """Return the mean distance between the last answers and the network's guesses."""
    return float(np.mean([abs(each["rating"] - each["guess"]) for each in found[-LATELY:]]))


def question_distance(client: redis.Redis, names: Names) -> float:
    """Return in how many of 32 slots a question differed from its nearest of the 20 before it.

    It is the mean of the last 20 melodies that were rated, each counted once.
    """
    order = list(dict.fromkeys(entry["melody"] for entry in log(client, names)))
    rated = values(from_texts(order[-2 * LATELY :]))
    nearest = [
        (rated[max(0, i - LATELY) : i] != rated[i]).sum(axis=1).min()
        for i in range(max(1, len(rated) - LATELY), len(rated))
    ]
    return float(np.mean(nearest))


def log(client: redis.Redis, names: Names, name: str = LABELS_LOG) -> list[dict[str, Any]]:
    """Return every revision of every label, or of every vote, in the order they were stored."""
    return [unpack(fields[b"m"]) for _, fields in _entries(client, names.log(name))]


def _entries(client: redis.Redis, key: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: list[tuple[bytes, dict[bytes, bytes]]] = []
    start = "-"
    while True:
        page: Any = client.xrange(key, min=start, count=CHUNK)
        found += page
        if len(page) < CHUNK:
            return found
        start = f"({page[-1][0].decode()}"


@dataclass(frozen=True)
class Account:
    """Batches and answers that were lost or doubled.

    A batch is one message `traininput` DATA/FORWARD of the learner. An answer is one melody of a
    message in `user` that has FITNESS, or the pair of one that has PREFER; it is acknowledged when
    the stream holds the message.
    """

    batches_lost: int
    """Batches sent that are neither finished nor dead nor open; 0 unless one was lost."""

    batches_doubled: int
    """Optimizer steps minus the distinct batches that they applied."""

    answers_lost: int
    """Answers in the stream `user` that have no revision in the logs of labels and of votes.

    The stream keeps all unhandled messages, and the newest 1,000 handled ones.
    """

    answers_doubled: int
    """Revisions in these logs minus the distinct answers that they came from."""

    @property
    def lost(self) -> int:
        return self.batches_lost + self.answers_lost

    @property
    def duplicates(self) -> int:
        return self.batches_doubled + self.answers_doubled


def account(client: redis.Redis, names: Names) -> Account:
    """Return what was lost or doubled; exact when no message is in flight."""
    counted: Any = client.hmget(names.counters(LEARNER), "sent", "finished", "dead")
    sent, finished, dead = (int(value or 0) for value in counted)
    steps: Any = client.hmget(names.counters(EVALNET), "applied", "distinct")
    applied, distinct = (int(value or 0) for value in steps)
    memory: Any = client.hvals(names.memory(LEARNER))
    open_ = sum("chain" in unpack(value) for value in memory)
    revisions = [(entry["answer"], entry["melody"]) for entry in log(client, names)]
    votes = log(client, names, PAIRS_LOG)
    revisions += [(vote["answer"], pair_key(vote["first"], vote["second"])) for vote in votes]
    stored = set(revisions)
    return Account(
        batches_lost=sent - finished - dead - open_,
        batches_doubled=applied - distinct,
        answers_lost=len(_answers(client, names) - stored),
        answers_doubled=len(revisions) - len(stored),
    )


def _answers(client: redis.Redis, names: Names) -> set[tuple[str, str]]:
    """Return ID and melody, or pair, of the answers in the stream `user` that were not refused."""
    refused = {fields.get(b"ID", b"").decode() for _, fields in _entries(client, names.dead())}
    stream = MELODY.stream(USER, CUSTOM)
    found = set()
    for entry, fields in _entries(client, names.stream(*stream.key)):
        flat = [part for pair in fields.items() for part in pair]
        try:
            message = decode(entry.decode(), flat, stream)
        except MessageError:
            continue  # it cannot be decoded, so it is a dead letter
        if is_question(message.fields) or message.id in refused:
            continue
        if "PREFER" in message.fields:
            found.add((message.id, pair_key(*texts(message.fields["PAIR"]))))
        else:
            found |= {(message.id, melody) for melody in texts(message.fields["GENOMES"])}
    return found
