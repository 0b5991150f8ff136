"""What others may know of a replica: metrics, spans and log lines, and that they hurt nobody."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from roomgrad import Context, Message
from roomgrad.codec import pack
from roomgrad.errors import MessageError, SettingsError
from roomgrad.runtime.observe import metrics, otel_env, spans
from roomgrad.runtime.observe.collectors import Observed, RunCollector
from roomgrad.systems import Gauge
from roomgrad.testing import running
from tests.collector import attributes, collecting
from tests.integration.conftest import ROOT, EchoRun, OwnServer, make_echo_run
from tests.integration.echo import REPLIES, echo_component, repeat
from tests.pages.melody.labelling_run import free_port
from tests.ports import neighbours
from tests.waiting import LIMIT_S, until

OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def echo(embedded_url: str) -> Iterator[EchoRun]:
    """One server is enough: nothing here depends on which."""
    yield from make_echo_run(embedded_url)


def samples(port: int) -> dict[str, list[Any]]:
    """What Prometheus would get, by name."""
    found: dict[str, list[Any]] = {}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample)
    return found


def outcomes(port: int) -> dict[str, float]:
    """How many messages came to which end."""
    found = samples(port).get("roomgrad_messages_total", [])
    return {each.labels["outcome"]: each.value for each in found}


def moody(message: Message, context: Context) -> Message:
    """Refuses a -1 for good, and stumbles over a -2."""
    if message.array[0] == -1:
        raise MessageError("no such word")
    if message.array[0] == -2:
        raise ValueError("stumbled")
    return repeat(message, context)


def test_every_outcome_is_counted(echo: EchoRun) -> None:
    """Committed, skipped, tried again, dead; and what was delivered again."""
    port = neighbours()
    wants = echo_component(moody, when=lambda message: message.array[0] != 7)
    # an entry whose lease is over is delivered, and counted, again: traces take long when busy
    echo.start(wants, metrics_port=port, max_deliveries=2, lease_s=LIMIT_S)
    echo.send(7), echo.send(-1), echo.send(-2), echo.send(1)
    wanted_ = {"skipped": 1.0, "dead": 2.0, "retried": 1.0, "committed": 1.0}
    until(lambda: {k: v for k, v in outcomes(port).items() if k in wanted_} == wanted_)
    found = samples(port)
    assert sum(each.value for each in found["roomgrad_redelivered_total"]) >= 1
    assert [each.value for each in found["roomgrad_dead_letters"]] == [2.0]
    assert {e.labels["name"]: e.value for e in found["roomgrad_counted_total"]} == {"received": 1.0}


def test_gauges_of_a_system_come_from_the_newest_record_of_its_tables(echo: EchoRun) -> None:
    """Records are numbered like finished batches; a table without one has no value."""
    gauges = [
        Gauge("test_height", "Height of the newest batch.", "echo", "flights", "height"),
        Gauge("test_depth", "Depth of the newest batch.", "echo", "dives", "depth"),
    ]
    echo.client.hset(echo.names.counters("echo"), "finished", 3)
    for number, height in enumerate((9.0, 8.0, 7.0, 6.5)):
        record = pack({"step": number, "height": height, "loss": height / 2})
        for table in ("flights", "losses"):
            echo.client.hset(echo.names.table(table), str(number), record)
    observed = [Observed("echo", gauges=gauges)]
    collector = RunCollector(echo.names, echo.url, "", observed)
    with contextlib.closing(collector):
        values = {
            family.name: [each.value for each in family.samples] for family in collector.collect()
        }
    assert values["test_height"] == [6.5]
    assert values["roomgrad_loss"] == [3.25]
    assert values["test_depth"] == []
    assert "roomgrad_miss_metres" not in values, "it is of another system"


def test_nothing_is_imported_unless_it_is_asked_for() -> None:
    """A component without a port and without a collector loads neither of the two.

    redis-py looks for the API of OpenTelemetry itself, where it is installed.
    """
    code = (
        "import sys; from tests.integration.echo import echo_component\n"
        "from roomgrad.runtime.replica import Replica\n"
        "Replica(echo_component(), echo_component().settings(), 'redis://127.0.0.1:1')\n"
        "packages = 'prometheus_client', 'opentelemetry.exporter', 'opentelemetry.sdk.trace'\n"
        "print([name for name in sys.modules if name.startswith(packages)])"
    )
    environ = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT / "shared", ROOT)))}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_server_that_is_away_is_a_reading(own_server: OwnServer, own_echo: EchoRun) -> None:
    """The loop's own numbers are still there."""
    port = neighbours()
    own_echo.start(echo_component(), metrics_port=port)
    own_echo.wait_reply(own_echo.send(1))
    until(lambda: outcomes(port).get("committed") == 1)
    own_server.kill()
    found = samples(port)
    assert [each.value for each in found["roomgrad_server_up"]] == [0.0]
    assert "roomgrad_waiting" not in found
    assert outcomes(port)["committed"] == 1
    own_server.restart()
    until(lambda: samples(port)["roomgrad_server_up"][0].value == 1)


def test_replicas_of_one_machine_take_the_next_ports(echo: EchoRun) -> None:
    """All are told the same port."""
    port = neighbours(2)
    echo.start(echo_component(), metrics_port=port)
    echo.start(echo_component(), metrics_port=port)
    for each in (port, port + 1):
        [up] = samples(each)["roomgrad_server_up"]
        assert up.labels["component"] == "echo"


def test_where_no_port_is_free_it_says_so(echo: EchoRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PORTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                SettingsError, match=f"ports {port} to {port} of 127.0.0.1 are all taken"
            ),
            running(echo_component(), echo.make_settings(metrics_port=port), echo.url),
        ):
            pass


def test_a_host_that_is_not_here_is_named(echo: EchoRun) -> None:
    settings = echo.make_settings(metrics_port=9100, metrics_host="192.0.2.1")
    with (
        pytest.raises(SettingsError, match=r"cannot be served at 192\.0\.2\.1:9100"),
        running(echo_component(), settings, echo.url),
    ):
        pass


@pytest.mark.parametrize(
    ("module", "variable"),
    [
        ("roomgrad.runtime.observe.metrics", "METRICS_PORT"),
        ("roomgrad.runtime.observe.spans", OTLP),
    ],
)
def test_what_is_not_installed_is_named(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch, module: str, variable: str
) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv(OTLP, "http://127.0.0.1:9" if variable == OTLP else "")
    settings = echo.make_settings(metrics_port=0 if variable == OTLP else 9100)
    with (
        pytest.raises(SettingsError, match=rf"{variable} asks for .* pip install 'roomgrad\[obs"),
        running(echo_component(), settings, echo.url),
    ):
        pass


def test_a_message_that_is_tried_again_has_a_span_each_time(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marked as such, in one trace; and the notice of its death follows from the last one."""
    with collecting() as (collector, endpoint):
        monkeypatch.setenv(OTLP, endpoint)
        with running(echo_component(moody), echo.make_settings(max_deliveries=2), echo.url):
            said = echo.send(-2)
            inbox = echo.names.done("echo", "@echo", "LOG/ERROR")
            until(lambda: echo.client.zcard(inbox) == 1)
        spans_ = [span for _, span in collector.traces()[bytes.fromhex(said.root_id)]]
    found = {attributes(span)["roomgrad.outcome"]: span for span in spans_}
    first, last, notice = found["retried"], found["dead"], found["committed"]
    assert len(spans_) == 3
    assert [attributes(each)["roomgrad.deliveries"] for each in (first, last)] == [1, 2]
    for each in (first, last):
        assert each.status.code == each.status.STATUS_CODE_ERROR
        assert each.status.message == "ValueError: stumbled"
        assert not each.parent_span_id  # it came from outside
    assert notice.parent_span_id == last.span_id


def test_a_dead_collector_hurts_nobody(echo: EchoRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are handled, and the end does not wait for it for long."""
    monkeypatch.setenv(OTLP, f"http://127.0.0.1:{free_port()}")
    with contextlib.ExitStack() as stack:
        replica = stack.enter_context(running(echo_component(), echo.make_settings(), echo.url))
        until(lambda: echo.client.exists(echo.names.alive(replica.consumer)))
        echo.wait_reply(echo.send(1))
        began = time.monotonic()
    assert time.monotonic() - began < spans.PATIENCE_S + 2


def test_one_line_a_message_at_debug_and_none_at_info(echo: EchoRun) -> None:
    """With who it was, what became of it, and how long that took."""
    for level, expected in (("info", 0), ("debug", 20)):
        with structlog.testing.capture_logs() as lines, contextlib.ExitStack() as stack:
            settings = echo.make_settings(log_level=level)
            stack.enter_context(running(echo_component(), settings, echo.url))
            said = [echo.send(number) for number in range(20)]
            echo.wait_reply(said[-1])
        about = [line for line in lines if line["event"] == "handled"]
        assert len(about) == expected
        if about:
            assert {line["id"] for line in about} == {message.id for message in said}
            keys = {"room", "type", "id", "root_id", "outcome", "handler_ms"}
            assert all(keys <= set(line) for line in about)
    assert echo.client.xlen(echo.names.stream(*REPLIES.key)) == 40


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, ""),
        ({OTLP: "http://here"}, OTLP),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "none", OTLP: "http://here"}, ""),
        ({"OTEL_SDK_DISABLED": "true", OTLP: "http://here"}, ""),
    ],
)
def test_spans_are_asked_for_by_the_standard_variables(environ: dict[str, str], asked: str) -> None:
    assert otel_env.spans(environ) == asked


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {OTLP: "http://here", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_is_not_there_is_refused(environ: dict[str, str]) -> None:
    """With what is."""
    with pytest.raises(SettingsError, match="allowed is: "):
        otel_env.spans(environ)


@given(st.text())
def test_every_root_has_a_trace(root_id: str) -> None:
    """Any text: 128 bits that are not all zero, the same for everybody."""
    assert 0 < spans.trace_id(root_id) < 2**128
    assert spans.trace_id(root_id) == spans.trace_id(root_id)
