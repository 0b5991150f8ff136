"""What each guard and each write of a commit costs: server time, and memory that stays.

    python -m tests.benchmarks.guard_costs [--rounds 5] [--commits 2000] [--json]

Commits with a reply of 4 KiB, in turns without and with one more guard or write. The server says
how long its script took (`INFO commandstats`); the difference is what the guard or write costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass

import redis
from rich.table import Table

from roomgrad.commit import SCRIPT, Commit
from tests.benchmarks.transport.stage import console, fresh_server

PLAIN = "a commit with one reply"
RUN = "{costs}:"
STREAM, OUTPUT, DONE = f"{RUN}in:DATA", f"{RUN}out:DATA", f"{RUN}done:g:in:DATA"
HASH, TOKENS = f"{RUN}hash", f"{RUN}tokens"
DUES, BODIES = f"{RUN}later:g", f"{RUN}later:g:bodies"
TIMER = [b"stream", b"channel", b"{", b"", b"m", b"{}"]
GROUP = "g"
SHORT, LONG = bytes(64), bytes(16_384)
FIELDS = [b"ID", b"x" * 16, b"ROOT_ID", b"x" * 16, b"m", b"{}", b"x", bytes(4096)]
PIPELINE = 100  # commits sent at once


@dataclass(frozen=True)
class Extra:
    """One more guard or write of a commit."""

    name: str
    add: Callable[[Commit, int], object]
    """Adds it to the commit of this number, unique in a turn."""

    keeps: str = ""
    """The key that grows by it."""


def pending(commit: Commit, number: int) -> None:
    commit.pending(STREAM, DONE, GROUP, f"1-{number}")


def pending_and_memory(commit: Commit, number: int) -> None:
    pending(commit, number)
    commit.memory()


EXTRAS = (
    Extra("PENDING, XACK, done mark", pending, DONE),
    Extra("the same, and MEMORY", pending_and_memory, DONE),
    Extra("SAME, 64 bytes", lambda commit, n: commit.same(HASH, b"short", SHORT)),
    Extra("SAME, 16 KiB", lambda commit, n: commit.same(HASH, b"long", LONG)),
    Extra("ABSENT", lambda commit, n: commit.same(HASH, b"%d" % n, None)),
    Extra("STORED", lambda commit, n: commit.stored(HASH)),
    Extra("ONCE, and its token", lambda commit, n: commit.once(TOKENS, f"{n:032}", n), TOKENS),
    Extra("ledger", lambda commit, n: commit.ledger(TOKENS, HASH, f"{n:032}", n), TOKENS),
    Extra("an open root keeps its weights", lambda commit, n: commit.retain(HASH, "version")),
    Extra("a counter", lambda commit, n: commit.do(b"HINCRBY", HASH, b"count", b"1")),
    Extra(
        "a record of 64 bytes",
        lambda commit, n: commit.do(b"HSET", HASH, b"%032d" % n, SHORT),
        HASH,
    ),
    Extra(
        "a timer",
        lambda commit, n: commit.start_timer(DUES, BODIES, f"{n:032}", n, 1, TIMER),
        BODIES,
    ),
)


@dataclass(frozen=True)
class Turn:
    """What the commits of a turn took."""

    server_us: float
    kept_bytes: float


def turn(client: redis.Redis, extra: Extra | None, commits: int) -> Turn:
    """Apply commits of one message each, all with the same extra."""
    client.flushall()
    client.hset(HASH, mapping={"short": SHORT, "long": LONG})
    for number in range(1, commits + 1):
        client.xadd(STREAM, {"m": b""}, id=f"1-{number}")
    client.xgroup_create(STREAM, GROUP, id="0")
    client.xreadgroup(GROUP, "replica", {STREAM: ">"}, count=commits)
    before = _size(client, extra)
    client.config_resetstat()
    for start in range(1, commits + 1, PIPELINE):
        with client.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + PIPELINE, commits + 1)):
                pipe.execute_command(*_commit(extra, number).command())
            for answer in pipe.execute():
                assert answer[0] == b"ok", answer
    took_us = client.info("commandstats")["cmdstat_evalsha"]["usec"]
    return Turn(took_us / commits, (_size(client, extra) - before) / commits)


def _commit(extra: Extra | None, number: int) -> Commit:
    commit = Commit()
    if extra:
        extra.add(commit, number)
    commit.send(OUTPUT, f"{RUN}out", b'{"ring":1,"id":"', FIELDS)
    return commit


def _size(client: redis.Redis, extra: Extra | None) -> int:
    if not extra or not extra.keeps:
        return 0
    return client.memory_usage(extra.keeps, samples=0) or 0


def measured(rounds: int, commits: int) -> dict[str, Turn]:
    """Return what each extra adds to a commit without it; medians of the turns."""
    found: dict[str, list[Turn]] = {each.name: [] for each in EXTRAS}
    found[PLAIN] = []
    with fresh_server(aof=False) as server, redis.Redis.from_url(server.url) as client:
        client.script_load(SCRIPT)
        for _ in range(rounds):
            plain = turn(client, None, commits)
            found[PLAIN].append(plain)
            for each in EXTRAS:
                took = turn(client, each, commits)
                more = Turn(took.server_us - plain.server_us, took.kept_bytes)
                found[each.name].append(more)
    return {name: _median(turns) for name, turns in found.items()}


def _median(turns: list[Turn]) -> Turn:
    return Turn(
        statistics.median(each.server_us for each in turns),
        statistics.median(each.kept_bytes for each in turns),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.guard_costs", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commits", type=int, default=2000, help="of each turn (default: 2000)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    found = measured(options.rounds, options.commits)
    if options.json:
        print(json.dumps({name: asdict(each) for name, each in found.items()}))
        return
    table = Table("", "server, µs", "bytes that stay", title=f"load {os.getloadavg()[0]:.1f}")
    for name, each in found.items():
        table.add_row(
            name, f"{each.server_us:.1f}", f"{each.kept_bytes:.0f}" if each.kept_bytes else ""
        )
    console().print(table)


if __name__ == "__main__":
    main()
