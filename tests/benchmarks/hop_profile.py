"""Where each microsecond of a hop goes: of the component that handles a message, and of the server.

    python -m tests.benchmarks.hop_profile [--seconds 3] [--aof] [--json]

Messages of 4 KiB between two processes, one under way at a time, as in `tests.benchmarks.hops`. The
functions through which a message passes in one of them are timed, each without those that it calls;
the clocks take about 1 us of each. The server counts its commands; those of the commit's script
are part of EVALSHA. CPU of the component is that of the other process, in which nothing is timed;
beside it that of the same hop as raw bytes over redis-py pub/sub with one held connection.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import redis
from rich.table import Table

from roomgrad import Array, codec
from roomgrad import main as run
from roomgrad.commit import Commit
from roomgrad.redis.connection import Connection
from roomgrad.runtime import receiver
from roomgrad.runtime.connections import Connections
from roomgrad.runtime.loop import Loop
from roomgrad.runtime.work import Work
from tests.benchmarks.transport import pair
from tests.benchmarks.transport.stage import console, cpu_s, fresh_server, start, told

MESSAGE, ANSWER = "message: parse the reply", "commit: parse the answer"
WAITS = {MESSAGE: "message: wait", ANSWER: "commit: wait for the answer"}
HANDLER, REST = "handler", "the loop and the rest"
STAGES: tuple[tuple[Any, str, str], ...] = (
    (Connections, "answers", MESSAGE),
    (receiver, "deliveries", MESSAGE),
    (codec, "decode", "decode"),
    (Array, "check", "check against the schema, twice"),
    (Work, "attempt", "dispatch"),
    (codec, "encode", "encode"),
    (codec, "header", "encode"),
    (Loop, "_stage", "stage"),
    (Commit, "command", "stage"),
    (Connection, "_send", "send commit and next read"),
    (Connections, "answer", ANSWER),
)
ORDER = (
    *(WAITS[MESSAGE], MESSAGE, "decode", "check against the schema, twice", "dispatch", HANDLER),
    *("encode", "stage", "send commit and next read", WAITS[ANSWER], ANSWER, REST),
)
MESSAGES = "messages"
FLOATS, TOLD_S, WARM_UP = 1024, 0.5, 3  # a figure is told so often; the first ones are to warm up
LEAST_US = 0.3  # that is shown of a command
PUBSUB = "pubsub-raw-held"
PAIR, SELF = "tests.benchmarks.transport.pair", "tests.benchmarks.hop_profile"
Figures = dict[str, float]


class Stages:
    """The time that functions take in the thread that handles messages, by stage."""

    def __init__(self) -> None:
        self.ns: Counter[str] = Counter()
        self.messages = 0
        self._thread = threading.get_ident()
        self._stack = [["", 0]]  # stages under way, and what those inside them took

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """Return a function that notes its time, without that of others inside it."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            if threading.get_ident() != self._thread:
                return function(*arguments, **keywords)
            self.messages += stage == HANDLER
            own = stage or WAITS.get(self._stack[-1][0], REST)
            self._stack.append([own, 0])
            began = time.perf_counter_ns()
            try:
                return function(*arguments, **keywords)
            finally:
                took = time.perf_counter_ns() - began
                self.ns[own] += took - self._stack.pop()[1]
                self._stack[-1][1] += took

        return call

    def tell(self) -> None:
        """Print all sums from time to time, in microseconds."""
        while True:
            time.sleep(TOLD_S)  # how often it prints
            figures = {stage: self.ns[stage] / 1000 for stage in ORDER}
            figures[REST] = time.perf_counter_ns() / 1000 - sum(figures.values())
            print(json.dumps({MESSAGES: self.messages, **figures}), flush=True)


def serve(url: str) -> None:
    """Send back what comes, and tell where the time goes."""
    stages = Stages()
    for owner, name, stage in STAGES:
        setattr(owner, name, stages.timed(getattr(owner, name), stage))
    Connection._feed = stages.timed(Connection._feed, "")  # type: ignore[method-assign]
    component = pair.pong(pair.contract(1, 2), argparse.Namespace())
    handlers = [
        replace(each, function=stages.timed(each.function, HANDLER)) for each in component.handlers
    ]
    threading.Thread(target=stages.tell, daemon=True).start()
    sys.argv = [pair.PONG, f"--redis-url={url}", f"--run={pair.RUN}", "--log-level=error"]
    run(replace(component, handlers=handlers))


def measured(seconds: float, aof: bool) -> dict[str, Figures]:
    """Microseconds of a message: in all, of each stage, and of each command."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(aof))
        client = stack.enter_context(redis.Redis.from_url(server.url, protocol=2))
        _, lines = start(stack, SELF, "serve", server.url, heard=True)
        other, _ = start(stack, PAIR, "rooms", pair.PING, server.url, f"--floats={FLOATS}")
        while not told(lines)[MESSAGES]:
            pass
        for _ in range(WARM_UP):
            told(lines)
        before = look(told(lines), client, other.pid)
        for _ in range(max(1, round(seconds / TOLD_S)) - 1):
            told(lines)
        after = look(told(lines), client, other.pid)
    return {group: per_message(before[group], after[group]) for group in after}


def look(stages: Figures, client: redis.Redis, pid: int) -> dict[str, Figures]:
    """Return the microseconds used until now, and the messages for which they were.

    Both processes handle the same number of messages, one EVALSHA for each.
    """
    info: Any = client.info("commandstats")
    stats = {name.removeprefix("cmdstat_"): each for name, each in info.items()}
    both = {MESSAGES: stats["evalsha"]["calls"]}
    slowest = sorted(stats, key=lambda name: -stats[name]["usec"])
    commands = {name: stats[name]["usec"] for name in slowest}
    return {"cpu": cpu(client, pid) | both, "stages": stages, "commands": commands | both}


def cpu(client: redis.Redis, pid: int) -> Figures:
    """Return the CPU time of the server and, as if it had handled all messages, of a process."""
    info: Any = client.info("cpu")
    server_s = info["used_cpu_user"] + info["used_cpu_sys"]
    return {"component": 2e6 * cpu_s(pid), "server": 1e6 * server_s}


def pubsub_cpu(seconds: float) -> Figures:
    """Return the CPU time of a message over redis-py pub/sub."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(False))
        client = stack.enter_context(redis.Redis.from_url(server.url, protocol=2))
        words = (f"--floats={FLOATS}", f"--window-s={seconds}")
        start(stack, PAIR, PUBSUB, pair.PONG, server.url, *words)
        process, lines = start(stack, PAIR, PUBSUB, pair.PING, server.url, *words, heard=True)
        looks = []
        for _ in range(2):
            count = told(lines)["round_trips"]
            looks.append(cpu(client, process.pid) | {MESSAGES: 2 * count})
    return per_message(*looks)


def per_message(before: Figures, after: Figures) -> Figures:
    """Return what was used between two looks for each message."""
    count = after.pop(MESSAGES) - before.pop(MESSAGES)
    return {name: (value - before.get(name, 0.0)) / count for name, value in after.items()}


def main() -> None:
    """Print a line for each stage and command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--aof", action="store_true", help="with an append-only file")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measured(arguments.seconds, arguments.aof)
    found["cpu of pub/sub"] = pubsub_cpu(arguments.seconds)
    if arguments.json:
        print(json.dumps(found))
        return
    table = Table("", "us a message", title=f"a hop of 4 KiB, load {os.getloadavg()[0]:.1f}")
    for group, figures in found.items():
        for name, value in figures.items():
            if value >= LEAST_US:
                table.add_row(f"{group}: {name}", f"{value:.1f}")
        table.add_section()
    console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    else:
        main()
