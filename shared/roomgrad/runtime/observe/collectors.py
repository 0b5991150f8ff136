"""Metrics that are read from Redis at each scrape, and never by the loop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
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


class RunCollector(Collector):
    """Gauges of one component of a run; of an unavailable server, that it is down.

    gauges: of the component's system; each is a field of the newest record of a table.
    """

    def __init__(
        self,
        component: str,
        names: Names,
        url: AnyAddress,
        password_file: str,
        streams: Sequence[tuple[str, str]] = (),
        gauges: Sequence[Gauge] = (),
    ) -> None:
        self._component = component
        self._names = names
        self._streams = list(streams)
        self._gauges = (LOSS, *gauges)
        self._labels = (names.run, component)
        self._url, self._password_file = for_run(url, names.run), password_file
        self._client: redis.Redis | None = None
        self._lock = threading.Lock()

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without values; nothing is read."""
        return iter(self._families().values())

    def collect(self) -> Iterator[Metric]:
        """Read all metrics."""
        with self._lock:
            found = self._families()
            try:
                self._read(found)
                up = 1
            except (OSError, redis.RedisError, RoomgradError):
                self.close()
                found, up = self._families(), 0
            found["roomgrad_server_up"].add_metric(self._labels, up)
        yield from found.values()

    def close(self) -> None:
        """Close the connection; the next scrape opens it again."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connect(self) -> redis.Redis:
        return connect(self._url, self._password_file, PATIENCE_S)

    def _read(self, found: dict[str, Any]) -> None:
        client = self._client = self._client or self._connect()
        with client.pipeline(transaction=False) as pipeline:
            pipeline.xlen(self._names.dead())
            pipeline.hlen(self._names.memory(self._component))
            for stream in self._streams:
                pipeline.xinfo_stream(self._names.stream(*stream))
                pipeline.xinfo_groups(self._names.stream(*stream))
            dead, records, *replies = pipeline.execute(raise_on_error=False)
        self._read_streams(found, replies)
        found["roomgrad_dead_letters"].add_metric(self._labels, _count(dead))
        found["roomgrad_open"].add_metric(self._labels, _count(records))
        living = heartbeats.living(client, self._names)
        for other in sorted(registry.components_of(client, self._names)):
            found["roomgrad_replicas"].add_metric((*self._labels, other), living[other])
        self._read_training(found, client)

    def _read_streams(self, found: dict[str, Any], replies: Sequence[Any]) -> None:
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
                where = (*self._labels, *stream)
                found["roomgrad_waiting"].add_metric(where, lag)
                found["roomgrad_pending"].add_metric(where, group["pending"])

    def _read_training(self, found: dict[str, Any], client: redis.Redis) -> None:
        model: Any = client.hmget(self._names.model(self._component), "step", pointers.FIELD)
        step, stored = model
        if step is not None:
            found["roomgrad_step"].add_metric(self._labels, int(step))
            with contextlib.suppress(SnapshotError):  # doctor reports pointers that are damaged
                self._read_model(found, client, int(step), pointers.from_json(stored))
        counters: Any = client.hgetall(self._names.counters(self._component))
        for name, value in sorted(counters.items()):
            found["roomgrad_counted"].add_metric((*self._labels, name.decode()), int(value))
        if b"finished" in counters:
            self._read_gauges(found, client, int(counters[b"finished"]))

    def _read_model(
        self, found: dict[str, Any], client: redis.Redis, step: int, stored: Sequence[Snapshot]
    ) -> None:
        log = self._names.steps(self._component)
        values: dict[str, Any] = {"log_steps": client.xlen(log)}
        values["log_bytes"] = client.memory_usage(log) or 0
        if stored:
            values["snapshot_age_steps"] = step - stored[0].step
            values["snapshot_age_seconds"] = server_time(client) - stored[0].at
        for name, value in values.items():
            found[f"roomgrad_{name}"].add_metric(self._labels, value)

    def _read_gauges(self, found: dict[str, Any], client: redis.Redis, finished: int) -> None:
        """Read the gauges from the newest record of each table.

        Records are numbered like the batches that are counted as `finished`, but may be written a
        little before.
        """
        near = [str(finished + ahead) for ahead in NEWEST]
        for table in {gauge.table for gauge in self._gauges}:
            values: Any = client.hmget(self._names.table(table), near)
            newest = next((dict(unpack(value)) for value in values if value is not None), {})
            for gauge in self._gauges:
                if gauge.table == table and gauge.field in newest:
                    found[gauge.name].add_metric(self._labels, number(newest[gauge.field]))

    def _families(self) -> dict[str, Any]:
        named = {gauge.name: (gauge.about, COMPONENT) for gauge in self._gauges}
        return {name: _family(name, *about) for name, about in {**FAMILIES, **named}.items()}


def _count(reply: Any) -> int:
    """Return a number of entries or records, 0 if the server refused to tell it."""
    if isinstance(reply, redis.exceptions.NoPermissionError):
        raise reply
    return reply if isinstance(reply, int) else 0


def _family(name: str, about: str, labels: Sequence[str]) -> Any:  # its methods have no types
    kind = CounterMetricFamily if name == "roomgrad_counted" else GaugeMetricFamily
    return kind(name, about, labels=labels)
