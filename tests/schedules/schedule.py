"""One schedule: who goes on next, and who dies where, is drawn from a seed."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from roomgrad import RuntimeSettings, scripts
from roomgrad.commit import SCRIPT
from roomgrad.redis.connection import Connection
from roomgrad.testing import throwaway_server
from tests.one_cpu import one_cpu
from tests.schedules.contracts import CONTRACTS, Contract, account, unfinished
from tests.schedules.patches import stepped
from tests.schedules.stepping import NAMES, RUN, World

SETTINGS = RuntimeSettings(
    run=RUN,
    heartbeat_lives_s=600.0,  # the scheduler deletes heartbeats
    lease_s=0.0001,  # 0 ms: each message may be taken over at once
    max_deliveries=1000,
    trace_times=False,
)
SCRIPTS = ("ensure_group", "permissions")  # that a replica calls at its start
MOST_ROOTS = 3
STEPS = (30, 110)  # of the server, before the last replicas are started
QUICK_START = 0.8  # of all starts
CALM_ROUNDS = 60  # of the last replicas, until all messages are done

EVENTS = {
    "step": 80.0,
    "client": 8.0,
    "beat": 6.0,
    "time": 2.0,
    "die": 2.0,
    "cut": 1.5,
    "group": 0.5,
}


@dataclass
class Played:
    """What a schedule came to."""

    seed: int
    contract: str
    trace: list[str]
    wrong: list[str]
    counts: Counter[str]

    def __str__(self) -> str:
        lines = [*self.trace, *(f"WRONG: {each}" for each in self.wrong)]
        repeat = f"{self.contract}: python -m tests.schedules --seed {self.seed}"
        return "\n".join([*lines, repeat])


@contextlib.contextmanager
def a_server() -> Iterator[Connection]:
    """Yield a connection to a server that is used for many schedules."""
    with one_cpu(), throwaway_server() as server, stepped():
        connection = Connection(server.local_url)
        connection.connect()
        connection.call([b"CONFIG", b"SET", b"appendonly", b"no"])
        for name in SCRIPTS:  # so that each schedule finds them
            connection.call([b"SCRIPT", b"LOAD", scripts.load(name).encode()])
        with contextlib.closing(connection):
            yield connection


def play(server: Connection, seed: int) -> Played:
    """Play the schedule of a seed on the server, which is emptied before."""
    contract = [*CONTRACTS.values()][seed % len(CONTRACTS)]
    server.call([b"FLUSHALL"])
    server.call([b"SCRIPT", b"LOAD", SCRIPT])
    world = World(server, seed, contract.pace)
    wrong: list[str] = []
    try:
        schedule = Schedule(world, contract)
        schedule.storm()
        schedule.calm()
        wrong = account(world, contract, schedule.client)
    except Exception as error:
        wrong = [f"{type(error).__name__}: {error}", *world.errors]
    finally:
        world.end()
    return Played(seed, contract.name, world.trace, wrong, world.counts)


def play_all(seeds: Sequence[int]) -> tuple[Counter[str], list[Played]]:
    """Play schedules on one server; return what happened, and those that went wrong."""
    counts: Counter[str] = Counter()
    wrong = []
    with a_server() as server:
        for seed in seeds:
            played = play(server, seed)
            counts += played.counts
            if played.wrong:
                wrong.append(played)
    return counts, wrong


class Schedule:
    """Draws what happens next."""

    def __init__(self, world: World, contract: Contract) -> None:
        self.world, self.contract = world, contract
        self.components = {name: make() for name, make in contract.components.items()}
        self.client = contract.client(world, contract, world.random.randint(1, MOST_ROOTS))

    def storm(self) -> None:
        """Let everything happen in any order."""
        world, draw = self.world, self.world.random
        self._start(*self.contract.replicas)
        for _ in range(draw.randint(*STEPS)):
            (event,) = draw.choices([*EVENTS], [*EVENTS.values()])
            getattr(self, f"_{event}")()
        world.end()

    def calm(self) -> None:
        """Let one replica of each component finish what is left."""
        while self.client.left:
            self.client.open()
        self._start(*self.contract.components)
        for _ in range(CALM_ROUNDS):
            self.world.drain(self.world.living)
            if not self.client.answer(most=100) and not unfinished(self.world, self.contract):
                break
            for each in self.world.living:
                each.heartbeat()
                each.catch_up()
            self.world.clock_s += 0.01
        for each in self.world.living:  # a heartbeat later the model is followed to its end
            each.catch_up()
        self.world.drain(self.world.living)

    # events

    def _step(self) -> None:
        ready = self.world.ready()
        if ready:
            self.world.clock_s += self.world.random.choice((0.0, 0.0001, 0.001))
            self.world.step(self.world.random.choice(ready))
        else:
            self._client()

    def _client(self) -> None:
        opens = self.client.left and self.world.random.random() < 0.5
        if opens or (not self.client.answer() and self.client.left):
            self.client.open()

    def _beat(self) -> None:
        if self.world.living:
            chosen = self.world.random.choice(self.world.living)
            chosen.heartbeat()
            chosen.catch_up()
            self.world.note(f"{chosen.name} beats, finds {len(chosen.status.orphans)}")
            self.world.counts["found"] += len(chosen.status.orphans)

    def _time(self) -> None:
        self.world.clock_s += 1.1
        for each in self.world.living:
            each.catch_up()
        self.world.note("time passes")

    def _die(self) -> None:
        if self.world.living:
            victim = self.world.random.choice(self.world.living)
            self.world.kill(victim)
            self._start(victim.identity.component.name)
            self.world.counts["deaths"] += 1

    def _cut(self) -> None:
        if self.world.living:
            self.world.cut(self.world.random.choice(self.world.living))
            self.world.counts["cuts"] += 1

    def _group(self) -> None:
        """Destroy a consumer group."""
        name = self.world.random.choice([*self.components])
        stream = self.world.random.choice(self.components[name].streams)
        key = NAMES.stream(*stream.key).encode()
        self.world.server.call([b"XGROUP", b"DESTROY", key, name.encode()])
        self.world.unblock()
        self.world.tokens.clear()
        self.world.note(f"the group {name} of {stream.key} is destroyed")
        self.world.counts["groups"] += 1

    def _start(self, *names: str) -> None:
        """Start replicas; often they are ready before anything else happens."""
        quick = self.world.random.random() < QUICK_START
        for name in names:
            added = self.world.add(self.components[name], SETTINGS, quick=quick)
            if quick:
                self.world.drain([added])
