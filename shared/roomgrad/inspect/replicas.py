"""The replicas of a run: which are alive, and what each is doing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import redis

from roomgrad.inspect.members import alike, family, order, spans
from roomgrad.inspect.snapshot import RunSnapshot
from roomgrad.names import Names
from roomgrad.redis import registry

LONG_S = 3.0  # a busy replica is in some handler at each heartbeat, which means nothing
STUCK_S = 10.0


@dataclass(frozen=True)
class ReplicaState:
    """A replica, or a component that has none."""

    component: str
    host: str = ""
    pid: int = 0
    consumer: str = ""
    alive: bool = False
    up_s: float = 0.0
    """Seconds since it started."""

    turn_s: float = 0.0
    """Seconds since the last turn of its loop."""

    handling_s: float | None = None
    """Seconds since it entered a handler; None while it waits for messages."""

    version: str = ""
    """The version of the weights that it holds."""

    model: str = ""
    """The version of its component's weights on the server."""

    pending: int = 0
    """The number of messages that were delivered to it and are not committed."""


def inspect(client: redis.Redis, snapshot: RunSnapshot) -> tuple[ReplicaState, ...]:
    """Return all live replicas of a run, and each component that has none."""
    names, now_s = snapshot.names, snapshot.now_us / 1e6
    components = registry.components_of(client, names)
    models = _model_versions(client, names, sorted(components))
    pending = _pending_by_consumer(client, snapshot)
    found = [
        ReplicaState(
            component=beat.component,
            host=beat.host,
            pid=beat.pid,
            consumer=consumer,
            alive=True,
            up_s=round(now_s - beat.started, 1) if beat.started else 0.0,
            turn_s=round(now_s - beat.turn, 1),
            handling_s=None if beat.handling is None else round(now_s - beat.handling, 3),
            version=beat.version,
            model=models.get(beat.component, ""),
            pending=pending[consumer],
        )
        for consumer, beat in snapshot.heartbeats.items()
        if beat is not None
    ]
    absent = components - {each.component for each in found}
    found += [ReplicaState(component, model=models.get(component, "")) for component in absent]
    return tuple(sorted(found, key=lambda each: (order(each.component), each.up_s)))


def likeness(each: ReplicaState) -> Hashable:
    """Return what members of an ensemble have in common if a person may see them as one."""
    name = family(each.component)
    state = each.alive, each.turn_s < STUCK_S, (each.handling_s or 0.0) > LONG_S
    return name, name != each.component or each.consumer, *state, each.host, each.pid


def merged(found: Iterable[ReplicaState]) -> list[ReplicaState]:
    """Return replicas with one for members that are alike, at the step of the last of them."""
    return [
        replace(
            min(each, key=lambda one: step_of(one.version or one.model)),
            component=spans(one.component for one in each)[0],
            pending=sum(one.pending for one in each),
        )
        for each in alike(found, likeness)
    ]


def step_of(version: str) -> int:
    """Return the step of a version, which is a step and a random part; 0 for any other text."""
    found = re.match(r"([0-9]{1,18})-", version)
    return int(found[1]) if found else 0


def _model_versions(client: redis.Redis, names: Names, components: list[str]) -> dict[str, str]:
    with client.pipeline(transaction=False) as pipeline:
        for component in components:
            pipeline.hget(names.model(component), "version")
        answers: list[Any] = pipeline.execute(raise_on_error=False)
    pairs = zip(components, answers, strict=True)
    return {name: value.decode() for name, value in pairs if isinstance(value, bytes)}


def _pending_by_consumer(client: redis.Redis, snapshot: RunSnapshot) -> Counter[str]:
    found: Counter[str] = Counter()
    with client.pipeline(transaction=False) as pipeline:
        for group in snapshot.groups:
            if group.pending:
                pipeline.xpending(group.key, group.name)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, dict):
            for each in answer["consumers"]:
                found[each["name"].decode(errors="replace")] += int(each["pending"])
    return found
