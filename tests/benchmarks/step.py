"""Where every microsecond of a training step goes: hop by hop through rooms, and in one process.

python -m tests.benchmarks.step [--rounds 5] [--steps 250] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import redis
from rich.table import Table

from roomgrad.inspect import entries as sent
from roomgrad.inspect.timings import Trace, build_trace
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import LOGGING, Names
from roomgrad.rooms import MessageType
from tests.benchmarks.training import components
from tests.benchmarks.transport.stage import console
from tests.systems.trebuchet.reference import train
from tests.waiting import until

TRACED = 200  # of the newest steps of a round: history keeps a thousand messages of a stream
PARTS = ("waited", "decoded", "handled", "committed", "took")

# What the handler of a hop and its commit do, by the parts of a step of one process.
SAME = {
    ("input", "DATA/FORWARD"): ("aim",),
    ("model", "DATA/FORWARD"): ("shoot",),
    ("output", "DATA/FORWARD"): ("loss",),
    ("output", "DATA/GRADIENT"): ("product",),
    ("model", "DATA/GRADIENT"): ("backward", "step"),
    ("input", "DATA/GRADIENT"): ("batch",),
}
Row = dict[str, float]
Hops = dict[tuple[str, str], Row]


def through_rooms(client: redis.Redis, url: str, steps: int) -> Hops:
    """Microseconds of each hop of a step, by part."""
    names = Names(f"bench-{uuid.uuid4().hex[:8]}")
    finished, kpis = names.counters("trainer"), names.stream(LOGGING, MessageType.LOG_KPI)
    seen, after = 0, b"0-0"
    with components(url, names.run, steps):
        while seen < steps:  # waits for the events, as to ask again and again would cost the steps
            found: Any = client.xread({kpis: after}, block=1000)
            for _, entries in found or ():
                seen, after = seen + len(entries), entries[-1][0]
        until(lambda: int(client.hget(finished, "finished") or 0) == steps)
    return means(newest(client, names))


def newest(client: redis.Redis, names: Names) -> list[Trace]:
    """The traces of the newest steps, but for the last one, which nothing follows."""
    streams = sent.read(client, names)
    opened = [each for each in streams.messages if each.stream_key == ("input", "DATA/FORWARD")]
    roots = [each.root_id for each in sorted(opened, key=lambda each: each.order)]
    return [build_trace(streams, root) for root in roots[-TRACED - 1 : -1]]


def means(traces: Sequence[Trace]) -> Hops:
    """Of the half of the steps that is neither fast nor slow, so that parts sum up to the whole."""
    ordered = sorted(traces, key=lambda each: each.totals["sum"].took)
    quarter = len(ordered) // 4
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in ordered[quarter : len(ordered) - quarter]:
        for hop in each.hops:
            if hop.message.stream_key in SAME:
                for part in PARTS:
                    found[hop.message.stream_key][part].append(getattr(hop.timing, part) or 0)
    return {place: {part: statistics.mean(found[place][part]) for part in PARTS} for place in SAME}


def in_one_process(steps: int) -> Row:
    """Microseconds of each part of a step: of the middle half of the steps, as `means` has it."""
    laps: dict[str, list[float]] = defaultdict(list)
    before = time.perf_counter()

    def lap(part: str) -> None:
        nonlocal before
        now = time.perf_counter()
        laps[part].append((now - before) * 1e6)
        before = now

    train(steps, lap=lap)
    per_step = list(zip(*laps.values(), strict=True))[-TRACED:]
    ordered = sorted(per_step, key=sum)
    quarter = len(ordered) // 4
    middle = ordered[quarter : len(ordered) - quarter]
    return dict(zip(laps, map(statistics.mean, zip(*middle, strict=True)), strict=True))


def median_of(rows: Sequence[Row]) -> Row:
    """The medians of the rounds."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def result(rooms: Sequence[Hops], alone: Sequence[Row]) -> dict[str, object]:
    """Medians of all rounds; the ratio is the median of the ratios within each round."""
    one = median_of(alone)
    rows = []
    for place, parts in SAME.items():
        row = median_of([hops[place] for hops in rooms])
        row["one_process"] = sum(one[part] for part in parts)
        rows.append({"room": place[0], "type": place[1], **rounded(row)})
    whole = [sum(hop["took"] for hop in hops.values()) for hops in rooms]
    ratios = [took / sum(row.values()) for took, row in zip(whole, alone, strict=True)]
    return {
        "hops": rows,
        "rooms_us": round(statistics.median(whole)),
        "one_process_us": round(statistics.median(sum(row.values()) for row in alone)),
        "ratio": round(statistics.median(ratios), 2),
        "rounds": len(alone),
        "load": round(os.getloadavg()[0], 2),
    }


def rounded(row: Row) -> dict[str, int]:
    return {name: round(value) for name, value in row.items()}


def show(found: dict[str, object]) -> None:
    """As a table, and its sum."""
    table = Table("room", "TYPE", title="a step of the trebuchet, us")
    columns = (*PARTS, "one_process")
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    rows: list[dict[str, int | str]] = found["hops"]  # type: ignore[assignment]
    for row in rows:
        table.add_row(str(row["room"]), str(row["type"]), *(f"{row[name]:,}" for name in columns))
    sums = [sum(int(row[name]) for row in rows) for name in columns]
    table.add_row("sum", "", *(f"{each:,}" for each in sums), style="bold")
    console().print(table)
    print(f"through rooms {found['ratio']} times one process; load {found['load']}")


def main() -> None:
    """Prints a row for each hop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rooms, alone = [], []
    with tempfile.TemporaryDirectory() as directory, EmbeddedServer.start(directory) as server:
        client = redis.Redis.from_url(server.url, protocol=2)
        for number in range(arguments.rounds):
            alone.append(in_one_process(arguments.steps))
            rooms.append(through_rooms(client, server.local_url, arguments.steps))
            took = sum(hop["took"] for hop in rooms[-1].values())
            print(
                f"round {number}: one process {sum(alone[-1].values()):,.0f} us, "
                f"rooms {took:,.0f} us",
                file=sys.stderr,
            )
    found = result(rooms, alone)
    if arguments.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
