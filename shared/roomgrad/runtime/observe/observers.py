"""The observers of a replica, by its settings; by default there are none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import structlog

from roomgrad.clock import ServerClock
from roomgrad.errors import SettingsError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.redis.server_address import AnyAddress
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.observe import otel_env
from roomgrad.runtime.observe.log_lines import Lines
from roomgrad.runtime.observe.outcome import Observer, Outcome
from roomgrad.runtime.observe.progress_lines import ProgressLines
from roomgrad.settings import RuntimeSettings
from roomgrad.systems import Gauge, installed, load

log = structlog.get_logger("roomgrad")

MISSING = (
    "{asked} asks for {what}, but {package} is not installed: pip install 'roomgrad[observe]', or "
    "leave {asked} empty."
)


class Observers:
    """Calls each observer, and logs what they raise."""

    def __init__(self, component: str, observers: Sequence[Observer] = ()) -> None:
        self._lines = ProgressLines(component)
        self._all = (*observers, self._lines)

    def handled(self, outcome: Outcome) -> None:
        """Pass on the outcome of a message."""
        for each in self._all:
            try:
                each.handled(outcome)
            except Exception as error:
                log.error("a message could not be observed", exc_info=error)

    def sent(self, messages: Sequence[Message]) -> None:
        """Pass on the first messages of a run."""
        for each in self._all:
            try:
                each.sent(messages)
            except Exception as error:
                log.error("a message could not be observed", exc_info=error)

    def idle(self) -> None:
        """Note that no message has come for a while."""
        self._lines.idle()

    def close(self) -> None:
        """Close each observer."""
        for each in self._all:
            each.close()


def observers(identity: Identity, url: AnyAddress, clock: ServerClock) -> Observers:
    """Return the observers that settings and environment ask for. Raises SettingsError."""
    component, settings, names = identity.component, identity.settings, identity.names
    found: list[Observer] = []
    if settings.log_level == "debug":
        found.append(Lines())
    if settings.metrics_port:
        streams = [stream.key for stream in component.streams]
        plugin = installed().get(component.system.name)
        all_gauges = load(plugin.metrics) if plugin else ()
        gauges = [each for each in all_gauges if each.component == component.name]
        found.append(_metrics(settings, names, url, component.name, streams, gauges))
    if asked := otel_env.spans(os.environ):
        found.append(_spans(asked, identity, clock))
    return Observers(component.name, found)


@contextlib.contextmanager
def metrics(
    component: str, settings: RuntimeSettings, names: Names, url: AnyAddress
) -> Iterator[None]:
    """Serve metrics of a program without a replica within the block, if the settings ask for them.

    Raises SettingsError if they cannot be served.
    """
    if not settings.metrics_port:
        yield
        return
    with contextlib.closing(_metrics(settings, names, url, component)):
        yield


def _metrics(
    settings: RuntimeSettings,
    names: Names,
    url: AnyAddress,
    component: str,
    streams: Sequence[tuple[str, str]] = (),
    gauges: Sequence[Gauge] = (),
) -> Observer:
    try:
        from roomgrad.runtime.observe.collectors import Observed
        from roomgrad.runtime.observe.metrics import Metrics
    except ImportError:
        package = "prometheus-client"
        raise SettingsError(
            MISSING.format(asked="METRICS_PORT", what="metrics", package=package)
        ) from None
    return Metrics(settings, names, url, Observed(component, streams, gauges))


def _spans(asked: str, identity: Identity, clock: ServerClock) -> Observer:
    try:
        from roomgrad.runtime.observe.spans import Spans
    except ImportError:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise SettingsError(MISSING.format(asked=asked, what="spans", package=package)) from None
    return Spans(identity, clock)
