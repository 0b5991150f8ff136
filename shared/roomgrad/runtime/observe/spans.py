"""OpenTelemetry spans: one tree for each root, through all components.

The trace ID of a root is its ROOT_ID. A component makes a span for each message that it handles,
and below it one for each message that it sends. The ID of the latter is a hash of room, TYPE, ID
and sender, so the next component finds its parent span without another field in the message.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from roomgrad.clock import ServerClock
from roomgrad.messages import Message
from roomgrad.names import ERRORS, LOGGING
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.observe.outcome import DEAD, RETRIED, Outcome

PATIENCE_S = 2.0  # for the collector, when the component ends
_HEX = re.compile(r"[0-9a-f]{32}")


def trace_id(root_id: str) -> int:
    """Return a ROOT_ID of 32 hexadecimal digits as a number, any other text as a hash."""
    found = int(root_id, 16) if _HEX.fullmatch(root_id) else 0
    return found or _hash(16, root_id)


def sending_id(message: Message) -> int:
    """Return the ID of the span in which a message was sent.

    The TYPE is hashed too, as a gradient has the ID of its forward message.
    """
    return _hash(8, message.room, message.type, message.id, message.sent_by)


def dead_letter_id(component: str, root_id: str) -> int:
    """Return the ID of the span in which a component gave up a root; notices are its children."""
    return _hash(8, "dead", component, root_id)


class Ids(IdGenerator):
    """Generates the IDs that were set before."""

    def __init__(self) -> None:
        self.trace = self.span = 0

    def generate_trace_id(self) -> int:
        """Return the trace ID that was set."""
        return self.trace

    def generate_span_id(self) -> int:
        """Return the span ID that was set."""
        return self.span


class Spans:
    """Makes the spans of one replica. A thread of its own exports them to the collector."""

    def __init__(self, identity: Identity, clock: ServerClock) -> None:
        component, names = identity.component, identity.names
        self._clock = clock
        self._component = component
        self._inbox = names.inbox(component.name)
        self._handlers: dict[tuple[str, str], list[str]] = {}
        for handler in component.handlers:
            name = getattr(handler.function, "__name__", "handler")
            self._handlers.setdefault(handler.key, []).append(name)
        resource = Resource.create(
            {
                "service.name": component.name,
                "service.namespace": names.run,
                "service.instance.id": identity.consumer,
            }
        )
        self._ids = Ids()
        self._provider = TracerProvider(
            resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("roomgrad")

    def handled(self, outcome: Outcome) -> None:
        """Make the spans of one message, and of those that its handlers sent."""
        delivery = outcome.delivery
        room, type_ = delivery.stream.key
        root_id = outcome.message.root_id if outcome.message else delivery.root_id()
        dead = outcome.outcome == DEAD
        own = dead_letter_id(self._component.name, root_id) if dead else _random()
        span = self._start(
            "process",
            SpanKind.CONSUMER,
            (root_id, own, self._parent(outcome)),
            (room, type_, delivery.message_id()),
            self._clock.unix_ns(outcome.began_ns),
        )
        span.set_attribute("messaging.consumer.group.name", self._component.name)
        span.set_attribute("code.function.name", ", ".join(self._handlers.get((room, type_), ())))
        span.set_attribute("roomgrad.outcome", outcome.outcome)
        span.set_attribute("roomgrad.deliveries", delivery.count)
        if dead or outcome.outcome == RETRIED:
            span.set_status(Status(StatusCode.ERROR, outcome.reason))
            span.add_event("exception", {"exception.message": outcome.reason})
        span.end(self._clock.unix_ns(time.monotonic_ns()))
        if outcome.attempt is not None:
            ended_ns = self._clock.unix_ns(outcome.attempt.ended_ns)
            self._send(outcome.sent, span.get_span_context(), root_id, ended_ns)

    def sent(self, messages: Sequence[Message]) -> None:
        """Make the spans of the first messages of a run."""
        self._send(messages, None, "", self._clock.unix_ns(time.monotonic_ns()))

    def close(self) -> None:
        """Export the remaining spans, for at most 2 s if the collector is unavailable."""
        ending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(PATIENCE_S)

    def _parent(self, outcome: Outcome) -> int:
        """Return the ID of the span in which the message was sent; 0 if no component sent it."""
        message = outcome.message
        if message is None or message.sent_by not in self._component.system.components:
            return 0
        if message.room == self._inbox:
            return dead_letter_id(message.sent_by, message.root_id)
        return sending_id(message)

    def _send(
        self, messages: Sequence[Message], by: SpanContext | None, root_id: str, at_ns: int
    ) -> None:
        """Make a span for each message; one of another root begins a trace, linked to this one."""
        for message in messages:
            if message.room in (ERRORS, LOGGING):
                continue
            same = by is not None and message.root_id == root_id
            span = self._start(
                "send",
                SpanKind.PRODUCER,
                (message.root_id, sending_id(message), by.span_id if by and same else 0),
                (message.room, message.type, message.id),
                at_ns,
                links=[trace.Link(by)] if by is not None and not same else [],
            )
            span.end(at_ns)

    def _start(
        self,
        operation: str,
        kind: SpanKind,
        ids: tuple[str, int, int],
        what: tuple[str, str, str],
        at_ns: int,
        links: Sequence[trace.Link] = (),
    ) -> trace.Span:
        """Start a span. ids: ROOT_ID, span ID, parent's span ID or 0; what: room, TYPE, ID."""
        root_id, self._ids.span, parent = ids
        self._ids.trace = trace_id(root_id)
        room, type_, id_ = what
        return self._tracer.start_span(
            f"{operation} {room} {type_}",
            _context(self._ids.trace, parent),
            kind,
            {
                "messaging.system": "roomgrad",
                "messaging.operation.type": operation,
                "messaging.operation.name": operation,
                "messaging.destination.name": room,
                "messaging.message.id": id_,
                "messaging.message.conversation_id": root_id,
                "roomgrad.type": type_,
            },
            links,
            at_ns,
        )


def _context(trace_number: int, parent: int) -> Context:
    """Return the context below a span of another process; an empty one if there is no parent."""
    if not parent:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED)
    at = SpanContext(trace_number, parent, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(at), Context())


def _hash(size: int, *words: str) -> int:
    """Return `size` bytes of a hash as a number other than 0, which means no ID."""
    text = "\0".join(words).encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=size).digest()) or 1


def _random() -> int:
    return secrets.randbits(64) or 1
