"""One look at a run: its groups, memory and letters, all of one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

from roomgrad.inspect import streams
from roomgrad.inspect.keys import pattern, scanned
from roomgrad.inspect.streams import Flow, Group, flow
from roomgrad.names import Names, is_client_group
from roomgrad.redis import registry
from roomgrad.rooms import System
from roomgrad.runtime import runs

OVERDUE_S = 10.0  # a message for later that comes so late has nobody to send it


@dataclass(frozen=True)
class Look:
    """A run at one moment."""

    client: redis.Redis
    names: Names
    system: System | None
    command: str
    """How one talks to its server: `redis-cli -u ...`."""
    now: float
    """Unix time of the server."""
    streams: tuple[Flow, ...]
    living: frozenset[str]
    """Consumers whose heart beats."""
    open: dict[str, int]
    """Records in the memory of each component."""
    later: dict[str, tuple[int, int]]
    """Messages for later of each component: how many, and how many of them are overdue."""
    dead: int
    wrong: tuple[str, ...]
    """Keys that are of another type than they should be."""

    @property
    def run(self) -> str:
        return self.names.run

    @property
    def groups(self) -> list[Group]:
        """Those of components; after those of its clients the gateway looks itself."""
        everybody = [group for stream in self.streams for group in stream.groups]
        return [group for group in everybody if not is_client_group(group.name)]

    def lives(self, component: str) -> bool:
        """Whether any replica's heart beats."""
        return any(consumer.partition("~")[0] == component for consumer in self.living)


def look(client: redis.Redis, names: Names, command: str) -> Look:
    """Looks. Raises ResponseError for what this user may not do."""
    system = registry.system_of_run(client, names)
    keys = sorted(_streams(client, names, system))
    components = sorted(_components(client, names, system))
    prefix = names.alive("")
    alive = scanned(client, pattern(names.alive("")) + "*")
    seconds, _ = client.time()
    with client.pipeline(transaction=True) as together:
        for key in keys:
            together.xinfo_stream(key)
            together.xinfo_groups(key)
            together.memory_usage(key, samples=5)
        for component in components:
            together.hlen(names.memory(component))
            together.zcard(names.later(component))
            together.zcount(names.later(component), "-inf", int((int(seconds) - OVERDUE_S) * 1000))
        together.xlen(names.dead())
        answers = together.execute(raise_on_error=False)
    asked = [*_each(keys, 3), *_each(map(names.memory, components), 3), names.dead()]
    wrong = {k for k, answer in zip(asked, answers, strict=True) if _is(answer, "WRONGTYPE")}
    values = [None if isinstance(answer, Exception) else answer for answer in answers]
    rest = values[3 * len(keys) :]
    return Look(
        client=client,
        names=names,
        system=system,
        command=command,
        now=float(seconds),
        streams=tuple(flow(names, k, *values[3 * i : 3 * i + 3]) for i, k in enumerate(keys)),
        living=frozenset(key.removeprefix(prefix) for key in alive),
        open={name: rest[3 * i] or 0 for i, name in enumerate(components)},
        later={
            name: (rest[3 * i + 1] or 0, rest[3 * i + 2] or 0) for i, name in enumerate(components)
        },
        dead=values[-1] or 0,
        wrong=tuple(sorted(wrong)),
    )


def _each(keys: Iterable[str], times: int) -> list[str]:
    return [key for key in keys for _ in range(times)]


def _is(answer: Any, kind: str) -> bool:
    return isinstance(answer, Exception) and str(answer).startswith(kind)


def _streams(client: redis.Redis, names: Names, system: System | None) -> set[str]:
    """Those of the contract; where it is not known, those that are there."""
    if system is not None:
        return {names.stream(room, type_) for room, type_, _ in runs.groups(system, names)}
    return set(scanned(client, names.everything(), "stream")) - {names.dead()}


def _components(client: redis.Redis, names: Names, system: System | None) -> set[str]:
    return registry.components_of(client, names) | set(system.components if system else ())


def place(names: Names, key: str) -> str:
    """The room and TYPE of a stream, as people name them."""
    return " ".join(streams.place(names, key))
