"""Metrics that are read from Redis at each scrape, and never by the loop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from roomgrad.clock import server_time
from roomgrad.codec import unpack
from roomgrad.display import number
from roomgrad.errors import RoomgradError, SnapshotError
from roomgrad.names import Names
from roomgrad.redis import heartbeats, registry
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import connect
from roomgrad.redis.server_address import AnyAddress
from roomgrad.snapshots import pointers
from roomgrad.snapshots.pointers import Snapshot
from roomgrad.systems import Gauge

PATIENCE_S = 2.0  # for an unavailable server; Prometheus itself waits for ten seconds
NEWEST = (1, 0, -1, -2)  # numbers of records around the counter `finished`, newest first

COMPONENT = ("run", "component")
STREAM = (*COMPONENT, "room", "type")

FAMILIES = {
    "roomgrad_server_up": ("Whether the server answered, 1 or 0.", COMPONENT),
    "roomgrad_waiting": ("Messages that no replica of the component has been given yet.", STREAM),
    "roomgrad_pending": ("Messages that a replica has been given and has not committed.", STREAM),
    "roomgrad_dead_letters": ("Dead letters of the run.", COMPONENT),
    "roomgrad_open": ("Records in the component's memory: roots that are open.", COMPONENT),
    "roomgrad_replicas": ("Living replicas of each component of the run.", (*COMPONENT, "of")),
    "roomgrad_step": ("Steps of the component's model.", COMPONENT),
    "roomgrad_snapshot_age_steps": ("Steps since the newest snapshot of the model.", COMPONENT),
    "roomgrad_snapshot_age_seconds": ("Age of the newest snapshot of the model.", COMPONENT),
    "roomgrad_log_steps": ("Steps in the log of the model.", COMPONENT),
    "roomgrad_log_bytes": ("Memory of the server that the log takes.", COMPONENT),
    "roomgrad_counted": ("What the component counts in Redis.", (*COMPONENT, "name")),
}

LOSS = Gauge("roomgrad_loss", "Loss of the newest batch.", "", "losses", "loss")


@dataclass(frozen=True)
class Observed:
    """A component, what it reads, and the gauges of its system."""

    component: str
    streams: Sequence[tuple[str, str]] = ()
    gauges: Sequence[Gauge] = ()
    """Each is a field of the newest record of a table."""


class RunCollector(Collector):
    """Gauges of components of a run, by one connection; of an unavailable server, that it is down.

    observed: the components, to which others may be added later.
    """

    def __init__(
        self,
        names: Names,
        url: AnyAddress,
        password_file: str,
        observed: Sequence[Observed] = (),
    ) -> None:
        self._names = names
        self._url, self._password_file = for_run(url, names.run), password_file
        self._client: redis.Redis | None = None
        self._lock = threading.Lock()
        self.observed = {each.component: each for each in observed}

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without values; nothing is read."""
        return iter(_families([LOSS]).values())

    def collect(self) -> Iterator[Metric]:
        """Read all metrics."""
        with self._lock:
            observed = [*self.observed.values()]
            gauges = [LOSS, *(gauge for each in observed for gauge in each.gauges)]
            found = _families(gauges)
            try:
                self._read(found, observed)
                up = 1
            except (OSError, redis.RedisError, RoomgradError):
                self.close()
                found, up = _families(gauges), 0
            for each in observed:
                found["roomgrad_server_up"].add_metric((self._names.run, each.component), up)
        yield from found.values()

    def close(self) -> None:
        """Close the connection; the next scrape opens it again."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connect(self) -> redis.Redis:
        return connect(self._url, self._password_file, PATIENCE_S)

    def _read(self, found: dict[str, Any], observed: Sequence[Observed]) -> None:
        client = self._client = self._client or self._connect()
        living = heartbeats.living(client, self._names)
        replicas = {each: living[each] for each in registry.components_of(client, self._names)}
        for each in observed:
            _Reader(client, self._names, each, found).read(replicas)


class _Reader:
    """Reads the metrics of one component into the families of all."""

    def __init__(
        self, client: redis.Redis, names: Names, observed: Observed, found: dict[str, Any]
    ) -> None:
        self._client: Any = client
        self._names = names
        self._component, self._streams = observed.component, observed.streams
        self._gauges = (LOSS, *observed.gauges)
        self._labels = (names.run, observed.component)
        self._found = found

    def read(self, replicas: Mapping[str, int]) -> None:
        """Read all metrics. replicas: the living ones of each component of the run."""
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.xlen(self._names.dead())
            pipeline.hlen(self._names.memory(self._component))
            for stream in self._streams:
                pipeline.xinfo_stream(self._names.stream(*stream))
                pipeline.xinfo_groups(self._names.stream(*stream))
            dead, records, *replies = pipeline.execute(raise_on_error=False)
        self._read_streams(replies)
        self._add("dead_letters", _count(dead))
        self._add("open", _count(records))
        for other, living in sorted(replicas.items()):
            self._add("replicas", living, other)
        self._read_training()

    def _add(self, name: str, value: float, *labels: str) -> None:
        self._found[f"roomgrad_{name}"].add_metric((*self._labels, *labels), value)

    def _read_streams(self, replies: Sequence[Any]) -> None:
        for stream, info, groups in zip(self._streams, replies[::2], replies[1::2], strict=True):
            for reply in (info, groups):
                if isinstance(reply, redis.exceptions.NoPermissionError):
                    raise reply
            if isinstance(info, redis.RedisError) or isinstance(groups, redis.RedisError):
                continue  # the stream does not exist yet
            for group in groups:
                if group["name"].decode(errors="replace") != self._component:
                    continue
                lag = group.get("lag")  # None if the server has lost count: then at least 0 or 1
                if lag is None:
                    lag = int(group["last-delivered-id"] != info["last-generated-id"])
                self._add("waiting", lag, *stream)
                self._add("pending", group["pending"], *stream)

    def _read_training(self) -> None:
        step, stored = self._client.hmget(
            self._names.model(self._component), "step", pointers.FIELD
        )
        if step is not None:
            self._add("step", int(step))
            with contextlib.suppress(SnapshotError):  # doctor reports pointers that are damaged
                self._read_model(int(step), pointers.from_json(stored))
        counters = self._client.hgetall(self._names.counters(self._component))
        for name, value in sorted(counters.items()):
            self._add("counted", int(value), name.decode())
        if b"finished" in counters:
            self._read_gauges(int(counters[b"finished"]))

    def _read_model(self, step: int, stored: Sequence[Snapshot]) -> None:
        log = self._names.steps(self._component)
        self._add("log_steps", self._client.xlen(log))
        self._add("log_bytes", self._client.memory_usage(log) or 0)
        if stored:
            self._add("snapshot_age_steps", step - stored[0].step)
            self._add("snapshot_age_seconds", server_time(self._client) - stored[0].at)

    def _read_gauges(self, finished: int) -> None:
        """Read the gauges from the newest record of each table.

        Records are numbered like the batches that are counted as `finished`, but may be written a
        little before.
        """
        near = [str(finished + ahead) for ahead in NEWEST]
        for table in {gauge.table for gauge in self._gauges}:
            values = self._client.hmget(self._names.table(table), near)
            newest = next((dict(unpack(value)) for value in values if value is not None), {})
            for gauge in self._gauges:
                if gauge.table == table and gauge.field in newest:
                    value = number(newest[gauge.field])
                    self._found[gauge.name].add_metric(self._labels, value)


def _families(gauges: Iterable[Gauge]) -> dict[str, Any]:
    named = {gauge.name: (gauge.about, COMPONENT) for gauge in gauges}
    return {name: _family(name, *about) for name, about in {**FAMILIES, **named}.items()}


def _count(reply: Any) -> int:
    """Return a number of entries or records, 0 if the server refused to tell it."""
    if isinstance(reply, redis.exceptions.NoPermissionError):
        raise reply
    return reply if isinstance(reply, int) else 0


def _family(name: str, about: str, labels: Sequence[str]) -> Any:  # its methods have no types
    kind = CounterMetricFamily if name == "roomgrad_counted" else GaugeMetricFamily
    return kind(name, about, labels=labels)
