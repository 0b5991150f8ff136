"""The account of a play: what was lost, what was doubled, what is left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from roomgrad.runtime import runs
from tests.chaos.contract import CHAIN
from tests.chaos.environment import Environment, Seen

PAGE = 10_000


@dataclass
class Account:
    """One play of one contestant with one seed."""

    contestant: str
    seed: int
    numbers: int
    messages_per_number: int = CHAIN.messages_per_number
    effects: int = 0
    late: int = 0
    """Parts of joins that came too late."""

    lost: int = 0
    doubled: int = 0
    dead: int = 0
    open: int = 0
    memory_bytes: int = 0
    stream_bytes: int = 0
    largest_mib: float = 0.0
    server_mib: float = 0.0
    stale: int = 0
    """Steps of a model of real size by gradients of older weights."""

    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    @property
    def messages(self) -> int:
        return self.numbers * self.messages_per_number


def entries(environment: Environment, name: str) -> Iterator[dict[str, Any]]:
    """What a log of effects holds, oldest first."""
    after = "-"
    while True:
        page: Any = environment.client.xrange(environment.names.log(name), after, "+", count=PAGE)
        for _, fields in page:
            yield orjson.loads(fields[b"m"])
        if len(page) < PAGE:
            return
        after = f"({page[-1][0].decode()}"


def effects(environment: Environment, name: str) -> Counter[int]:
    """How often each number had an effect."""
    return Counter(each["number"] for each in entries(environment, name))


def settle(environment: Environment, account: Account) -> None:
    """Counts lost and doubled effects against the numbers that went out."""
    for name in environment.contract.effects:
        counts = effects(environment, name)
        expected = environment.contract.numbers(name, account.numbers)
        lost = [number for number in expected if not counts[number]]
        doubled = sorted(number for number, times in counts.items() if times > 1)
        account.lost += len(lost)
        account.doubled += sum(counts.values()) - len(counts)
        account.effects += len(counts)
        if environment.mine and lost + doubled:
            account.wrong.append(f"{name}: lost {lost[:9]}, doubled {doubled[:9]}")
        strangers = sorted(counts.keys() - {*expected})
        if strangers:
            account.wrong.append(f"{name} of numbers that never went out: {strangers[:5]}")


def settle_run(environment: Environment, account: Account) -> None:
    """What only a run of roomgrad can be asked: its ledger, and what is left over."""
    client, names, contract = environment.client, environment.names, environment.contract
    finished = int(client.hget(names.counters(contract.opener), "finished") or 0)
    if finished != account.numbers:
        account.wrong.append(f"finished {finished} of {account.numbers}")
    for learner, effect in contract.learners.items():
        ledger: Any = client.hmget(names.counters(learner), "applied", "distinct")
        step = int(client.hget(names.model(learner), "step") or 0)
        steps = sum(not each.get("empty") for each in entries(environment, effect))
        if {*map(int, ledger), step} != {steps}:
            wrong = f"{learner}: applied, distinct {ledger}, step {step}, expected {steps}"
            account.wrong.append(wrong)
    account.server_mib = client.info("memory")["used_memory_peak"] / 2**20
    account.dead = client.xlen(names.dead())
    account.open = len(open_messages(environment))
    for component in contract.system.components:
        waiting = names.later(component), names.later_bodies(component)
        for key in (names.memory(component), names.kept(component), *waiting):
            account.memory_bytes += client.memory_usage(key) or 0
    for stream in contract.system.streams:
        account.stream_bytes += client.memory_usage(names.stream(*stream.key)) or 0


def open_messages(environment: Environment) -> list[str]:
    """What some group still owes."""
    found = []
    for room, type_, group in runs.groups(environment.contract.system, environment.names):
        key = environment.names.stream(room, type_)
        for info in environment.client.xinfo_groups(key):
            if info["name"].decode() == group and (info["pending"] or info["lag"]):
                found.append(f"{group} owes {info['pending']} + {info['lag']} in {key}")
    return found
