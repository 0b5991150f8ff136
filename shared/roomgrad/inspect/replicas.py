"""The replicas of a run: which live, what they hold, and what nobody serves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis

from roomgrad.inspect.streams import Flows
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.runtime import heartbeats


@dataclass(frozen=True)
class ReplicaState:
    """One replica, or a component of which none lives."""

    component: str
    host: str = ""
    pid: int = 0
    consumer: str = ""
    alive: bool = False
    up_s: float = 0.0
    """Since when it runs."""

    turn_s: float = 0.0
    """Since its loop last turned."""

    handling_s: float | None = None
    """Since when it is in a handler; None: it waits for messages."""

    version: str = ""
    """Of the weights that it holds."""

    model: str = ""
    """Of the weights of its component on the server."""

    pending: int = 0
    """Messages in its hands."""


def look(client: redis.Redis, names: Names, now: Flows) -> tuple[ReplicaState, ...]:
    """All replicas that live, and each component that has none. now: of the same run."""
    components = registry.components_of(client, names)
    now_s = now.now_us / 1e6
    models = _models(client, names, sorted(components))
    held = _held(client, now)
    found = [
        ReplicaState(
            component=beat.component,
            host=beat.host,
            pid=beat.pid,
            consumer=beat.consumer,
            alive=True,
            up_s=round(now_s - beat.started, 1) if beat.started else 0.0,
            turn_s=round(now_s - beat.turn, 1),
            handling_s=None if beat.handling is None else round(now_s - beat.handling, 3),
            version=beat.version,
            model=models.get(beat.component, ""),
            pending=held[beat.consumer],
        )
        for beat in heartbeats.find(client, names)
    ]
    alive = {each.component for each in found}
    absent = [
        ReplicaState(each, model=models.get(each, "")) for each in components if each not in alive
    ]
    return tuple(sorted(found + absent, key=lambda each: (each.component, each.up_s)))


def _models(client: redis.Redis, names: Names, components: list[str]) -> dict[str, str]:
    with client.pipeline(transaction=False) as together:
        for component in components:
            together.hget(names.model(component), "version")
        answers: list[Any] = together.execute(raise_on_error=False)
    pairs = zip(components, answers, strict=True)
    return {name: value.decode() for name, value in pairs if isinstance(value, bytes)}


def _held(client: redis.Redis, now: Flows) -> Counter[str]:
    """How many messages each consumer holds."""
    groups = [group for flow in now.flows for group in flow.groups if group.pending]
    found: Counter[str] = Counter()
    with client.pipeline(transaction=False) as together:
        for group in groups:
            together.xpending(group.key, group.name)
        answers: list[Any] = together.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, dict):
            for each in answer["consumers"]:
                found[each["name"].decode(errors="replace")] += int(each["pending"])
    return found
