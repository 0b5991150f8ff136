"""One producer floods one consumer: messages a second, and how many are lost.

    python -m tests.benchmarks.flood [--rounds 5] [--messages 10000] [--json]

Arrays of 100 pairs, in turns: redis-py pub/sub with raw bytes; a component whose handler sends 200
messages with each commit; a client that sends each by itself, and one that sends 100 at once. Timed
is from the first message that the consumer hears to the last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.transport.stage import fresh_server, ratio, start, told

FLOW = "tests.benchmarks.transport.flow"
BASE = "pubsub-raw"
CONTESTANTS = {  # name: kind, append-only file, share of the messages, about
    BASE: ("pubsub-raw", False, 1.0, "redis-py pub/sub, raw bytes"),
    "rooms": ("rooms", False, 1.0, "roomgrad, a handler that sends many"),
    "rooms-aof": ("rooms", True, 1.0, "the same, append-only file each second"),
    "client": ("client", False, 0.2, "roomgrad, Client.send"),
    "client-many": ("client-many", False, 1.0, "roomgrad, Client.send_many"),
}


def measured(name: str, messages: int) -> dict[str, float]:
    """Messages a second, and how many got lost or came twice."""
    kind, aof, share, _ = CONTESTANTS[name]
    count = str(round(messages * share))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(aof))
        _, lines = start(stack, FLOW, kind, "sink", server.url, count, heard=True)
        start(stack, FLOW, kind, "source", server.url, count)
        found = told(lines)
    return {
        "messages_s": found["heard"] / found["seconds"],
        "lost": int(count) - found["heard"],
        "twice": found["twice"],
    }


def main() -> None:
    """Prints medians, and what they are of plain pub/sub."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(arguments.rounds):
        for name, turns in found.items():
            turns.append(measured(name, arguments.messages))
    speeds = {name: [turn["messages_s"] for turn in turns] for name, turns in found.items()}
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "messages_s": statistics.median(speeds[name]),
            "of_pubsub": ratio(speeds[name], speeds[BASE]),
            "lost": sum(turn["lost"] for turn in turns),
            "twice": sum(turn["twice"] for turn in turns),
        }
        for name, turns in found.items()
    ]
    if arguments.json:
        print(json.dumps(rows))
        return
    table = Table("", "messages/s", f"of {BASE}", "lost", "twice", title="one to one")
    for row in rows:
        counts = (f"{row['lost']:,}", f"{row['twice']:,}")
        numbers = (f"{row['messages_s']:,.0f}", f"{row['of_pubsub']:.2f}", *counts)
        table.add_row(CONTESTANTS[row["name"]][3], *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
