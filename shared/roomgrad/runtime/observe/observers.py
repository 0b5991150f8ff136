"""Those who watch a replica at its work; by default nobody does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import structlog

from roomgrad.component import Component
from roomgrad.errors import SettingsError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.runtime.observe import otel_env
from roomgrad.runtime.observe.log_lines import Lines
from roomgrad.runtime.observe.outcome import Observer, Outcome
from roomgrad.settings import RuntimeSettings

log = structlog.get_logger("roomgrad")

MISSING = (
    "{asked} asks for {what}, but {package} is not installed: pip install 'roomgrad[observe]', or "
    "leave {asked} empty."
)


class Observers:
    """Tells each of them, and protects the loop from what they raise."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._all = tuple(observers)

    def handled(self, done: Outcome) -> None:
        """A message is done with."""
        for each in self._all:
            try:
                each.handled(done)
            except Exception as error:
                log.error("a message could not be observed", exc_info=error)

    def sent(self, messages: Sequence[Message]) -> None:
        """A component has spoken first."""
        for each in self._all:
            try:
                each.sent(messages)
            except Exception as error:
                log.error("a message could not be observed", exc_info=error)

    def close(self) -> None:
        """Lets them bring home what they know."""
        for each in self._all:
            each.close()


def observers(
    component: Component, settings: RuntimeSettings, names: Names, consumer: str, url: str
) -> Observers:
    """Those that the settings ask for. Raises SettingsError where one of them cannot work."""
    found: list[Observer] = []
    if settings.log_level == "debug":
        found.append(Lines())
    if settings.metrics_port:
        streams = [stream.key for stream in component.streams]
        found.append(_metrics(component.name, settings, names, url, streams))
    if asked := otel_env.spans(os.environ):
        found.append(_spans(asked, component, names, consumer))
    return Observers(found)


@contextlib.contextmanager
def metrics(component: str, settings: RuntimeSettings, names: Names, url: str) -> Iterator[None]:
    """Metrics of a program without a replica, while the block lasts, if the settings ask for them.

    Raises SettingsError where they cannot be served.
    """
    if not settings.metrics_port:
        yield
        return
    with contextlib.closing(_metrics(component, settings, names, url, ())):
        yield


def _metrics(
    component: str,
    settings: RuntimeSettings,
    names: Names,
    url: str,
    streams: Sequence[tuple[str, str]],
) -> Observer:
    try:
        from roomgrad.runtime.observe.metrics import Metrics
    except ImportError:
        package = "prometheus-client"
        raise SettingsError(
            MISSING.format(asked="METRICS_PORT", what="metrics", package=package)
        ) from None
    return Metrics(component, settings, names, url, streams)


def _spans(asked: str, component: Component, names: Names, consumer: str) -> Observer:
    try:
        from roomgrad.runtime.observe.spans import Spans
    except ImportError:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise SettingsError(MISSING.format(asked=asked, what="spans", package=package)) from None
    return Spans(component, names, consumer)
