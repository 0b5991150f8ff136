"""A collector of OpenTelemetry that receives spans by OTLP over HTTP, and keeps them."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Collector:
    """Spans that were received, each with the service that sent it."""

    spans: list[tuple[str, Any]] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {a.key: a.value.string_value for a in each.resource.attributes}
            for scope in each.scope_spans:
                self.spans += [(about["service.name"], span) for span in scope.spans]

    def traces(self) -> dict[bytes, list[tuple[str, Any]]]:
        found = defaultdict(list)
        for service, span in list(self.spans):
            found[span.trace_id].append((service, span))
        return found


@contextlib.contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """Run a collector, and yield it with its address."""
    collector = Collector()

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    """Return the attributes of a span: texts and numbers."""
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
