"""One producer floods one consumer, and four flood one: messages a second, and how many are lost.

    python -m tests.benchmarks.flood [--rounds 5] [--messages 10000] [--senders 1 4] [--json]

Arrays of 100 pairs, in turns: redis-py pub/sub, one message after another or 100 with each write;
redis-py streams with a group, which deliver at least once; FastStream; components whose handlers
send 200 messages with each commit; clients that send each by itself, or 100 at once. Timed is from
the first message that the consumer hears to the last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
from typing import Any

from rich.table import Table

from tests.benchmarks.transport.flow.ends import SINK, SOURCES
from tests.benchmarks.transport.stage import console, fresh_server, ratio, start, told

FLOW = "tests.benchmarks.transport.flow"
CONTESTANTS = {  # name: kind, append-only file, share of the messages, about
    "pubsub-raw": ("pubsub-raw", False, 1.0, "redis-py pub/sub, raw bytes"),
    "pubsub-raw-held": ("pubsub-raw-held", False, 1.0, "the same, RESP2, one connection held"),
    "pubsub-raw-many": ("pubsub-raw-many", False, 1.0, "the same, 100 with each write"),
    "pubsub-json-many": ("pubsub-json-many", False, 1.0, "the same, orjson"),
    "stream-many": ("stream-many", False, 1.0, "redis-py streams, 100 at once"),
    "stream-aof": ("stream-many", True, 1.0, "the same, append-only file each second"),
    "faststream": ("faststream-many", False, 0.2, "FastStream, channels, 100 with each write"),
    "rooms": ("rooms", False, 1.0, "roomgrad, a handler that sends many"),
    "rooms-aof": ("rooms", True, 1.0, "the same, append-only file each second"),
    "client": ("client", False, 0.2, "roomgrad, Client.send"),
    "client-many": ("client-many", False, 1.0, "roomgrad, Client.send_many"),
}
BASES = {"raw": "pubsub-raw", "many": "pubsub-raw-many", "streams": "stream-many"}
SEVERAL = (*BASES.values(), "rooms", "client-many")  # those that are measured with four senders


def measured(name: str, messages: int, senders: int = 1) -> dict[str, float]:
    """Messages a second, and how many got lost or came twice."""
    kind, aof, share, _ = CONTESTANTS[name]
    count = round(messages * share)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(aof))
        words = (server.url, str(count), str(senders))
        _, lines = start(stack, FLOW, kind, SINK, *words, heard=True)
        for source in SOURCES[:senders]:
            start(stack, FLOW, kind, source, *words)
        found = told(lines)
    return {
        "messages_s": found["heard"] / found["seconds"],
        "lost": count - found["heard"],
        "twice": found["twice"],
    }


def report(rounds: int, messages: int, senders: int) -> list[dict[str, Any]]:
    """Measure all in turns; return medians, and what they are of the bases."""
    names = CONTESTANTS if senders == 1 else SEVERAL
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, turns in found.items():
            turns.append(measured(name, messages, senders))
    speeds = {name: [turn["messages_s"] for turn in turns] for name, turns in found.items()}
    return [
        {
            "name": name,
            "senders": senders,
            "messages_s": statistics.median(speeds[name]),
            **{f"of_{short}": ratio(speeds[name], speeds[base]) for short, base in BASES.items()},
            "lost": sum(turn["lost"] for turn in turns),
            "twice": sum(turn["twice"] for turn in turns),
        }
        for name, turns in found.items()
    ]


def main() -> None:
    """Print medians, and what they are of redis-py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--senders", type=int, nargs="+", default=[1, len(SOURCES)])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [
        row
        for senders in arguments.senders
        for row in report(arguments.rounds, arguments.messages, senders)
    ]
    if arguments.json:
        print(json.dumps(rows))
        return
    heads = ("senders", "", "messages/s", *(f"of {base}" for base in BASES), "lost", "twice")
    table = Table(*heads, title=f"to one consumer, load {os.getloadavg()[0]:.1f}")
    for row in rows:
        ratios = [f"{row[f'of_{base}']:.2f}" for base in BASES]
        counts = (f"{row['lost']:,}", f"{row['twice']:,}")
        about = CONTESTANTS[row["name"]][3]
        table.add_row(str(row["senders"]), about, f"{row['messages_s']:,.0f}", *ratios, *counts)
    console().print(table)


if __name__ == "__main__":
    main()
