"""A play: a crew at work, one fault after the other in an order of the seed's, then the account."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from roomgrad.codec import pack, unpack
from roomgrad.names import Names
from tests.chaos.account import Account, open_messages, settle, settle_run
from tests.chaos.contract import COMPONENTS, EFFECTS, MESSAGES_PER_NUMBER, OPENER
from tests.chaos.crew import Crew
from tests.chaos.faults import FAULTS, FLUSH, Fault
from tests.chaos.stage import PATIENCE_S, Seen, Stage, Times, staged
from tests.waiting import until

ROOMGRAD = "roomgrad"
REPLICAS = 2
WINDOW = 8
BETWEEN = (10, 200)  # effects between two faults, at least and at most


def play(seed: int, messages: int, times: Times, directory: Path) -> Account:
    """roomgrad under every fault. The same seed plays the same faults in the same order.

    directory: for the server's data and the logs of the components.
    """

    def make_crew(url: str, names: Names, logs: Path) -> Crew:
        def program(component: str) -> list[str]:
            words = ["tests.chaos.components", component, f"--run={names.run}"]
            words += [f"--redis-url={url}", *times.flags()]
            return [*words, f"--window={WINDOW}"] if component == OPENER else words

        return Crew(program, COMPONENTS, REPLICAS, logs)

    began = time.monotonic()
    with staged(directory, seed, times, make_crew, mine=True) as stage:
        seen = harm(stage, FLUSH) + harm(stage, FAULTS)
        account = Account(ROOMGRAD, seed, goal(stage, messages), seen=seen)
        finish(stage, account)
        account.largest_mib = stage.crew.memory_mib()
        account.wrong += stage.crew.unexpected + [w for each in seen for w in each.wrong]
    account.seconds = time.monotonic() - began
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
