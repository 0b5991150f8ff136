"""A play of one of the others: the same chain, the same faults, and a steady sender."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import redis

from roomgrad.names import Names
from tests.chaos.account import Account, settle
from tests.chaos.contract import COMPONENTS, MESSAGES_PER_NUMBER
from tests.chaos.crew import Crew
from tests.chaos.faults import COMMON, FAULTS
from tests.chaos.play import BETWEEN
from tests.chaos.rivals import STREAM, Sender, listening
from tests.chaos.stage import Seen, Stage, Times, staged
from tests.waiting import until

PACE_S = 0.01  # between two numbers
PATIENCE_S = 15.0  # without an effect, until somebody restarts everything
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

    def make_crew(url: str, names: Names, logs: Path) -> Crew:
        # Each subscriber of a channel gets each message: a second replica would double everything.
        replicas = 2 if kind == STREAM else 1
        words = ["tests.chaos.rivals", kind]
        return Crew(lambda part: [*words, part, url, names.run], COMPONENTS, replicas, logs)

    began = time.monotonic()
    with staged(directory, seed, times, make_crew, mine=False) as stage:
        stage.patience_s = PATIENCE_S
        client = redis.Redis.from_url(stage.server.url, socket_timeout=5.0)
        # Who subscribes late misses what came before: in their favour.
        until(lambda: listening(kind, client, stage.names.run), stage.patience_s)
        with client, Sending(Sender(kind, client, stage.names.run)) as sending:
            seen = harm(stage, faults)
            while sending.sent * MESSAGES_PER_NUMBER < messages:
                time.sleep(0.1)
        account = Account(kind, seed, sending.sent, seen=seen)
        wait_quiet(stage)
        settle(stage, account)
    account.seconds = time.monotonic() - began
    return account


def harm(stage: Stage, faults: Sequence[str]) -> list[Seen]:
    """These faults in an order of the seed's; who stands still afterwards is started anew."""
    order = list(faults)
    stage.dice.shuffle(order)
    found = []
    for name in order:
        seen = Seen(name)
        found.append(seen)
        try:
            stage.wait_progress(stage.dice.randint(*BETWEEN))
            FAULTS[name](stage, seen)
        except AssertionError:
            seen.wrong.append(f"stood still for {PATIENCE_S:g} s, everything was started again")
            stage.crew.stop()
            stage.crew.start()
    return found


def wait_quiet(stage: Stage) -> None:
    """Waits until no effect comes any more."""
    before, since = stage.progress(), time.monotonic()
    while time.monotonic() - since < QUIET_S:
        time.sleep(0.1)
        stage.crew.check()
        if (now := stage.progress()) != before:
            before, since = now, time.monotonic()
