"""What a flood of bad messages into one room costs its neighbours, and how much it leaves behind.

    python -m tests.benchmarks.hostile [--windows 5] [--window-s 1] [--json]

Three processes on one embedded server: `left` and `right` of one run, `left` of another. A client
asks the two neighbours 200 times a second each, and takes the time from XADD to the answer. In
every second window another process floods the room of the first `left`. The table has the medians
of the windows. Then 10,000 hostile inputs go into one room: memory before and after.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import redis
from rich.console import Console
from rich.table import Table

from roomgrad import (
    Array,
    Component,
    Context,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    main,
    on,
)
from roomgrad.codec import encode
from roomgrad.names import Names
from roomgrad.testing import throwaway_server
from tests.integration.hostile.inputs import ALL, ROOT
from tests.waiting import until

FORWARD = MessageType.FORWARD
NUMBERS = {"DATA": Array("<f4", ("n",)), "HOW": Array("<i8", (), optional=True)}
SIDES = ("left", "right")
ASKED = {side: Stream(Room(side), FORWARD, NUMBERS, (side,)) for side in SIDES}
REPLIES = {side: Stream(Room(f"{side}-said"), FORWARD, NUMBERS) for side in SIDES}
ECHO = System("echo", (*ASKED.values(), *REPLIES.values()), SIDES)
RATE = 200
SETTLE_S = 1.0  # after a flood began or ended

# name: bytes of an input, inputs a second
FLOODS = {
    "100 B, 100 a second": (100, 100),
    "10 kB, 100 a second": (10_000, 100),
    "100 kB, 20 a second": (100_000, 20),
    "1 MB, 5 a second": (1_000_000, 5),
    "10 MB, 1 a second": (10_000_000, 1),
    "100 MB, 1 in 3 s": (100_000_000, 1 / 3),
}


def echo(side: str) -> Component:
    """Answers what it hears in its room."""

    @on(ASKED[side].room, FORWARD, replies=[(REPLIES[side].room, FORWARD)])
    def say(message: Message, context: Context) -> Message:
        return message.reply(REPLIES[side].room, message.array)

    return Component(side, ECHO, RuntimeSettings, [say])


@contextmanager
def serving(url: str, run: str, side: str) -> Iterator[int]:
    """A component as a process; its id."""
    command = [sys.executable, "-m", "tests.benchmarks.hostile", "serve", side]
    flags = [f"--run={run}", f"--redis-url={url}", "--log-level=error"]
    process = subprocess.Popen([*command, *flags])
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def flood(url: str, run: str, size: int, rate: float, go: Any, stop: Any) -> None:
    """XADDs so many bytes of rubbish so often, while `go` is set."""
    key = Names(run).stream(*ASKED["left"].key)
    with redis.Redis.from_url(url) as client:
        while not stop.is_set():
            if not go.wait(0.1):
                continue
            client.xadd(key, {"ROOT_ID": "bad", "m": b"x" * size})
            time.sleep(1 / rate)  # the pace is the load


class Neighbour:
    """Asks one component so often and writes down how long each answer took, in ms."""

    def __init__(self, url: str, run: str, side: str) -> None:
        self._url, self._side, self._names = url, side, Names(run)
        self._sent: dict[bytes, float] = {}
        self.took: list[float] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._ask, self._hear)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        key = self._names.stream(*ASKED[self._side].key)
        due = time.perf_counter()
        with redis.Redis.from_url(self._url) as client:
            while not self._stop.is_set():
                message = Message.open(self._side, np.ones(4, "<f4"))
                fields = encode(message, ASKED[self._side])
                # from when it was due, so that waiting for a stalled server counts
                self._sent[message.root_id.encode()] = due
                client.execute_command("XADD", key, "*", *fields)
                due += 1 / RATE
                time.sleep(max(0.0, due - time.perf_counter()))  # the pace is the load

    def _hear(self) -> None:
        key, after = self._names.stream(*REPLIES[self._side].key), b"$"
        with redis.Redis.from_url(self._url) as client:
            while not self._stop.is_set():
                found: Any = client.xread({key: after}, count=100, block=100)
                now = time.perf_counter()
                for _, entries in found or ():
                    for entry, fields in entries:
                        after = entry
                        if (sent := self._sent.pop(fields[b"ROOT_ID"], None)) is not None:
                            self.took.append((now - sent) * 1e3)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def quantiles(took: list[float]) -> tuple[float, float]:
    """Median and p99."""
    ordered = sorted(took)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def measure(url: str, name: str, windows: int, window_s: float) -> dict[str, Any]:
    """One kind of flood: the neighbours' latencies in windows with and without it, in turn."""
    size, rate = FLOODS[name]
    spawning = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    go, stop = spawning.Event(), spawning.Event()
    flooder = spawning.Process(target=flood, args=(url, "one", size, rate, go, stop))
    flooder.start()
    neighbours = [Neighbour(url, "one", "right"), Neighbour(url, "two", "left")]
    until(lambda: all(len(each.took) > RATE for each in neighbours), 60)  # all have started
    found: dict[bool, list[list[float]]] = {True: [], False: []}
    for number in range(2 * windows):
        flooded = number % 2 == 1
        (go.set if flooded else go.clear)()
        time.sleep(SETTLE_S)  # what was on its way before belongs to neither window
        for each in neighbours:
            each.took.clear()
        time.sleep(window_s)  # what is measured is what happens in this time
        took = [quantiles(each.took) for each in neighbours]
        found[flooded].append(list(itertools.chain(*took)))
    stop.set()
    for each in neighbours:
        each.stop()
    flooder.join()
    report: dict[str, Any] = {"flood": name}
    for place, who in ((0, "same run"), (2, "other run")):
        calm, bad = ([each[place : place + 2] for each in found[flooded]] for flooded in (0, 1))
        report[who] = compared(calm, bad)
    return report


def compared(calm: list[list[float]], bad: list[list[float]]) -> dict[str, Any]:
    """Medians of the windows of both kinds, and how far the calm ones differ among themselves."""
    p50, p99 = (
        [statistics.median(each[which] for each in windows) for windows in (calm, bad)]
        for which in (0, 1)
    )
    spread = [each[1] for each in calm]
    change = 100 * (p99[1] / p99[0] - 1)
    return {
        "p50_ms": p50,
        "p99_ms": p99,
        "change": change,
        "calm_p99_ms": [min(spread), max(spread)],
    }


def resident(pid: int) -> float:
    """MB that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def memory(url: str, pid: int, count: int) -> dict[str, Any]:
    """10,000 hostile inputs into one room: what the component and the server hold afterwards."""
    names = Names("one")
    key, dead = names.stream(*ASKED["left"].key), names.dead()
    report: dict[str, Any] = {"inputs": count}
    with redis.Redis.from_url(url) as client:
        client.delete(dead)
        report["component_mb"] = [resident(pid)]
        report["server_mb"] = [client.info("memory")["used_memory"] / 1e6]
        sent = 0
        for number in range(count):
            fields = [part.replace(ROOT, b"bad") for part in ALL[number % len(ALL)].fields]
            sent += sum(map(len, fields))
            client.execute_command("XADD", key, "*", *fields)
            if number % 100 == 99:
                until(lambda: client.xpending(key, "left")["pending"] == 0, 60)
                until(lambda: client.xinfo_groups(key)[0]["lag"] in (0, None), 60)
        report["sent_mb"] = sent / 1e6
        report["letters"] = client.xlen(dead)
        report["letters_mb"] = (client.memory_usage(dead, samples=0) or 0) / 1e6
        report["component_mb"].append(resident(pid))
        report["server_mb"].append(client.info("memory")["used_memory"] / 1e6)
    return report


def bench() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=int, default=5, help="with flood, and as many without")
    parser.add_argument("--window-s", type=float, default=1.0, help="seconds of each")
    parser.add_argument("--inputs", type=int, default=10_000, help="hostile inputs for the memory")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    with (
        throwaway_server() as server,
        serving(server.url, "one", "left") as pid,
        serving(server.url, "one", "right"),
        serving(server.url, "two", "left"),
    ):
        floods = [measure(server.url, name, asked.windows, asked.window_s) for name in FLOODS]
        left = memory(server.url, pid, asked.inputs)
    if asked.json:
        print(json.dumps({"floods": floods, "memory": left}))
    else:
        show(floods, left)


def show(floods: list[dict[str, Any]], left: dict[str, Any]) -> None:
    table = Table("flood", "neighbour", "p50", "flooded", "p99", "flooded", "change", "calm p99s")
    for each, who in itertools.product(floods, ("same run", "other run")):
        found = each[who]
        numbers = [f"{value:.1f}" for value in (*found["p50_ms"], *found["p99_ms"])]
        low, high = found["calm_p99_ms"]
        table.add_row(
            each["flood"], who, *numbers, f"{found['change']:+.0f} %", f"{low:.1f}-{high:.1f}"
        )
    console = Console()
    console.print(table)
    console.print("in ms; what 10,000 inputs left behind:", left)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        sys.argv.pop(1)
        main(echo(sys.argv.pop(1)))
    else:
        bench()
