"""The melody maker as processes of its own, with small numbers, on a server of the test's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from roomgrad import weights
from roomgrad.codec import unpack
from roomgrad.inspect import models
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.local.launcher import Launcher
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.rooms import System
from roomgrad.tensor_files import is_training_state
from roomgrad.testing import throwaway_server
from roomgrad_melody import formats
from roomgrad_melody.contract import (
    COMMAND,
    CONTROL,
    CUSTOM,
    EVALNET,
    EVOLUTION,
    LABELLING,
    LABELS_LOG,
    LEARNER,
    MELODY,
    USER,
)
from roomgrad_melody.genome import canonical, from_text, random_genomes
from roomgrad_melody.rater.rater import rating
from tests.killing import kill_server
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]
RATER = "rater"
DISK = "appendonlydir"  # the name that servers give it

# Death is noticed sooner than by default, so that tests are.
QUICK = ["--heartbeat-interval-s=0.2", "--heartbeat-lives-s=0.8", "--lease-s=0.6", "--block-s=0.5"]
SMALL = {
    LEARNER: {"nr-of-unlabeled-data": 40, "ask": "ratings"},
    EVOLUTION: {"population": 20, "generations-per-label": 0},
}
AWAY = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError)

Record = dict[str, Any]
Flags = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """What a run left behind. Model versions are not in it: each run draws its own."""

    weights: str
    optimizer: str
    steps: int
    population: str
    labels: str


@dataclass
class Run:
    """A run of the melody maker, and the processes that serve it."""

    server: EmbeddedServer
    client: redis.Redis
    launcher: Launcher
    flags: Flags
    names: Names = field(default_factory=lambda: Names(MELODY.name))
    contract: System = MELODY
    killed: list[int] = field(default_factory=list)

    # what is asked of it

    def command(self, word: str, **fields: Any) -> None:
        """Says START, STOP or NEXT in the room `control`."""
        with self.reach() as client:
            client.send(Message.open(CONTROL, type=COMMAND, CMD=word, **fields))

    def reach(self) -> Client:
        """A client of the run, as a person's program has one."""
        return Client(MELODY, self.names.run, self.server.url)

    def kill(self, component: str) -> None:
        """kill -9 of the first replica of a component; its launcher starts it again."""
        pid = until(lambda: self._living(component))
        self.killed.append(pid)
        os.kill(pid, signal.SIGKILL)

    def _living(self, component: str) -> int:
        """The process of the first replica, or 0 while it is dead."""
        pid = self.launcher.pids().get(f"{component}-0", 0)
        return 0 if pid in self.killed else pid

    def copy_disk(self, folder: Path) -> None:
        """What is on the server's disk at this moment."""
        shutil.copytree(self.server.directory / DISK, folder)

    def kill_server(self, disk: Path | None = None) -> None:
        """kill -9, and a start on what is on its disk, or on a copy of what was there before.

        What was acknowledged outlives the death of its process, though not that of its machine.
        """
        kill_server(self.server)
        if disk is not None:
            shutil.rmtree(self.server.directory / DISK)
            shutil.copytree(disk, self.server.directory / DISK)
        self.server = EmbeddedServer.start(
            self.server.directory, port=self.server.port, die_with_parent=True
        )

    # what stands in its tables

    def record(self, table: str, name: str) -> Record:
        """A record, or an empty one where there is none."""
        value = self.client.hget(self.names.table(table), name)
        return unpack(value) if value else {}

    def records(self, table: str) -> dict[str, Record]:
        found = self.client.hgetall(self.names.table(table)).items()
        return {name.decode(): unpack(value) for name, value in found}

    def revisions(self, log: str = LABELS_LOG) -> list[Record]:
        """Every revision of a label, or of a vote, in order."""
        entries = self.client.xrange(self.names.log(log))
        return [unpack(fields[b"m"]) for _, fields in entries]

    def ratings(self) -> dict[str, int]:
        """The labels as they stand."""
        return {melody: label["rating"] for melody, label in self.records("labels").items()}

    def counter(self, component: str, name: str) -> int:
        return int(self.client.hget(self.names.counters(component), name) or 0)

    @property
    def generation(self) -> int:
        return int(self.record("population", "now").get("generation", -1))

    @property
    def applied(self) -> int:
        """How many optimizer steps stand; -1 while the server is away."""
        self.launcher.check()
        try:
            return self.counter(EVALNET, "applied")
        except AWAY:
            return -1

    @property
    def messages(self) -> int:
        """How many messages were ever sent; -1 while the server is away."""
        self.launcher.check()
        try:
            keys = [self.names.stream(*stream.key) for stream in MELODY.streams]
            return sum(self.client.xinfo_stream(key)["entries-added"] for key in keys)
        except (*AWAY, redis.ResponseError):  # before the streams are made
            return -1

    def wait_messages(self, count: int) -> None:
        """Waits until so many messages were sent."""
        until(lambda: self.messages >= count)

    @property
    def delayed(self) -> int:
        """How many messages evolution has staged for later."""
        return int(self.client.zcard(self.names.later(EVOLUTION)))

    def together(self, *places: tuple[str, str]) -> list[Record]:
        """Records of several tables, all of one moment."""
        with self.client.pipeline(transaction=True) as pipe:
            for table, name in places:
                pipe.hget(self.names.table(table), name)
            return [unpack(value) if value else {} for value in pipe.execute()]

    def learning_and_questions(self) -> tuple[Record, dict[str, Record]]:
        """What the learner knows, and the open questions, all of one moment."""
        with self.client.pipeline(transaction=True) as pipe:
            pipe.hget(self.names.table("learning"), "now")
            pipe.hgetall(self.names.table("questions"))
            now, found = pipe.execute()
        open_ = {name.decode(): unpack(value) for name, value in found.items()}
        return unpack(now), {name: q for name, q in open_.items() if q["open"]}

    def open_questions(self) -> dict[str, Record]:
        return {name: q for name, q in self.records("questions").items() if q["open"]}

    def free_questions(self) -> dict[str, Record]:
        """Open questions that nobody has in hand."""
        return {name: q for name, q in self.open_questions().items() if not q["rater"]}

    @property
    def is_idle(self) -> bool:
        return is_idle(self.record("learning", "now"))

    def has_ended(self) -> bool:
        """In lock-step: the last generation is rated, and the learner has nothing to say."""
        self.launcher.check()
        try:
            now = self.record("population", "now")
        except AWAY:
            return False
        last = self.flags[EVOLUTION]["generations"]
        return bool(now) and now["generation"] == last == now["allowed"] and len(now["fitness"]) > 0

    def result(self) -> Result:
        model = models.stored(self.client, self.names, EVALNET)
        now = self.record("population", "now")
        population = str(now["generation"]).encode() + now["genomes"].tobytes()
        return Result(
            *hashes(model.content),
            model.snapshot.step + model.behind,
            sha256(population + now["fitness"].tobytes()),
            sha256(repr(sorted(self.ratings().items())).encode()),
        )

    def leftovers(self) -> dict[str, int]:
        """What should be empty when nothing is open: memory, kept weights, pending messages."""
        left = {}
        for component in MELODY.components:
            left[f"memory of {component}"] = self.client.hlen(self.names.memory(component))
            left[f"weights of {component}"] = self.client.hlen(self.names.kept(component))
        for stream in MELODY.streams:
            key = self.names.stream(*stream.key)
            for group in self.client.xinfo_groups(key):
                name = f"{group['name'].decode()} in {key}"
                left[f"pending of {name}"] = group["pending"]
                left[f"not read by {name}"] = group["lag"] or 0
        return {name: count for name, count in left.items() if count}


def is_idle(learning: Record) -> bool:
    """Whether the learner neither trains, nor waits for scores, nor is about to train."""
    return not (learning["chain"] or learning["scoring"] or learning["dirty"])


def hashes(state: bytes | bytearray) -> tuple[str, str]:
    """Return the SHA-256 of a model's weights, and that of its optimizer's state."""
    tensors = weights.read(state)
    of_training = [each for each in tensors if is_training_state(each.name)]
    return (
        weights.sha256([each for each in tensors if each not in of_training]),
        weights.sha256(of_training),
    )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wait_end(run: Run, timeout_s: float = 60) -> None:
    """Waits until a run in lock-step has come to its end."""
    until(run.has_ended, timeout_s)


def assert_exact(run: Run) -> None:
    """A run in lock-step has ended: every batch learned from once, nothing lost or left over."""
    wait_end(run)
    until(lambda: run.leftovers() == {})
    assert_batches_exact(run)


def assert_batches_exact(run: Run) -> None:
    """Every batch that was sent came home once, and was learned from once."""
    steps = run.counter(LEARNER, "sent")
    assert steps == run.counter(LEARNER, "finished")
    assert steps == run.counter(EVALNET, "applied") == run.counter(EVALNET, "distinct")
    assert steps == len(run.records("losses"))
    assert steps == run.result().steps
    assert run.counter(LEARNER, "dead") == 0
    assert_nothing_dead(run)


def assert_nothing_dead(run: Run) -> None:
    letters = run.client.xrange(run.names.dead())
    assert [fields[b"history"] for _, fields in letters] == []


def assert_labels_as_answered(run: Run) -> None:
    """The newest revision of each melody stands, and the learner's sums are theirs."""
    newest = {each["melody"]: each["rating"] for each in run.revisions()}
    expected = {melody: rating for melody, rating in newest.items() if rating is not None}
    assert run.ratings() == expected
    learning = run.record("learning", "now")
    found = Counter(expected.values())
    assert learning["labels"] == len(expected)
    assert learning["histogram"] == [found[value] for value in range(6)]


def write_labels(path: Path, count: int, seed: int = 7) -> dict[str, int]:
    """A file of random melodies as the simulated rater rates them; the ratings in it."""
    genomes = random_genomes(seed, 0, count)
    rows = [formats.Row(g, int(r)) for g, r in zip(genomes, rating(genomes), strict=True)]
    path.write_text(formats.write(rows, "csv"))
    names = ["".join(map(str, genome)) for genome in canonical(genomes)]
    return {name: row.rating for name, row in zip(names, rows, strict=True)}


def simulated(melodies: list[str]) -> list[int]:
    """What the simulated rater says of melodies."""
    genomes = np.array([from_text(melody) for melody in melodies]).reshape(-1, 128)
    return [int(value) for value in rating(genomes)]


def lockstep(seed: int, generations: int, **learner: Any) -> Flags:
    """The flags of a run that repeats bit for bit; no melody is asked twice unless said."""
    return {
        EVALNET: {"seed": seed},
        EVOLUTION: {"seed": seed, "lockstep": True, "generations": generations},
        LEARNER: {"seed": seed, "lockstep": True, "again": 0.0, **learner},
    }


Play = Callable[..., Run]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """Starts a run: `play({"learner": {"lockstep": True}}, replicas={"evalnet": 2})`.

    flags: of each component, by name, on top of small ones.
    replicas: what is started, and how often; evolution, evalnet and learner once each unless said.
    """
    with ExitStack() as stack:

        def start(flags: Flags | None = None, replicas: dict[str, int] | None = None) -> Run:
            counts = {RATER: 0, EVALNET: 1, EVOLUTION: 1, LEARNER: 1, LABELLING: 0}
            counts |= replicas or {}
            given = {name: SMALL.get(name, {}) | (flags or {}).get(name, {}) for name in counts}
            server = stack.enter_context(throwaway_server())
            client = connect(server.url)
            stack.callback(client.close)
            directory = tmp_path / f"run-{server.port}"
            launcher = Launcher(ROOT, directory, {"REDIS_URL": server.url})
            run = Run(server, client, launcher, given)
            stack.callback(lambda: run.server.kill())
            stack.callback(launcher.stop, timeout_s=0.0)
            for component, count in counts.items():
                words = [f"--{name}={value}" for name, value in given[component].items()]
                if component == RATER and count:
                    # Named, so that after a death it goes on where it stopped.
                    launcher.start(RATER, [*words, "--replica=rater", *QUICK])
                    wait_hears(run)
                else:
                    launcher.start(component, [*words, *QUICK], count)
            return run

        yield start


def wait_hears(run: Run) -> None:
    """Waits until the rater listens: what was asked before, it does not hear."""
    position, key = run.names.position(RATER, RATER), run.names.stream(USER.name, CUSTOM)

    def hears() -> bool:
        run.launcher.check()
        return run.client.hexists(position, key)

    until(hears)
