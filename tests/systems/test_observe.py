"""Metrics and spans of the trebuchet, as Prometheus and a collector of OpenTelemetry get them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.runtime.observe import collectors
from roomgrad.systems import module_of
from roomgrad.testing import throwaway_server
from roomgrad_trebuchet import ledger
from tests.collector import Collector, attributes, collecting
from tests.conftest import NO_PROMETHEUS
from tests.pages.melody.labelling_run import free_port
from tests.ports import neighbours
from tests.waiting import until

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "roomgrad.json"
COMPONENTS = ("trainer", "controlmodel", "simulator")
NAMES = Names("trebuchet")
GAUGES = (*collectors.FAMILIES, "roomgrad_loss", "roomgrad_miss_metres")
OF_MODEL = ("snapshot_age_steps", "snapshot_age_seconds", "log_steps", "log_bytes")
STEPS = 40
HELP, TYPE = ["#", "HELP"], ["#", "TYPE"]

pytestmark = pytest.mark.timeout(120)


@dataclass
class Watched:
    """A training of three processes, all of them with the same METRICS_PORT."""

    url: str
    first_port: int
    collector: Collector
    logs: dict[str, Path]

    @property
    def ports(self) -> range:
        return range(self.first_port, self.first_port + len(COMPONENTS))

    def samples(self) -> dict[str, dict[str, list[Any]]]:
        """By component and name: the samples that Prometheus would get."""
        found: dict[str, dict[str, list[Any]]] = {}
        for port in self.ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
            samples = [sample for family in families for sample in family.samples]
            [who] = {s.labels["component"] for s in samples if "component" in s.labels}
            found[who] = defaultdict(list)
            for sample in samples:
                found[who][sample.name].append(sample)
        return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Trained to its end; the processes are still there."""
    port = neighbours(len(COMPONENTS))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(throwaway_server())
        collector, endpoint = stack.enter_context(collecting())
        own = {
            "REDIS_URL": server.url,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)]),
            "ROOMGRAD_TRAIN_STEPS": str(STEPS),
            "ROOMGRAD_BATCH_SIZE": "10",
            "ROOMGRAD_METRICS_PORT": str(port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        folder = tmp_path_factory.mktemp("logs")
        logs = {name: folder / name for name in COMPONENTS}
        for name in COMPONENTS:
            command = [sys.executable, "-m", module_of(name)]
            log = stack.enter_context(logs[name].open("w"))
            process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **own}, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        client = stack.enter_context(contextlib.closing(connect(server.url)))
        until(lambda: ledger.read(client, NAMES).finished == STEPS)
        yield Watched(server.url, port, collector, logs)


def test_metrics_are_what_redis_says(watched: Watched) -> None:
    """Each component at a port of its own, though all were told the same."""
    found = watched.samples()
    assert set(found) == set(COMPONENTS)
    handled = defaultdict(float)
    for name, samples in found.items():
        for each in samples["roomgrad_messages_total"]:
            handled[(name, each.labels["outcome"])] += each.value
    assert handled == {(name, "committed"): 2.0 * STEPS for name in COMPONENTS}
    for name, samples in found.items():
        assert sum(each.value for each in samples["roomgrad_handler_seconds_count"]) == 2 * STEPS
        assert [each.value for each in samples["roomgrad_server_up"]] == [1.0], name
        assert {each.value for each in samples["roomgrad_waiting"]} == {0.0}
        assert {e.labels["of"]: e.value for e in samples["roomgrad_replicas"]} == dict.fromkeys(
            COMPONENTS, 1.0
        )
    assert found["controlmodel"]["roomgrad_step"][0].value == STEPS
    of_model = {name: found["controlmodel"][f"roomgrad_{name}"][0].value for name in OF_MODEL}
    assert 0 <= of_model["snapshot_age_steps"] <= of_model["log_steps"] <= STEPS
    assert of_model["log_bytes"] > 0
    assert of_model["snapshot_age_seconds"] >= 0
    with contextlib.closing(connect(watched.url)) as client:
        newest = ledger.losses(client, NAMES)[-1]
    assert found["trainer"]["roomgrad_loss"][0].value == pytest.approx(newest.loss)
    assert found["trainer"]["roomgrad_miss_metres"][0].value == pytest.approx(newest.miss_m)


def test_all_spans_of_a_root_are_one_tree(watched: Watched) -> None:
    """Across three processes: one span without a parent, and everybody else's parent is there."""
    expected = STEPS * 12  # six messages, each sent and handled
    until(lambda: len(watched.collector.spans) >= expected)
    traces = watched.collector.traces()
    assert len(traces) == STEPS
    for spans in traces.values():
        ids = {span.span_id for _, span in spans}
        assert len(ids) == len(spans) == 12
        [top] = [span for _, span in spans if not span.parent_span_id]
        assert top.name == "send input DATA/FORWARD"
        assert {span.parent_span_id for _, span in spans} - {b""} <= ids
        assert {service for service, _ in spans} == set(COMPONENTS)


def test_a_trace_is_found_by_its_root(watched: Watched) -> None:
    """The ROOT_ID of the run's first message is a trace ID."""
    until(lambda: len(watched.collector.traces()) == STEPS)
    with contextlib.closing(connect(watched.url)) as client:
        [(_, fields)] = client.xrange(NAMES.stream("input", "DATA/FORWARD"), count=1)
    spans = watched.collector.traces()[bytes.fromhex(fields[b"ROOT_ID"].decode())]
    names = {attributes(span).get("code.function.name", "") for _, span in spans}
    assert {"forward", "backward", "next_batch"} <= names


def queries() -> list[str]:
    """Every expression of the dashboard and of the alerts."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [t["expr"].replace("$run", ".*") for panel in panels for t in panel["targets"]]


def test_the_dashboard_asks_for_what_there_is() -> None:
    """Each metric that is documented is on it, each panel has its place and a query."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels)
    asked = " ".join(queries())
    assert [name for name in GAUGES if name not in asked] == []


def test_a_training_logs_a_handful(watched: Watched) -> None:
    """At info, where no terminal is: objects of JSON, and none for a message."""
    for path in watched.logs.values():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(lines) <= 6, lines
        assert {"event", "level", "timestamp"} <= set.intersection(*map(set, lines))
        assert [line["level"] for line in lines] == ["info"] * len(lines)
        assert any(line["event"] == "metrics" for line in lines)


def test_the_page_lists_what_is_served(watched: Watched) -> None:
    """Names, kinds and sentences as Prometheus reads them."""
    listed = set()
    for line in (ROOT / "docs" / "observe.md").read_text().splitlines():
        if found := re.fullmatch(r"- `(roomgrad_\w+)` \((\w+)[^)]*\): (.*)", line):
            listed.add(found.groups())
    served = set()
    for port in watched.ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        about = {w[2]: w[3] for w in (line.split(" ", 3) for line in lines) if w[:2] == HELP}
        kinds = {w[2]: w[3] for w in (line.split(" ", 3) for line in lines) if w[:2] == TYPE}
        served |= {
            (name, kinds[name], sentence)
            for name, sentence in about.items()
            if name.startswith("roomgrad_") and not name.endswith("_created")
        }
    assert listed == served


@pytest.fixture
def promtool() -> str:
    if not shutil.which("promtool") or not shutil.which("prometheus"):
        pytest.skip(NO_PROMETHEUS)
    return "promtool"


def test_alerts_ring_when_they_should(promtool: str) -> None:
    """promtool knows the rules, and each rings and is quiet in the story that is told to it."""
    told = ALERTS.with_name("alerts_test.yml")
    for words in (("check", "rules", str(ALERTS)), ("test", "rules", str(told))):
        done = subprocess.run([promtool, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    rules = {rule["alert"] for group in groups for rule in group["rules"]}
    stories = {
        test["alertname"]
        for story in yaml.safe_load(told.read_text())["tests"]
        for test in story["alert_rule_test"]
    }
    assert rules == stories


def test_every_query_has_an_answer(watched: Watched, promtool: str, tmp_path: Path) -> None:
    """A real Prometheus scrapes the training; each panel of the dashboard shows something."""
    port = free_port()
    targets = [f"127.0.0.1:{each}" for each in watched.ports]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": "roomgrad", "static_configs": [{"targets": targets}]}],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml"]
    command += [f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def ask(expression: str) -> list[Any]:
        query = urllib.parse.urlencode({"query": expression})
        address = f"http://127.0.0.1:{port}/api/v1/query?{query}"
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return list(json.load(answer)["data"]["result"])
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 400:
                raise AssertionError(f"{expression}: {error.read().decode()}") from error
            return []

    try:
        until(lambda: len(ask("up == 1")) == len(COMPONENTS))
        for each in queries():
            until(lambda each=each: ask(each))
        assert ask('ALERTS{alertstate="firing"}') == []
    finally:
        process.terminate()
        process.wait(60)
