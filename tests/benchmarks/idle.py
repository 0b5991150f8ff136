"""What replicas cost that have nothing to do: commands a second, and which.

    python -m tests.benchmarks.idle [--seconds 10] [--json]

A simulator, which has no model, and a control model, which has one, each alone on a server of its
own where no run goes on. Sent are the commands that MONITOR sees the replica send, of which a
script is one. INFO commandstats shows also what the script calls.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from roomgrad.names import Names
from roomgrad.systems import module_of
from tests.benchmarks.transport.stage import fresh_server, start
from tests.waiting import until

RUN = "idle"
COMPONENTS = ("simulator", "controlmodel")
OURS = ("info", "monitor", "config|resetstat", "client|setinfo")  # of this program
OF_THIS_PROGRAM = ("CONFIG", "CLIENT")  # the same, as MONITOR shows them
SETTLING = 3  # heartbeats, until nothing of the start is counted any more


def measured(component: str, seconds: float) -> dict[str, Any]:
    """Commands a second of one idle replica."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(aof=False))
        client = stack.enter_context(redis.Redis.from_url(server.url, protocol=2))
        flags = (f"--redis-url={server.url}", f"--run={RUN}", "--log-level=error")
        start(stack, module_of(component), *flags)
        hearts = Names(RUN).alive("*")
        until(lambda: list(client.scan_iter(hearts, count=1000)), timeout_s=60)
        count, took = sent(client, seconds)
        calls = executed(client)
    return {
        "component": component,
        "sent_s": count / took,
        "executed_s": sum(calls.values()) / took,
        "which_s": {name: round(count / took, 2) for name, count in calls.items()},
    }


def sent(client: redis.Redis, seconds: float) -> tuple[int, float]:
    """How many commands come in from one heartbeat to another, and in how many seconds."""
    with client.monitor() as monitor:
        for _ in range(SETTLING):
            next_heartbeat(monitor)
        client.config_resetstat()
        count, began = 0, time.monotonic()
        while (took := time.monotonic() - began) < seconds:
            count += next_heartbeat(monitor)
    return count, took


def next_heartbeat(monitor: Any) -> int:
    """Waits for it, and says how many commands have come by then."""
    count = 0
    while True:
        command = monitor.next_command()
        if command["client_type"] == "lua" or command["command"].startswith(OF_THIS_PROGRAM):
            continue
        count += 1
        if command["command"].startswith("EVAL"):
            return count


def executed(client: redis.Redis) -> dict[str, int]:
    """What the server did since its counts were set back, without what was asked here."""
    stats: Any = client.info("commandstats")
    found = {name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in stats.items()}
    return {name: count for name, count in sorted(found.items()) if name not in OURS}


def main() -> None:
    """Prints a line for each component."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [measured(component, arguments.seconds) for component in COMPONENTS]
    if arguments.json:
        print(json.dumps(rows))
        return
    table = Table("", "sent/s", "executed/s", "which", title="one idle replica")
    for row in rows:
        which = ", ".join(f"{name} {count}" for name, count in row["which_s"].items())
        table.add_row(row["component"], f"{row['sent_s']:.2f}", f"{row['executed_s']:.2f}", which)
    Console().print(table)


if __name__ == "__main__":
    main()
