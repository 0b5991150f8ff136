"""A play: a crew at work, one fault after the other in an order of the seed's, then the account."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from roomgrad.codec import pack, unpack
from roomgrad.names import Names
from tests.chaos.account import Account, open_messages, settle, settle_run
from tests.chaos.contract import CHAIN, LEARNER, Contract
from tests.chaos.environment import (
    PATIENCE_S,
    Environment,
    RealModel,
    Seen,
    Times,
    environments,
    watched,
)
from tests.chaos.faults import FAULTS, FLUSH, TURNOVERS, Fault
from tests.chaos.graph import GRAPH
from tests.chaos.graph_account import settle_graph
from tests.chaos.model_account import settle_model
from tests.chaos.model_faults import MODEL_TURNOVERS
from tests.chaos.processes import Processes
from tests.waiting import until

ROOMGRAD, UNDER_SENTINEL = "roomgrad", "roomgrad, Sentinel"
REAL_MODEL = "roomgrad, model"
REPLICAS = 2
WINDOW = 8
BETWEEN = (10, 200)  # effects between two faults, at least and at most


def crew_of(
    times: Times, model: RealModel | None = None, contract: Contract = CHAIN
) -> Callable[[str, Names, Path], Processes]:
    """Makes the processes of roomgrad for an address and a run."""
    window = model.window if model else WINDOW

    def make(url: str, names: Names, logs: Path) -> Processes:
        def program(component: str) -> list[str]:
            words = [contract.module, component, f"--run={names.run}"]
            words += [f"--redis-url={url}", *times.flags()]
            if component == LEARNER and model is not None:
                words += model.flags()
            return [*words, f"--window={window}"] if component == contract.opener else words

        return Processes(program, contract.programs, REPLICAS, logs)

    return make


def play(
    seed: int,
    messages: int,
    times: Times,
    directory: Path,
    contract: Contract = CHAIN,
    faults: Mapping[str, Fault] = FAULTS,
    first: Mapping[str, Fault] = FLUSH,
) -> Account:
    """roomgrad under faults. The same seed plays the same faults in the same order.

    directory: for the server's data and the logs of the components.
    """
    began = time.monotonic()
    crew = crew_of(times, contract=contract)
    with environments(directory, seed, times, crew, mine=True, contract=contract) as environment:
        seen = harm(environment, first) + harm(environment, faults)
        account = conclude(environment, account_of(environment, ROOMGRAD, seed, messages, seen))
    account.seconds = time.monotonic() - began
    return account


def turn_over(
    seed: int, messages: int, times: Times, directory: Path, contract: Contract = CHAIN
) -> Account:
    """roomgrad under Sentinel, whose masters are killed, frozen and replaced at work."""
    began = time.monotonic()
    crew = crew_of(times, contract=contract)
    with watched(directory, seed, times, crew, contract=contract) as environment:
        seen = harm(environment, TURNOVERS)
        account = account_of(environment, UNDER_SENTINEL, seed, messages, seen)
        conclude(environment, account)
    account.seconds = time.monotonic() - began
    return account


def learn(
    model: RealModel, seed: int, messages: int, times: Times, faults: Mapping[str, Fault]
) -> Account:
    """A model of real size under faults at its snapshots, its steps and its history."""
    began = time.monotonic()
    crew = crew_of(times, model)
    with environments(model.folder, seed, times, crew, mine=True, model=model) as environment:
        return _learned(environment, seed, messages, faults, began)


def learn_under_sentinel(
    model: RealModel, seed: int, messages: int, times: Times, rounds: int
) -> Account:
    """Play the same under Sentinel, where each failover loses the last second of the master."""
    began = time.monotonic()
    crew = crew_of(times, model)
    with watched(model.folder, seed, times, crew, model) as environment:
        faults = {
            f"{name} {n}": fault for name, fault in MODEL_TURNOVERS.items() for n in range(rounds)
        }
        return _learned(environment, seed, messages, faults, began)


def _learned(
    environment: Environment, seed: int, messages: int, faults: Mapping[str, Fault], began: float
) -> Account:
    seen = harm(environment, faults)
    account = account_of(environment, REAL_MODEL, seed, messages, seen)
    conclude(environment, account)
    settle_model(environment, account)
    account.seconds = time.monotonic() - began
    return account


def account_of(
    environment: Environment, contestant: str, seed: int, messages: int, seen: list[Seen]
) -> Account:
    """Return an empty account of as many numbers as are to go out."""
    contract = environment.contract
    name = contestant if contract is CHAIN else f"{contestant}, {contract.system.name}"
    numbers = goal(environment, messages)
    return Account(name, seed, numbers, contract.messages_per_number, seen=seen)


def conclude(environment: Environment, account: Account) -> Account:
    """Lets the work come to its end, and settles the account."""
    finish(environment, account)
    account.largest_mib = environment.processes.memory_mib()
    account.wrong += environment.processes.unexpected + [
        w for each in account.seen for w in each.wrong
    ]
    return account


def harm(environment: Environment, faults: Mapping[str, Fault]) -> list[Seen]:
    """One fault after the other, with some work in between."""
    order = list(faults)
    environment.dice.shuffle(order)
    found = []
    for name in order:
        environment.wait_progress(environment.dice.randint(*BETWEEN))
        environment.processes.note(name)
        seen = Seen(name)
        faults[name](environment, seen)
        found.append(seen)
    return found


def goal(environment: Environment, messages: int) -> int:
    """Set and return after how many numbers the run ends: more than it has reached yet.

    Each of the window's numbers opens the one that is a window further on. Those that had to wait
    for redelivery are far behind the others, and catch up now.
    """
    out = environment.client.hvals(environment.names.memory(environment.contract.opener))
    farthest = max(unpack(record)["number"] for record in out)
    numbers = max(messages // environment.contract.messages_per_number, farthest + 10 * WINDOW)
    environment.client.hset(environment.names.table("goal"), "numbers", pack({"numbers": numbers}))
    return numbers


def finish(environment: Environment, account: Account) -> None:
    """Waits until nothing moves any more, and settles the account."""
    contract = environment.contract
    want = sum(len(contract.numbers(each, account.numbers)) for each in contract.effects)

    def done() -> bool:
        environment.processes.check()
        return environment.progress() >= want and not open_messages(environment)

    try:
        until(done, PATIENCE_S + account.messages / 50)
    except AssertionError:
        account.wrong.append(f"it did not finish: {environment.progress()} of {want} effects")
    settle(environment, account)
    settle_run(environment, account)
    if contract is GRAPH:
        settle_graph(environment, account)
        failed = environment.processes.failures()
        account.wrong += [f"a handler of {name} raised, see its log" for name in failed]
