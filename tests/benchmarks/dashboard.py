"""What a watched dashboard costs a training: steps a second with a connected page, and without.

    python -m tests.benchmarks.dashboard [--rounds 12] [--seconds 3] [--json]

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
import os
import signal
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import redis
from rich.table import Table

from roomgrad.names import Names
from roomgrad.systems import module_of
from tests.benchmarks.transport.stage import console, fresh_server, start
from tests.pages.melody.labelling_run import free_port
from tests.waiting import until

RUN = "watched"
COMPONENTS = ("trainer", "controlmodel", "simulator")
LEARNS = ("trainer", "controlmodel")
ENDLESS = 10**7
WARM_STEPS = 100
SETTLING_S = 0.5  # until processes that were stopped work as before
SCRAPE_S = 5.0
PAGE_ASKS_S = 0.5  # as changes.js
PATIENT = ("--heartbeat-lives-s=60", "--lease-s=60")  # with processes that are stopped


class Training:
    """A training with a server of its own, which stands still outside its windows."""

    def __init__(self, stack: contextlib.ExitStack, watched: bool) -> None:
        server = stack.enter_context(fresh_server(aof=True))
        self._client = stack.enter_context(redis.Redis.from_url(server.url, protocol=2))
        common = (f"--redis-url={server.url}", "--log-level=error")
        self._metrics = [free_port() for _ in COMPONENTS] if watched else []
        self._page = Page(free_port()) if watched else None
        self._pids = [server.pid]
        for at, name in enumerate(COMPONENTS):
            flags = [*common, *PATIENT, f"--run={RUN}"]
            flags += [f"--train-steps={ENDLESS}"] if name in LEARNS else []
            flags += [f"--metrics-port={self._metrics[at]}"] if watched else []
            self._pids.append(start(stack, module_of(name), *flags)[0].pid)
        if self._page is not None:
            dashboard = ("roomgrad.web.dashboard", *common, f"--port={self._page.port}")
            self._pids.append(start(stack, *dashboard)[0].pid)
        until(lambda: self._steps() > WARM_STEPS, timeout_s=120)
        self._signal(signal.SIGSTOP)
        stack.callback(self._signal, signal.SIGCONT)

    def rate(self, seconds: float) -> float:
        """Go on for a window; return its steps a second."""
        self._signal(signal.SIGCONT)
        with self._watching():
            time.sleep(SETTLING_S)  # what was stopped comes up to speed before the window
            before, began = self._steps(), time.monotonic()
            time.sleep(seconds)  # the window itself
            found = (self._steps() - before) / (time.monotonic() - began)
        self._signal(signal.SIGSTOP)
        return found

    def _steps(self) -> int:
        """Batches that are home."""
        found: Any = self._client.hget(Names(RUN).counters("trainer"), "finished")
        return int(found or 0)

    def _signal(self, number: int) -> None:
        for pid in self._pids:
            os.kill(pid, number)

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Ask as a page and Prometheus do, if this training is watched."""
        with contextlib.ExitStack() as stack:
            if self._page is not None:
                stack.enter_context(repeated(self._page.ask, PAGE_ASKS_S))
                stack.enter_context(repeated(lambda: scrape(self._metrics), SCRAPE_S))
            yield


@contextlib.contextmanager
def repeated(ask: Callable[[], None], every_s: float) -> Iterator[None]:
    """Ask again and again in a thread."""
    ended = threading.Event()

    def ask_until_ended() -> None:
        while not ended.is_set():
            ask()
            ended.wait(every_s)

    thread = threading.Thread(target=ask_until_ended, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(20)


class Page:
    """A page that is open: it asks for what has changed since it asked before."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._since = ""

    def ask(self) -> None:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        link.request("GET", f"/api/changes?{urlencode({'run': RUN, 'since': self._since})}")
        self._since = json.loads(link.getresponse().read())["since"]
        link.close()


def scrape(ports: list[int]) -> None:
    """Ask for the metrics of all components."""
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            answer.read()


def measured(rounds: int, seconds: float) -> dict[str, Any]:
    """Steps a second, watched and not, in turns."""
    with contextlib.ExitStack() as stack:
        alone, watched = (Training(stack, watched) for watched in (False, True))
        pairs = [(alone.rate(seconds), watched.rate(seconds)) for _ in range(rounds)]
    ratios = [slower / faster for faster, slower in pairs]
    return {
        "alone_s": statistics.median(faster for faster, _ in pairs),
        "watched_s": statistics.median(slower for _, slower in pairs),
        "ratio": statistics.median(ratios),
        "ratios": [round(ratio, 4) for ratio in ratios],
    }


def main() -> None:
    """Print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measured(asked.rounds, asked.seconds)
    if asked.json:
        print(json.dumps(found))
        return
    title = f"what watching costs a training, load {os.getloadavg()[0]:.1f}"
    table = Table("steps/s alone", "watched", "ratio", title=title)
    table.add_row(*(f"{found[name]:,.3f}" for name in ("alone_s", "watched_s", "ratio")))
    console().print(table)
    console().print(f"ratios of neighbors: {found['ratios']}")


if __name__ == "__main__":
    main()
