"""What stands in Redis, read when Prometheus asks, and never by the loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from roomgrad.codec import unpack
from roomgrad.errors import RoomgradError
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import connect
from roomgrad.runtime import heartbeats

PATIENCE_S = 2.0  # for a server that is away; Prometheus itself waits for ten seconds
LOSSES = "losses"

WHO = ("run", "component")
PLACE = (*WHO, "room", "type")

ABOUT = {
    "roomgrad_server_up": ("Whether the server answered, 1 or 0.", WHO),
    "roomgrad_waiting": ("Messages that nobody of the component has in hand yet.", PLACE),
    "roomgrad_pending": ("Messages in the hands of a replica, not committed.", PLACE),
    "roomgrad_dead_letters": ("Dead letters of the run.", WHO),
    "roomgrad_open": ("Records in the component's memory: roots that are open.", WHO),
    "roomgrad_replicas": ("Living replicas of each component of the run.", (*WHO, "of")),
    "roomgrad_step": ("Steps of the component's model.", WHO),
    "roomgrad_counted": ("What the component counts in Redis.", (*WHO, "name")),
    "roomgrad_loss": ("Loss of the newest batch.", WHO),
    "roomgrad_miss_metres": ("Mean distance of its shots from their targets.", WHO),
}


class RunCollector(Collector):
    """Gauges of one component of a run. A server that is away is a reading, too."""

    def __init__(
        self,
        component: str,
        names: Names,
        url: str,
        password_file: str,
        streams: Sequence[tuple[str, str]],
    ) -> None:
        self._component = component
        self._names = names
        self._streams = list(streams)
        self._who = (names.run, component)
        self._url, self._password_file = for_run(url, names.run), password_file
        self._client: redis.Redis | None = None
        self._one_at_a_time = threading.Lock()

    def describe(self) -> Iterator[Metric]:
        """Nothing is read for it."""
        return iter([_family(name) for name in ABOUT])

    def collect(self) -> Iterator[Metric]:
        """All of it, of one moment."""
        with self._one_at_a_time:
            found = {name: _family(name) for name in ABOUT}
            try:
                self._read(found)
                up = 1
            except (OSError, redis.RedisError, RoomgradError):
                self.close()
                found, up = {name: _family(name) for name in ABOUT}, 0
            found["roomgrad_server_up"].add_metric(self._who, up)
        yield from found.values()

    def close(self) -> None:
        """Closes the connection; the next look opens it again."""
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
        self._of_streams(found, replies)
        found["roomgrad_dead_letters"].add_metric(self._who, _count(dead))
        found["roomgrad_open"].add_metric(self._who, _count(records))
        living = heartbeats.living(client, self._names)
        for other in sorted(registry.components_of(client, self._names)):
            found["roomgrad_replicas"].add_metric((*self._who, other), living[other])
        self._of_training(found, client)

    def _of_streams(self, found: dict[str, Any], replies: Sequence[Any]) -> None:
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
                where = (*self._who, *stream)
                found["roomgrad_waiting"].add_metric(where, lag)
                found["roomgrad_pending"].add_metric(where, group["pending"])

    def _of_training(self, found: dict[str, Any], client: redis.Redis) -> None:
        step: Any = client.hget(self._names.model(self._component), "step")
        if step is not None:
            found["roomgrad_step"].add_metric(self._who, int(step))
        counters: Any = client.hgetall(self._names.counters(self._component))
        for name, value in sorted(counters.items()):
            found["roomgrad_counted"].add_metric((*self._who, name.decode()), int(value))
        if b"finished" in counters:  # it is the one who knows the loss
            newest = self._newest(client, int(counters[b"finished"]))
            for name, key in (("roomgrad_loss", "loss"), ("roomgrad_miss_metres", "miss_m")):
                if key in newest:
                    found[name].add_metric(self._who, float(newest[key]))

    def _newest(self, client: redis.Redis, finished: int) -> dict[str, Any]:
        """Batches are numbered, and the loss of one is known before it is finished."""
        near = [str(finished + ahead) for ahead in (1, 0, -1, -2)]
        values: Any = client.hmget(self._names.table(LOSSES), near)
        return next((dict(unpack(value)) for value in values if value is not None), {})


def _count(reply: Any) -> int:
    """Return a number of entries or records, 0 if the server refused to tell it."""
    if isinstance(reply, redis.exceptions.NoPermissionError):
        raise reply
    return reply if isinstance(reply, int) else 0


def _family(name: str) -> Any:  # its methods have no types
    sentence, labels = ABOUT[name]
    kind = CounterMetricFamily if name == "roomgrad_counted" else GaugeMetricFamily
    return kind(name, sentence, labels=labels)
