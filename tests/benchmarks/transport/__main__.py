"""How many rounds of six messages a second: roomgrad beside what people use today, in turns.

python -m tests.benchmarks.transport [--rounds 5] [--seconds 2] [--only rooms,ray] [--json]
    [--picture FILE]

Held: over one connection that the client holds, with RESP2.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from rich.table import Table

from tests.benchmarks.transport.chain.ways import COMPONENTS, TRAINER
from tests.benchmarks.transport.stage import console, fresh_server, ratio, start
from tests.pages.melody.labelling_run import free_port
from tests.waiting import until

CHAIN = "tests.benchmarks.transport.chain"
WARM_UP_S = 1.0
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Contestant:
    """One way to bring a message from one process to another."""

    name: str
    about: str
    kind: str = ""
    """As `tests.benchmarks.transport.chain` names it; the name if empty."""

    server: str = "redis"
    """`redis`, `redis-aof`, `nats`, `swergio`, `ports` (the components are servers) or `none`."""

    components: tuple[str, ...] = COMPONENTS
    needs: str = ""
    """A Python package or a program without which it is left out."""


CONTESTANTS = (
    Contestant("socket", "bare sockets with TCP_NODELAY: the limit", server="ports"),
    Contestant("pubsub-raw", "redis-py pub/sub, raw bytes"),
    Contestant("pubsub-raw-held", "redis-py pub/sub, raw bytes, held"),
    Contestant("pubsub-json", "redis-py pub/sub, orjson"),
    Contestant("pubsub-json-held", "redis-py pub/sub, orjson, held"),
    Contestant("streams", "redis-py streams with a group, held"),
    Contestant(
        "streams-aof", "redis-py streams with a group, AOF", kind="streams", server="redis-aof"
    ),
    Contestant("rooms", "roomgrad"),
    Contestant("rooms-aof", "roomgrad, AOF", kind="rooms", server="redis-aof"),
    Contestant("jetstream-memory", "NATS JetStream, memory", server="nats", needs="nats"),
    Contestant("jetstream-file", "NATS JetStream, file", server="nats", needs="nats"),
    Contestant("faststream-channel", "FastStream, channels, bytes"),
    Contestant("faststream-stream", "FastStream, streams with a group, bytes"),
    Contestant("ray", "Ray, actors", server="none", components=(TRAINER,), needs="ray"),
    Contestant("swergio-nodelay", "swergio with TCP_NODELAY", server="swergio"),
    Contestant("swergio", "swergio as it is", server="swergio"),
)
RAW, JSON = "pubsub-raw-held", "pubsub-json-held"  # what the others are compared with


def measured(contestant: Contestant, seconds: float, warm_up_s: float = WARM_UP_S) -> float:
    """Rounds a second, after some time to warm up."""
    kind = contestant.kind or contestant.name
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(served(contestant.server, kind))
        for component in contestant.components:  # the trainer sends first, so it starts last
            _, lines = start(stack, CHAIN, kind, component, url, heard=True)
        return speed(lines, seconds, warm_up_s)


@contextlib.contextmanager
def served(server: str, kind: str) -> Iterator[str]:
    """Yield the address of a fresh server, or a port."""
    port = str(free_port())
    with contextlib.ExitStack() as stack:
        if server.startswith("redis"):
            yield stack.enter_context(fresh_server(server == "redis-aof")).url
        elif server == "nats":
            yield stack.enter_context(nats_server(port))
        else:
            if server == "swergio":
                start(stack, CHAIN, kind, "server", port)
                time.sleep(0.3)  # a connection that only looks would count as a client of swergio
            yield port


@contextlib.contextmanager
def nats_server(port: str) -> Iterator[str]:
    """Yield the address of a fresh NATS server with JetStream, which is killed at the end."""
    with tempfile.TemporaryDirectory(prefix="roomgrad-") as directory:
        command = ["nats-server", "-a", "127.0.0.1", "-p", port, "-js", "-sd", directory]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            until(lambda: accepts(int(port)))
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def accepts(port: int) -> bool:
    """Return whether a server listens on a port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def is_missing(contestant: Contestant) -> bool:
    """Return whether a package or a program that it needs is not installed."""
    package = contestant.needs
    program_missing = package == "nats" and shutil.which("nats-server") is None
    return bool(package) and (find_spec(package) is None or program_missing)


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
    """Print medians, and what they are of plain pub/sub."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path, help="draw it into this file")
    arguments = parser.parse_args()
    asked = [c for c in CONTESTANTS if not arguments.only or c.name in arguments.only.split(",")]
    chosen = [each for each in asked if not is_missing(each)]
    for each in asked:
        if each not in chosen:
            print(f"left out: {each.about}: {each.needs} is not installed", file=sys.stderr)
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
                "of_json": ratio(values, found.get(JSON, values)),
                "of_raw": ratio(values, found.get(RAW, values)),
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    title = f"six messages a round, load {os.getloadavg()[0]:.1f}"
    table = Table("", "rounds/s", "lowest", "highest", "of JSON, held", "of raw, held", title=title)
    for row in rows:
        numbers = [f"{row[key]:,.0f}" for key in ("rounds_s", "lowest", "highest")]
        table.add_row(
            str(row["about"]), *numbers, *(f"{row[key]:.2f}" for key in ("of_json", "of_raw"))
        )
    console().print(table)


if __name__ == "__main__":
    main()
