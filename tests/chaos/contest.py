"""A play of one of the others: the same chain, the same faults, and a steady sender."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
import redis

from roomgrad.names import Names
from tests.chaos import rival_docket
from tests.chaos.account import Account, settle
from tests.chaos.contract import CHAIN, COMPONENTS, LEARNER
from tests.chaos.environment import Environment, Seen, Times, environments
from tests.chaos.faults import COMMON, FAULTS
from tests.chaos.play import BETWEEN
from tests.chaos.processes import Processes
from tests.chaos.rivals import AT_LEAST_ONCE, DOCKET, STREAM, listening
from tests.waiting import until

PACE_S = 0.01  # between two numbers
PATIENCE_S = 30.0  # without an effect, until everything is restarted
QUIET_S = 8.0  # without an effect, after the last number


class Sender:
    """Puts numbers into the first room at a steady pace; is spared, and asks until it is heard.

    For the thread that enters it.
    """

    def __init__(self, kind: str, client: redis.Redis, url: str, run: str) -> None:
        self._kind = kind
        self._client = client
        self._run = run
        self._tasks = rival_docket.tasks_of(LEARNER, url, run)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Sender:
        if self._kind == DOCKET:
            self._runner.run(self._tasks.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        if self._kind == DOCKET:
            self._runner.run(self._tasks.__aexit__(None, None, None))
        self._runner.close()

    def send(self, number: int) -> bool:
        """Sends one; False when the server was not there."""
        body = orjson.dumps({"number": number})
        try:
            if self._kind == DOCKET:
                self._runner.run(rival_docket.add(self._tasks, "work", number))
            elif self._kind == STREAM:
                self._client.xadd(f"{self._run}:work", {"__data__": body})
            else:
                self._client.publish(f"{self._run}:work", body)
        except redis.RedisError:
            return False
        return True


class Sending:
    """A thread that sends numbers, each until it is accepted, as long as the block lasts."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0

    def _run(self) -> None:
        with self._sender:
            while not self._stop.wait(PACE_S):
                self.sent += self._sender.send(self.sent)

    def __enter__(self) -> Sending:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def contest(
    kind: str,
    seed: int,
    messages: int,
    times: Times,
    directory: Path,
    faults: Sequence[str] = COMMON,
) -> Account:
    """One contestant under the faults that can be done to it."""

    def make_crew(url: str, names: Names, logs: Path) -> Processes:
        # Each subscriber of a channel gets each message: a second replica would double everything.
        replicas = 2 if kind in AT_LEAST_ONCE else 1
        words = ["tests.chaos.rivals", kind]
        return Processes(lambda part: [*words, part, url, names.run], COMPONENTS, replicas, logs)

    began = time.monotonic()
    with environments(directory, seed, times, make_crew, mine=False) as environment:
        client = redis.Redis.from_url(environment.server.url, socket_timeout=5.0)
        # A late subscriber misses earlier messages, so wait for it: in their favour.
        until(lambda: listening(kind, client, environment.names.run), environment.patience_s)
        environment.patience_s = PATIENCE_S
        sender = Sender(kind, client, environment.server.url, environment.names.run)
        with client, Sending(sender) as sending:
            seen = harm(environment, faults)
            while sending.sent * CHAIN.messages_per_number < messages:
                time.sleep(0.1)
        account = Account(kind, seed, sending.sent, seen=seen)
        wait_quiet(environment, QUIET_S)
        if kind in AT_LEAST_ONCE:  # what a stream still holds is not lost: a fresh start finds it
            restart(environment)
            wait_quiet(environment, PATIENCE_S)
        settle(environment, account)
    account.seconds = time.monotonic() - began
    return account


def harm(environment: Environment, faults: Sequence[str]) -> list[Seen]:
    """Play the faults in the order of the seed; restart all processes if progress stops."""
    order = list(faults)
    environment.dice.shuffle(order)
    found = []
    for name in order:
        seen = Seen(name)
        found.append(seen)
        try:
            environment.wait_progress(environment.dice.randint(*BETWEEN))
            FAULTS[name](environment, seen)
        except AssertionError:
            seen.wrong.append(f"stood still for {PATIENCE_S:g} s, everything was started again")
            restart(environment)
    return found


def restart(environment: Environment) -> None:
    """Kill all processes, and start them again."""
    environment.processes.stop()
    environment.processes.start()


def wait_quiet(environment: Environment, quiet_s: float) -> None:
    """Waits until no effect has come for so long."""
    before, since = environment.progress(), time.monotonic()
    while time.monotonic() - since < quiet_s:
        time.sleep(0.1)
        environment.processes.check()
        if (now := environment.progress()) != before:
            before, since = now, time.monotonic()
