"""How many rounds of six messages a second: roomgrad beside what people use today, in turns.

python -m tests.benchmarks.transport [--rounds 5] [--seconds 2] [--only rooms,pubsub-json] [--json]
    [--picture FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.table import Table

from tests.benchmarks.transport.chain import COMPONENTS
from tests.benchmarks.transport.stage import fresh_server, ratio, start
from tests.pages.melody.labelling_run import free_port

CHAIN = "tests.benchmarks.transport.chain"
WARM_UP_S = 1.0
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Contestant:
    """One way to bring a message from one process to another."""

    name: str
    kind: str
    about: str
    server: bool = True
    aof: bool = False


CONTESTANTS = (
    Contestant("socket", "socket", "bare sockets with TCP_NODELAY: the limit", server=False),
    Contestant("pubsub-raw", "pubsub-raw", "redis-py pub/sub, raw bytes: nothing is kept"),
    Contestant("pubsub-json", "pubsub-json", "redis-py pub/sub, JSON: nothing is kept"),
    Contestant("rooms", "rooms", "roomgrad, without an append-only file"),
    Contestant("rooms-aof", "rooms", "roomgrad, append-only file each second", aof=True),
    Contestant("faststream-channel", "faststream-channel", "FastStream, channels"),
    Contestant("faststream-stream", "faststream-stream", "FastStream, streams with a group"),
    Contestant("swergio-nodelay", "swergio-nodelay", "swergio with TCP_NODELAY", server=False),
    Contestant("swergio", "swergio", "swergio as it is", server=False),
)
BASE = "pubsub-json"


def measured(contestant: Contestant, seconds: float, warm_up_s: float = WARM_UP_S) -> float:
    """Rounds a second, after some time to warm up."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(address(contestant))
        for component in COMPONENTS:  # the trainer sends first, so it starts last
            _, lines = start(stack, CHAIN, contestant.kind, component, url, heard=True)
        return speed(lines, seconds, warm_up_s)


@contextlib.contextmanager
def address(contestant: Contestant) -> Iterator[str]:
    """A fresh server, or ports."""
    if contestant.server:
        with fresh_server(contestant.aof) as server:
            yield server.url
        return
    port = free_port()
    with contextlib.ExitStack() as stack:
        if contestant.kind.startswith("swergio"):
            start(stack, CHAIN, contestant.kind, "server", str(port))
            time.sleep(0.3)
        yield str(port)


def speed(lines: IO[str], seconds: float, warm_up_s: float) -> float:
    """Rounds a second as the trainer tells them, once the chain turns."""
    until = time.monotonic() + PATIENCE_S
    first: tuple[int, float] | None = None
    for line in lines:
        told = json.loads(line)
        rounds, at = int(told["rounds"]), float(told["at"])
        if not rounds:
            if time.monotonic() > until:
                break
            continue
        if first is None:
            first, begin = (rounds, at), at + warm_up_s
        elif at < begin:
            first = (rounds, at)
        elif at - first[1] >= seconds:
            return (rounds - first[0]) / (at - first[1])
    raise SystemExit("the chain does not turn")


def main() -> None:
    """Prints medians, and what they are of plain pub/sub."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path, help="draw it into this file")
    arguments = parser.parse_args()
    chosen = [c for c in CONTESTANTS if not arguments.only or c.name in arguments.only.split(",")]
    found: dict[str, list[float]] = {each.name: [] for each in chosen}
    for number in range(arguments.rounds):
        for each in chosen:
            found[each.name].append(measured(each, arguments.seconds))
        if not arguments.json:
            shown = ", ".join(f"{name} {values[-1]:.0f}" for name, values in found.items())
            print(f"round {number}: {shown}", flush=True)
    report(chosen, found, arguments.json)
    if arguments.picture:
        from tests.benchmarks.transport import picture

        figures = [(statistics.median(v), min(v), max(v)) for v in found.values()]
        names = [each.about.partition(":")[0] for each in chosen]
        picture.draw(arguments.picture, "Rounds of six messages, a second", names, figures)


def report(chosen: list[Contestant], found: dict[str, list[float]], as_json: bool) -> None:
    """Medians; ratios are medians of the ratios within each turn."""
    rows = []
    for each in chosen:
        values = found[each.name]
        rows.append(
            {
                "name": each.name,
                "about": each.about,
                "rounds_s": statistics.median(values),
                "lowest": min(values),
                "highest": max(values),
                "of_pubsub_json": ratio(values, found.get(BASE, values)),
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("", "rounds/s", "lowest", "highest", f"of {BASE}", title="six messages a round")
    for row in rows:
        numbers = [f"{row[key]:,.0f}" for key in ("rounds_s", "lowest", "highest")]
        table.add_row(str(row["about"]), *numbers, f"{row['of_pubsub_json']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
