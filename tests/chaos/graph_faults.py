"""What is done to a graph at work: the joiner dies between the parts, and parts come twice."""

from __future__ import annotations

from typing import Any

import orjson

from tests.chaos.account import effects
from tests.chaos.contract import DEED
from tests.chaos.environment import PATIENCE_S, Environment, Seen
from tests.chaos.faults import FAULTS, Fault, take_over
from tests.chaos.graph import FORWARD, JOINER, MODELS, PARTS
from tests.waiting import until

COPIES = 10


def kill_joiners(environment: Environment, seen: Seen) -> None:
    """kill -9 of all replicas of the joiner while parts wait; they are started again at once."""
    memory = environment.names.memory(JOINER)
    until(lambda: environment.client.hlen(memory), PATIENCE_S)
    _kill_all(environment, JOINER)


def kill_members(environment: Environment, seen: Seen) -> None:
    """kill -9 of all members of the ensemble at once, so that none answers in time."""
    environment.anywhen()
    _kill_all(environment, MODELS.name)


def _kill_all(environment: Environment, program: str) -> None:
    victims = [each for each in environment.processes.names if each.startswith(f"{program}-")]
    environment.processes.kill(*victims)
    held = environment.held_by(*victims)
    environment.processes.start(*victims)
    for entry in held:
        environment.wait_done(entry)


def kill_one_replica(environment: Environment, seen: Seen) -> None:
    """kill -9 of one joiner while parts wait; the other one goes on."""
    memory = environment.names.memory(JOINER)
    until(lambda: environment.client.hlen(memory), PATIENCE_S)
    victim = f"{JOINER}-{environment.dice.randint(1, 2)}"
    at = environment.processes.kill(victim)
    take_over(environment, seen, environment.held_by(victim), at)
    environment.processes.start(victim)


def copy_parts(environment: Environment, seen: Seen) -> None:
    """Parts come twice whose sender has its gradient: that of the second is a dead letter."""
    client, key = environment.client, environment.names.stream(str(DEED), FORWARD)

    def answered() -> list[dict[bytes, bytes]]:
        numbers = {name: effects(environment, name) for name in PARTS}
        newest: Any = client.xrevrange(key, count=500)
        return [each for _, each in newest if int(each[b"SEED"]) in numbers[_sender(each)]]

    parts = until(lambda: found if len(found := answered()) >= COPIES else None, PATIENCE_S)
    for fields in environment.dice.sample(parts, COPIES):
        client.xadd(key, fields)
        environment.copies += 1
    environment.wait_progress(20)


def _sender(part: dict[bytes, bytes]) -> str:
    return str(orjson.loads(part[b"m"])["SENT_BY"])


GRAPH_FAULTS: dict[str, Fault] = {
    "kill -9 of the joiner between parts": kill_one_replica,
    "kill -9 of all joiners between parts": kill_joiners,
    "kill -9 of all members": kill_members,
    "parts that come twice": copy_parts,
}
GRAPH_SHORT: dict[str, Fault] = {
    **{name: GRAPH_FAULTS[name] for name in GRAPH_FAULTS if name != "kill -9 of all members"},
    **{name: FAULTS[name] for name in ("CLIENT KILL", "kill -9 of the server, restart")},
}
GRAPH_FAULTS |= FAULTS
