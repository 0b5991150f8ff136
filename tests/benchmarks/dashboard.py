"""What a watched dashboard costs a training: steps a second with a connected page, and without.

    python -m tests.benchmarks.dashboard [--rounds 8] [--seconds 6] [--metrics] [--json]

One training goes on all the time, on one server. The dashboard runs beside it, too; in every second
window a client asks for its changes as a page does. The ratio is the median of the ratios of
neighbouring windows, so that a machine that gets slower meanwhile does not count.

With --metrics it measures what Prometheus costs instead: the components serve metrics, which are
asked for once in 5 s in every second window.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import redis
from rich.console import Console
from rich.table import Table

from roomgrad.names import Names
from roomgrad.systems import module_of
from tests.benchmarks.transport.stage import fresh_server, start
from tests.pages.melody.labelling_run import free_port
from tests.waiting import until

RUN = "watched"
COMPONENTS = ("trainer", "controlmodel", "simulator")
LEARNS = ("trainer", "controlmodel")
MANY = 10**6
SETTLING_S = 1.0  # until a new client is served, or a closed one is forgotten
SCRAPE_S = 5.0
PAGE_ASKS_S = 0.5  # as changes.js

Watching = Callable[[], contextlib.AbstractContextManager[None]]


def measured(rounds: int, seconds: float, metrics: bool) -> dict[str, Any]:
    """Steps a second, watched and not, in turns."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(aof=True))
        client = stack.enter_context(redis.Redis.from_url(server.url, protocol=2))
        common = [f"--redis-url={server.url}", "--log-level=error"]
        ports = [free_port() for _ in COMPONENTS] if metrics else []
        for at, name in enumerate(COMPONENTS):
            flags = [*common, f"--run={RUN}"]
            flags += [f"--train-steps={MANY}"] if name in LEARNS else []
            flags += [f"--metrics-port={ports[at]}"] if metrics else []
            start(stack, module_of(name), *flags)
        port = free_port()
        start(stack, "roomgrad.web.dashboard", *common, f"--port={port}")
        until(lambda: steps(client) > 100, timeout_s=60)
        watching: Watching = (lambda: scraping(ports)) if metrics else (lambda: listening(port))
        pairs = [window(client, seconds, watching) for _ in range(rounds)]
    ratios = [watched / alone for alone, watched in pairs]
    return {
        "alone_s": statistics.median(alone for alone, _ in pairs),
        "watched_s": statistics.median(watched for _, watched in pairs),
        "ratio": statistics.median(ratios),
        "ratios": [round(ratio, 4) for ratio in ratios],
    }


def steps(client: redis.Redis) -> int:
    """Batches that are home."""
    found: Any = client.hget(Names(RUN).counters("trainer"), "finished")
    return int(found or 0)


def window(client: redis.Redis, seconds: float, watching: Watching) -> tuple[float, float]:
    """Steps a second of two neighbouring windows: alone, and watched."""
    time.sleep(SETTLING_S)  # what the window before left belongs to neither
    alone = rate(client, seconds)
    with watching():
        time.sleep(SETTLING_S)  # the first events bring everything
        return alone, rate(client, seconds)


def rate(client: redis.Redis, seconds: float) -> float:
    before, began = steps(client), time.monotonic()
    time.sleep(seconds)  # the window itself
    return (steps(client) - before) / (time.monotonic() - began)


@contextlib.contextmanager
def listening(port: int) -> Iterator[None]:
    """Ask for the changes as a page does."""
    ended = threading.Event()

    def ask() -> None:
        since = ""
        while not ended.wait(PAGE_ASKS_S):
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                link.request("GET", f"/api/changes?{urlencode({'run': RUN, 'since': since})}")
                since = json.loads(link.getresponse().read())["since"]
            link.close()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(20)


@contextlib.contextmanager
def scraping(ports: list[int]) -> Iterator[None]:
    """Asks for the metrics as Prometheus does."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.is_set():
            for port in ports:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    answer.read()
            ended.wait(SCRAPE_S)

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--metrics", action="store_true", help="of Prometheus, not the dashboard")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measured(asked.rounds, asked.seconds, asked.metrics)
    if asked.json:
        print(json.dumps(found))
        return
    table = Table("steps/s alone", "watched", "ratio", title="What watching costs a training")
    table.add_row(*(f"{found[name]:,.3f}" for name in ("alone_s", "watched_s", "ratio")))
    Console().print(table)
    Console().print(f"ratios of neighbours: {found['ratios']}")


if __name__ == "__main__":
    main()
