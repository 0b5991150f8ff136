"""Prometheus metrics of a component, at a port of its own."""

from __future__ import annotations

import errno
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
from roomgrad.runtime.observe.collectors import RunCollector
from roomgrad.runtime.observe.outcome import SKIPPED, Outcome
from roomgrad.settings import RuntimeSettings
from roomgrad.systems import Gauge

log = structlog.get_logger("roomgrad")

PORTS = 100  # tried from METRICS_PORT on; components on one machine use one each
SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0)


class Metrics:
    """Counts what only the loop knows; the rest is read from Redis at each scrape."""

    def __init__(
        self,
        component: str,
        settings: RuntimeSettings,
        names: Names,
        url: AnyAddress,
        streams: Sequence[tuple[str, str]] = (),
        gauges: Sequence[Gauge] = (),
    ) -> None:
        self._who = (names.run, component)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._messages = Counter(
            "roomgrad_messages",
            "Messages that this replica has handled, by outcome.",
            ("run", "component", "room", "type", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "roomgrad_handler_seconds",
            "Seconds in the handlers of one message.",
            ("run", "component", "room", "type"),
            buckets=SECONDS,
            registry=registry,
        )
        self._redelivered = Counter(
            "roomgrad_redelivered",
            "Messages that had been delivered before, to this replica or another one.",
            ("run", "component", "room", "type"),
            registry=registry,
        )
        self._collector = RunCollector(
            component, names, url, settings.redis_password_file, streams, gauges
        )
        registry.register(self._collector)
        self._server, self._thread = _serve(settings, registry)
        self.port: int = self._server.server_port
        log.info("metrics", at=f"http://{settings.metrics_host}:{self.port}/metrics")

    def handled(self, outcome: Outcome) -> None:
        """Count one message."""
        where = (*self._who, *outcome.delivery.stream.key)
        self._messages.labels(*where, outcome.outcome).inc()
        if outcome.outcome != SKIPPED:
            self._seconds.labels(*where).observe(outcome.handler_s)
        if outcome.delivery.count > 1:
            self._redelivered.labels(*where).inc()

    def sent(self, messages: Sequence[Message]) -> None:
        """Do nothing: the component that handles a message counts it."""

    def close(self) -> None:
        """Stop the server and close the connection."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._collector.close()


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
