"""How far a run is, how fast it goes, and what holds it up; for any system."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import redis

from roomgrad import systems
from roomgrad.inspect.entries import MessageHeader
from roomgrad.inspect.members import alike, family, order, spans
from roomgrad.inspect.replicas import ReplicaState
from roomgrad.inspect.snapshot import RunSnapshot
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.runtime.joins import INCOMPLETE, LATE
from roomgrad.systems import Progress

WINDOW_S = 30.0  # over which the pace is measured
SHORTEST_S = 2.0  # of a measurement: a shorter one would jump


def read(client: redis.Redis, names: Names) -> Progress | None:
    """Return the progress by the ledger of the run's system, or else its components' counters.

    What its joins count is among the details of every system.
    """
    system = registry.system_of_run(client, names)
    plugin = systems.installed().get(system.name) if system else None
    counted = _counters(client, names, registry.components_of(client, names))
    if not plugin or not plugin.progress:
        return _counted(counted) if counted else None
    found: Progress | None = systems.load(plugin.progress)(client, names)
    return found and replace(found, details=(*found.details, *_sums(counted, (INCOMPLETE, LATE))))


def _counters(
    client: redis.Redis, names: Names, components: Iterable[str]
) -> dict[str, dict[str, int]]:
    """Return what each component counts, in the order of their names."""
    asked = sorted(components, key=order)
    with client.pipeline(transaction=False) as pipeline:
        for component in asked:
            pipeline.hgetall(names.counters(component))
        answers: list[Any] = pipeline.execute()
    return {
        component: {name.decode(): int(value) for name, value in sorted(found.items())}
        for component, found in zip(asked, answers, strict=True)
        if found
    }


def _counted(counted: Mapping[str, Mapping[str, int]]) -> Progress:
    """Return counters as progress; for a person those of an ensemble are added up."""
    details = [
        f"{name} {text}"
        for each in alike(counted, family)
        for [name] in [spans(each)]
        for text in _sums({component: counted[component] for component in each})
    ]
    return Progress(0, None, "", tuple(details), counted)


def _sums(
    counted: Mapping[str, Mapping[str, int]], of: Container[str] | None = None
) -> Iterator[str]:
    """Yield what components count together, by name."""
    total: Counter[str] = Counter()
    for each in counted.values():
        total.update(each)
    for names in alike(total, family):
        if of is None or names[0] in of:
            yield f"{spans(names)[0]} {sum(total[name] for name in names):,}"


class Pace:
    """Units a second over the last half minute."""

    def __init__(self) -> None:
        self._moments: deque[tuple[float, int]] = deque()

    def update(self, now_s: float, done: int) -> float | None:
        """Return the pace, None until it can be measured. now_s: by the server's clock."""
        if self._moments and done < self._moments[-1][1]:  # the run has begun again
            self._moments.clear()
        self._moments.append((now_s, done))
        while now_s - self._moments[0][0] > WINDOW_S:
            self._moments.popleft()
        since_s, before = self._moments[0]
        seconds = now_s - since_s
        return (done - before) / seconds if seconds >= SHORTEST_S else None


class Restarts:
    """Replicas that took the place of others, since this was created."""

    def __init__(self) -> None:
        self.count = 0
        self._alive: dict[str, set[str]] = {}
        self._gone: dict[str, int] = {}

    def update(self, replicas: Iterable[ReplicaState]) -> int:
        """Return the number of restarts. Another replica beside the others is none."""
        now: dict[str, set[str]] = {}
        for each in replicas:
            now.setdefault(each.component, set()).update([each.consumer] if each.alive else ())
        for component, alive in now.items():
            before = self._alive.get(component, set())
            gone = self._gone.get(component, 0) + len(before - alive)
            again = min(gone, len(alive - before)) if before or gone else 0
            self._gone[component] = gone - again
            self.count += again
        self._alive = now
        return self.count


@dataclass(frozen=True)
class RunProgress:
    """What a person who waits for a run wants to know; None for what is not known."""

    unit: str = ""
    """What is counted, in the plural; empty if the system counts nothing."""

    done: int = 0
    total: int | None = None
    per_s: float | None = None
    left_s: float | None = None
    details: tuple[str, ...] = ()
    restarts: int = 0
    """Since this reader was created."""

    memory: int | None = None
    """Bytes that the server uses."""

    memory_limit: int | None = None
    """Bytes that the server may use; None if it has no limit."""

    slowest: str = ""
    """The component that takes longest for a message."""

    slowest_ms: float | None = None


class ProgressReader:
    """Reads the progress of a run again and again."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._pace = Pace()
        self._restarts = Restarts()

    def read(
        self,
        client: redis.Redis,
        now: RunSnapshot,
        replicas: Iterable[ReplicaState],
        messages: Iterable[MessageHeader],
    ) -> RunProgress:
        """Return the progress. replicas, messages: of the run; the newest messages suffice."""
        memory, limit = _memory(client)
        component, took_ms = slowest(messages)
        found = RunProgress(
            restarts=self._restarts.update(replicas),
            memory=memory,
            memory_limit=limit,
            slowest=component,
            slowest_ms=took_ms,
        )
        progress = read(client, self._names)
        return self._with(found, progress, now.now_us / 1e6) if progress else found

    def _with(self, found: RunProgress, progress: Progress, now_s: float) -> RunProgress:
        per_s = self._pace.update(now_s, progress.done) if progress.unit else None
        left_s = None
        if progress.total is not None and per_s:
            left_s = max(0, progress.total - progress.done) / per_s
        return replace(
            found,
            unit=progress.unit,
            done=progress.done,
            total=progress.total,
            details=progress.details,
            per_s=per_s,
            left_s=left_s,
        )


def slowest(messages: Iterable[MessageHeader]) -> tuple[str, float | None]:
    """Return the component that takes longest for a message, and its mean time in ms.

    The time is from the call of its handler until its commit is sent. Empty if no message tells.
    """
    took: dict[str, list[float]] = {}
    for each in messages:
        if each.times is not None and each.sent_by:
            took.setdefault(each.sent_by, []).append((each.times.sent - each.times.began) / 1000)
    means = {component: sum(times) / len(times) for component, times in took.items()}
    name = max(means, key=lambda each: means[each], default="")
    return name, means.get(name)


def _memory(client: redis.Redis) -> tuple[int | None, int | None]:
    """Return the bytes that the server uses and may use; None if it does not tell."""
    try:
        info: Any = client.info("memory")
    except redis.exceptions.ResponseError:  # not permitted, or no such command
        return None, None
    return info.get("used_memory"), info.get("maxmemory") or None
