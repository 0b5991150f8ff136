"""Prometheus metrics of the components of a process, at a port."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from typing import Any

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    start_http_server,
)

from roomgrad.errors import SettingsError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.redis.server_address import AnyAddress
from roomgrad.runtime.observe.collectors import Observed, RunCollector
from roomgrad.runtime.observe.outcome import SKIPPED, Outcome
from roomgrad.settings import RuntimeSettings

log = structlog.get_logger("roomgrad")

PORTS = 100  # tried from METRICS_PORT on; processes on one machine use one each
SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0)


class Metrics:
    """Counts what only the loop knows; the rest is read from Redis at each scrape.

    Replicas of several components in one process, like members of an ensemble, share a port.
    """

    def __init__(
        self, settings: RuntimeSettings, names: Names, url: AnyAddress, observed: Observed
    ) -> None:
        self._who = (names.run, observed.component)
        self._component = observed.component
        key = (names.run, str(url), settings.metrics_host, settings.metrics_port)
        with _LOCK:
            endpoints = _ENDPOINTS.setdefault(key, [])
            free = (each for each in endpoints if self._component not in each.observed)
            self._endpoint = next(free, None) or Endpoint(settings, names, url, endpoints)
            self._endpoint.observed[self._component] = observed
        self.port = self._endpoint.port

    def handled(self, outcome: Outcome) -> None:
        """Count one message."""
        counted, where = self._endpoint, (*self._who, *outcome.delivery.stream.key)
        counted.messages.labels(*where, outcome.outcome).inc()
        if outcome.outcome != SKIPPED:
            counted.seconds.labels(*where).observe(outcome.handler_s)
        if outcome.delivery.count > 1:
            counted.redelivered.labels(*where).inc()

    def sent(self, messages: Sequence[Message]) -> None:
        """Do nothing: the component that handles a message counts it."""

    def close(self) -> None:
        """Leave the port; the last replica stops its server and closes the connection."""
        with _LOCK:
            del self._endpoint.observed[self._component]
            if not self._endpoint.observed:
                self._endpoint.close()


class Endpoint:
    """A port of this process with the metrics of a replica of each of some components."""

    def __init__(
        self, settings: RuntimeSettings, names: Names, url: AnyAddress, among: list[Endpoint]
    ) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.messages = Counter(
            "roomgrad_messages",
            "Messages that this replica has handled, by outcome.",
            ("run", "component", "room", "type", "outcome"),
            registry=registry,
        )
        self.seconds = Histogram(
            "roomgrad_handler_seconds",
            "Seconds in the handlers of one message.",
            ("run", "component", "room", "type"),
            buckets=SECONDS,
            registry=registry,
        )
        self.redelivered = Counter(
            "roomgrad_redelivered",
            "Messages that had been delivered before, to this replica or another one.",
            ("run", "component", "room", "type"),
            registry=registry,
        )
        self._collector = RunCollector(names, url, settings.redis_password_file)
        self.observed = self._collector.observed
        registry.register(self._collector)
        self._server, self._thread = _serve(settings, registry)
        self.port: int = self._server.server_port
        self._among = among
        among.append(self)
        log.info("metrics", at=f"http://{settings.metrics_host}:{self.port}/metrics")

    def close(self) -> None:
        """Stop the server and close the connection."""
        self._among.remove(self)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._collector.close()


_ENDPOINTS: dict[tuple[str, str, str, int], list[Endpoint]] = {}
_LOCK = threading.Lock()


def _serve(settings: RuntimeSettings, registry: CollectorRegistry) -> Any:
    """Return the server at the first free port, and its thread. Raises SettingsError."""
    host, first = settings.metrics_host, settings.metrics_port
    last = min(first + PORTS, 65536) - 1
    for port in range(first, last + 1):
        try:
            return start_http_server(port, host, registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SettingsError(
                    f"metrics cannot be served at {host}:{port}: {error.strerror}; set "
                    f"ROOMGRAD_METRICS_HOST and ROOMGRAD_METRICS_PORT."
                ) from error
    raise SettingsError(
        f"the ports {first} to {last} of {host} are all taken: set another ROOMGRAD_METRICS_PORT."
    )
