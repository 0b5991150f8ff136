"""A play of one of the others: the same chain, the same faults, and a steady sender."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import redis

from roomgrad.names import Names
from tests.chaos.account import Account, settle
from tests.chaos.contract import CHAIN, COMPONENTS
from tests.chaos.environment import Environment, Seen, Times, environments
from tests.chaos.faults import COMMON, FAULTS
from tests.chaos.play import BETWEEN
from tests.chaos.processes import Processes
from tests.chaos.rivals import STREAM, Sender, listening
from tests.waiting import until

PACE_S = 0.01  # between two numbers
PATIENCE_S = 15.0  # without an effect, until everything is restarted
QUIET_S = 8.0  # without an effect, after the last number: nothing more will come


class Sending:
    """A thread that sends numbers, each until it is accepted, as long as the block lasts."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0

    def _run(self) -> None:
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
        replicas = 2 if kind == STREAM else 1
        words = ["tests.chaos.rivals", kind]
        return Processes(lambda part: [*words, part, url, names.run], COMPONENTS, replicas, logs)

    began = time.monotonic()
    with environments(directory, seed, times, make_crew, mine=False) as environment:
        environment.patience_s = PATIENCE_S
        client = redis.Redis.from_url(environment.server.url, socket_timeout=5.0)
        # A late subscriber misses earlier messages, so wait for it: in their favour.
        until(lambda: listening(kind, client, environment.names.run), environment.patience_s)
        with client, Sending(Sender(kind, client, environment.names.run)) as sending:
            seen = harm(environment, faults)
            while sending.sent * CHAIN.messages_per_number < messages:
                time.sleep(0.1)
        account = Account(kind, seed, sending.sent, seen=seen)
        wait_quiet(environment)
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
            environment.processes.stop()
            environment.processes.start()
    return found


def wait_quiet(environment: Environment) -> None:
    """Waits until no effect comes any more."""
    before, since = environment.progress(), time.monotonic()
    while time.monotonic() - since < QUIET_S:
        time.sleep(0.1)
        environment.processes.check()
        if (now := environment.progress()) != before:
            before, since = now, time.monotonic()
