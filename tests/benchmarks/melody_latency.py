"""How long the melody maker takes from an acknowledged label to questions of a retrained network.

    python -m tests.benchmarks.melody_latency [--labels 340] [--answers 30] [--json]

evolution, evalnet and learner run as processes of their own on an embedded server. A client
answers one question at a time, durably, while breeding goes on. The clock runs from the
acknowledgement until the training run on all labels is over, every candidate is rated anew and the
questions are chosen anew. Also: how much a training run adds to the append-only file, which is not
rewritten meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import redis
from rich.console import Console
from rich.table import Table

from roomgrad.codec import unpack
from roomgrad.errors import ServerError
from roomgrad.messages import Message, new_id
from roomgrad.redis.client import Client
from roomgrad.systems import module_of
from roomgrad.testing import throwaway_server
from roomgrad_melody import questions
from roomgrad_melody.contract import CUSTOM, MELODY, USER
from roomgrad_melody.genome import from_text, random_genomes
from roomgrad_melody.rater.rater import rating
from tests.waiting import until

COMPONENTS = ("evolution", "evalnet", "learner")
LIMIT_S = 1.0


@contextmanager
def components(url: str) -> Iterator[None]:
    """One process of each component."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module_of(name), "--redis-url", url, "--log-level", "warning"]
        )
        for name in COMPONENTS
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def state(client: redis.Redis) -> dict[str, Any]:
    """What the learner knows."""
    value = client.hget("{melody}:learning", "now")
    return unpack(value) if isinstance(value, bytes) else {}


def is_idle(client: redis.Redis, runs: int) -> bool:
    """Whether more than `runs` training runs are over and the questions are those of the last."""
    now = state(client)
    if not now or now["runs"] <= runs:
        return False
    return not (now["chain"] or now["dirty"] or now["scoring"] or now["rerank"])


def begin(client: Client, labels: int) -> None:
    """Hands over so many labels, and waits until they are learned and questions are open."""
    genomes = random_genomes(2**41, 0, labels)
    fitness = rating(genomes).astype(np.float64)
    message = Message.open(USER, type=CUSTOM, GENOMES=genomes, FITNESS=fitness)
    message.fields = {**message.fields, "CONFLICT": "replace", "RATER": "bench"}
    until(lambda: client.redis.exists("{melody}:run"), 30)
    client.send(message)
    until(lambda: is_idle(client.redis, 0) and state(client.redis)["asked"] >= 5, 60)


def answer_one(client: Client) -> float:
    """Answers the first question; seconds from the acknowledgement to the new questions."""
    [question, *_] = questions.lease(client, "bench", 1, 60.0)
    runs = state(client.redis)["runs"]
    given = int(rating(from_text(question.melody)[None])[0])
    questions.answer(client, "bench", question.melody, given, question.root, new_id(), 1)
    acknowledged = time.perf_counter()
    until(lambda: is_idle(client.redis, runs), 30)
    return time.perf_counter() - acknowledged


def measured(labels: int, answers: int) -> dict[str, Any]:
    """The figures."""
    with (
        throwaway_server() as server,
        components(server.local_url),
        Client(MELODY, redis_url=server.url) as client,
    ):
        client.redis.config_set("auto-aof-rewrite-percentage", 0)
        begin(client, labels)
        before, steps = appended(client.redis), state(client.redis)["steps"]
        seconds = sorted(answer_one(client) for _ in range(answers))
        grown = appended(client.redis) - before
        batches = state(client.redis)["steps"] - steps
    return {
        "labels": labels,
        "answers": answers,
        "batches": batches / answers,
        "median_s": statistics.median(seconds),
        "p95_s": seconds[min(len(seconds) - 1, round(0.95 * len(seconds)))],
        "longest_s": seconds[-1],
        "limit_s": LIMIT_S,
        "aof_mb_per_batch": grown / batches / 1e6,
        "aof_mb_per_run": grown / answers / 1e6,
    }


def appended(client: redis.Redis) -> int:
    """Bytes of the append-only file."""
    info: Any = client.info("persistence")
    return int(info["aof_current_size"])


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=340)
    parser.add_argument("--answers", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        result = measured(arguments.labels, arguments.answers)
    except ServerError as error:
        sys.exit(str(error))
    table = Table(title="From a label to new questions", title_justify="left", box=None)
    for name in (
        "labels",
        "answers",
        "batches a run",
        "median s",
        "p95 s",
        "longest s",
        "AOF MB a run",
    ):
        table.add_column(name, justify="right")
    names = ("batches", "median_s", "p95_s", "longest_s", "aof_mb_per_run")
    figures = [f"{result[name]:.2f}" for name in names]
    table.add_row(str(result["labels"]), str(result["answers"]), *figures)
    Console(stderr=arguments.json).print(table)
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
