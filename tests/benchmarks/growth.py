"""What processes and the server hold while messages go by.

    python -m tests.benchmarks.growth [--messages 50000] [--json]

4 KiB there and back between two processes, on a server without an append-only file. The figures
of each tenth of the way; `--messages 1000000` takes some minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from tests.benchmarks.transport.stage import fresh_server, resident_mb, start, told

PAIR = ("tests.benchmarks.transport.pair", "rooms")
PARTS = 10


def measured(messages: int) -> list[dict[str, Any]]:
    """MB of the two processes and of the server, after each tenth of the messages."""
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(aof=False))
        client = stack.enter_context(redis.Redis.from_url(server.url, protocol=2))
        pong, _ = start(stack, *PAIR, "pong", server.url)
        ping, lines = start(stack, *PAIR, "ping", server.url, "--window-s=0.2", heard=True)
        while len(rows) < PARTS:
            passed = 2 * told(lines)["round_trips"]
            if passed < messages * (len(rows) + 1) / PARTS:
                continue
            memory: Any = client.info("memory")
            rows.append(
                {
                    "messages": passed,
                    "ping_mb": resident_mb(ping.pid),
                    "pong_mb": resident_mb(pong.pid),
                    "server_mb": resident_mb(server.pid),
                    "data_mb": memory["used_memory"] / 1e6,
                }
            )
    return rows


def main() -> None:
    """Prints a line for each tenth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measured(arguments.messages)
    if arguments.json:
        print(json.dumps(rows))
        return
    table = Table("messages", "ping", "pong", "server", "its data", title="MB")
    for row in rows:
        values = [f"{row[key]:.1f}" for key in ("ping_mb", "pong_mb", "server_mb", "data_mb")]
        table.add_row(f"{row['messages']:,}", *values)
    Console().print(table)


if __name__ == "__main__":
    main()
