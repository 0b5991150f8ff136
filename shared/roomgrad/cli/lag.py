"""`roomgrad lag`: what waits for each component."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import redis

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.inspect import snapshot
from roomgrad.inspect.members import alike, family, order, spans
from roomgrad.inspect.snapshot import ConsumerGroup
from roomgrad.names import Names

COLUMNS = ("component", "?replicas", "room", "TYPE", "waiting", "pending", "oldest")


def lag(run: typed.AnyRun = "", redis: typed.Redis = "", as_json: typed.AsJson = False) -> None:
    with target.opened(run, redis) as (client, names, _):
        rows = behind(client, names)
    if as_json:
        output.print_json({"run": names.run, "groups": rows})
        return
    output.print_table(COLUMNS, [_cells(each) for each in alike(rows, _likeness)])
    total = sum(row["waiting"] + row["pending"] for row in rows)
    several = f"{total:,} messages are" if total > 1 else "One message is"
    output.say(f"{several} not done yet." if total else "Nothing waits.")


def _likeness(row: dict[str, Any]) -> Hashable:
    """Return what members of an ensemble for which nothing waits have in common."""
    behind = row["waiting"] + row["pending"]
    where = row["component"], row["room"]
    return behind and where, *map(family, where), row["replicas"], row["type"]


def _cells(rows: Sequence[dict[str, Any]]) -> tuple[object, ...]:
    row = rows[0]
    oldest = output.format_age(row["oldest_s"]) if row["oldest_s"] is not None else ""
    [component], [room] = (spans(each[name] for each in rows) for name in ("component", "room"))
    where = component, row["replicas"], room, row["type"]
    return *where, row["waiting"], row["pending"], oldest


def behind(client: redis.Redis, names: Names) -> list[dict[str, Any]]:
    """Return for each group of a run what is waiting and pending, and since when."""
    now = snapshot.take(client, names)
    rows = [
        {
            "component": group.name,
            "replicas": now.replicas(group.name),
            "room": stream.room,
            "type": stream.type,
            "waiting": group.waiting,
            "pending": group.pending,
            "oldest_s": _oldest_s(client, group, now.now_us / 1e6),
        }
        for stream in now.streams
        for group in stream.groups
    ]
    return sorted(rows, key=lambda row: (order(row["component"]), order(row["room"]), row["type"]))


def _oldest_s(client: Any, group: ConsumerGroup, now_s: float) -> float | None:
    """Return the seconds since the oldest message was sent that a group has not committed."""
    entry: bytes | None = None
    if group.pending:
        pending = client.xpending_range(group.key, group.name, "-", "+", 1)
        entry = pending[0]["message_id"] if pending else None
    if entry is None and group.behind:
        waiting = client.xrange(group.key, f"({group.last_delivered}", "+", 1)
        entry = waiting[0][0] if waiting else None
    if entry is None:
        return None
    return round(max(0.0, now_s - int(entry.partition(b"-")[0]) / 1000), 3)
