"""How long the melody maker takes from an acknowledged label to questions of a retrained network.

    python -m tests.benchmarks.melody_latency [--labels 340] [--answers 30] [--json]

evolution, evalnet and learner run as processes of their own on an embedded server. A client
answers one question at a time, durably, while breeding goes on. The clock runs from the
acknowledgement until the training run on all labels is over, every candidate is rated anew and the
questions are chosen anew. After each answer, this process trains a network of its own on the same
batches, rates the same candidates and chooses. Also: how much a training run adds to the
append-only file, which is not rewritten meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import redis
import torch
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
from roomgrad_melody.evalnet.model import EvalNetwork, optimizer
from roomgrad_melody.genome import from_text, random_genomes, unpacked
from roomgrad_melody.learner.strategy import DEFAULT, choose
from roomgrad_melody.learner.training import Answers, batch, batches, loss
from roomgrad_melody.rater.rater import rating
from tests.waiting import until

COMPONENTS = ("evolution", "evalnet", "learner")
LIMIT_S = 1.0
QUESTIONS = 5  # that are open at once


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


class OneProcess:
    """The same training run, as a loop without rooms, on one thread."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self._network = EvalNetwork()
        self._optimizer = optimizer(self._network.parameters())

    def answer_one(self, client: Client) -> float:
        """Seconds that the newest training run and the choice of questions take here."""
        found = client.redis.hmget("{melody}:learning", "now", "training", "pool")
        now, training, pool = (unpack(each) for each in found)
        answers = Answers.of_ratings(
            unpacked(training["genomes"]), training["ratings"], training["weights"]
        )
        candidates = unpacked(pool["genomes"])
        began = time.perf_counter()
        for number in range(batches(len(answers))):
            rows, *known = batch(answers, 0, now["runs"], number)
            scores = self._network(torch.from_numpy(rows))
            _, gradient = loss(scores.detach().numpy(), *known, now["histogram"])
            self._optimizer.zero_grad()
            scores.backward(torch.from_numpy(gradient))
            self._optimizer.step()
        with torch.no_grad():
            rated = self._network(torch.from_numpy(candidates.astype("<f4"))).numpy()
        choose(DEFAULT, rated, len(answers), QUESTIONS, np.random.default_rng(0))
        return time.perf_counter() - began


def p95(seconds: Sequence[float]) -> float:
    """The 95th percentile."""
    return sorted(seconds)[min(len(seconds) - 1, round(0.95 * len(seconds)))]


def measured(labels: int, answers: int) -> dict[str, Any]:
    """The figures."""
    alone, turns = OneProcess(), []
    with (
        throwaway_server() as server,
        components(server.local_url),
        Client(MELODY, redis_url=server.url) as client,
    ):
        client.redis.config_set("auto-aof-rewrite-percentage", 0)
        begin(client, labels)
        before, steps = appended(client.redis), state(client.redis)["steps"]
        for _ in range(answers):
            turns.append((answer_one(client), alone.answer_one(client)))
        grown = appended(client.redis) - before
        trained = state(client.redis)["steps"] - steps
    seconds, once = zip(*turns, strict=True)
    return {
        "labels": labels,
        "answers": answers,
        "batches": trained / answers,
        "median_s": statistics.median(seconds),
        "p95_s": p95(seconds),
        "longest_s": max(seconds),
        "one_process_s": statistics.median(once),
        "one_process_p95_s": p95(once),
        "of_one_process": p95(seconds) / statistics.median(once),
        "limit_s": LIMIT_S,
        "aof_mb_per_batch": grown / trained / 1e6,
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
        "one process s",
        "p95 of it",
        "AOF MB a run",
    ):
        table.add_column(name, justify="right")
    names = ("batches", "median_s", "p95_s", "longest_s", "one_process_s")
    names += ("of_one_process", "aof_mb_per_run")
    figures = [f"{result[name]:.2f}" for name in names]
    table.add_row(str(result["labels"]), str(result["answers"]), *figures)
    Console(stderr=arguments.json).print(table)
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
