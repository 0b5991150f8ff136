"""A play: a crew at work, one fault after the other in an order of the seed's, then the account."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from roomgrad.codec import pack, unpack
from roomgrad.names import Names
from tests.chaos.account import Account, open_messages, settle, settle_run
from tests.chaos.contract import COMPONENTS, EFFECTS, MESSAGES_PER_NUMBER, OPENER
from tests.chaos.crew import Crew
from tests.chaos.faults import FAULTS, FLUSH, TURNOVERS, Fault
from tests.chaos.stage import PATIENCE_S, Seen, Stage, Times, staged, watched
from tests.waiting import until

ROOMGRAD, UNDER_SENTINEL = "roomgrad", "roomgrad, Sentinel"
REPLICAS = 2
WINDOW = 8
BETWEEN = (10, 200)  # effects between two faults, at least and at most


def crew_of(times: Times) -> Callable[[str, Names, Path], Crew]:
    """Makes the processes of roomgrad for an address and a run."""

    def make(url: str, names: Names, logs: Path) -> Crew:
        def program(component: str) -> list[str]:
            words = ["tests.chaos.components", component, f"--run={names.run}"]
            words += [f"--redis-url={url}", *times.flags()]
            return [*words, f"--window={WINDOW}"] if component == OPENER else words

        return Crew(program, COMPONENTS, REPLICAS, logs)

    return make


def play(seed: int, messages: int, times: Times, directory: Path) -> Account:
    """roomgrad under every fault. The same seed plays the same faults in the same order.

    directory: for the server's data and the logs of the components.
    """
    began = time.monotonic()
    with staged(directory, seed, times, crew_of(times), mine=True) as stage:
        seen = harm(stage, FLUSH) + harm(stage, FAULTS)
        account = conclude(stage, Account(ROOMGRAD, seed, goal(stage, messages), seen=seen))
    account.seconds = time.monotonic() - began
    return account


def turn_over(seed: int, messages: int, times: Times, directory: Path) -> Account:
    """roomgrad under Sentinel, whose masters are killed, frozen and replaced at work."""
    began = time.monotonic()
    with watched(directory, seed, times, crew_of(times)) as stage:
        seen = harm(stage, TURNOVERS)
        account = Account(UNDER_SENTINEL, seed, goal(stage, messages), seen=seen)
        conclude(stage, account)
    account.seconds = time.monotonic() - began
    return account


def conclude(stage: Stage, account: Account) -> Account:
    """Lets the work come to its end, and settles the account."""
    finish(stage, account)
    account.largest_mib = stage.crew.memory_mib()
    account.wrong += stage.crew.unexpected + [w for each in account.seen for w in each.wrong]
    return account


def harm(stage: Stage, faults: Mapping[str, Fault]) -> list[Seen]:
    """One fault after the other, with some work in between."""
    order = list(faults)
    stage.dice.shuffle(order)
    found = []
    for name in order:
        stage.wait_progress(stage.dice.randint(*BETWEEN))
        stage.crew.note(name)
        seen = Seen(name)
        faults[name](stage, seen)
        found.append(seen)
    return found


def goal(stage: Stage, messages: int) -> int:
    """Says after how many numbers the run ends: one that none of them has reached yet.

    Each of the window's numbers opens the one that is a window further on. Those that had to wait
    for somebody to take them over are far behind the others, and catch up now.
    """
    out = stage.client.hvals(stage.names.memory(OPENER))
    farthest = max(unpack(record)["number"] for record in out)
    numbers = max(messages // MESSAGES_PER_NUMBER, farthest + 10 * WINDOW)
    stage.client.hset(stage.names.table("goal"), "numbers", pack({"numbers": numbers}))
    return numbers


def finish(stage: Stage, account: Account) -> None:
    """Waits until nothing moves any more, and settles the account."""
    want = len(EFFECTS) * account.numbers

    def done() -> bool:
        stage.crew.check()
        return stage.progress() >= want and not open_messages(stage)

    try:
        until(done, PATIENCE_S + account.messages / 50)
    except AssertionError:
        account.wrong.append(f"it did not finish: {stage.progress()} of {want} effects")
    settle(stage, account)
    settle_run(stage, account)
