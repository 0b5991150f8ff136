"""`roomgrad lag`."""

from __future__ import annotations

from typing import Any

import redis
from rich.text import Text

from roomgrad.cli import tables, target
from roomgrad.inspect import streams
from roomgrad.names import Names

COLUMNS = ("component", "replicas", "room", "TYPE", "waiting", "in hand", "oldest")


def run(run: str, redis_url: str, *, as_json: bool) -> None:
    """Show what waits for whom."""
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        rows = behind(client, names)
    if as_json:
        tables.say_json({"run": names.run, "groups": rows})
        return
    console = tables.console()
    console.print(tables.table(COLUMNS, [_cells(row) for row in rows]))
    total = sum(row["waiting"] + row["pending"] for row in rows)
    several = f"{total:,} messages are" if total > 1 else "One message is"
    console.print(Text(f"{several} not done yet." if total else "Nothing waits."))


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    oldest = tables.ago(row["oldest_s"]) if row["oldest_s"] is not None else ""
    place = row["room"], row["type"]
    return row["component"], row["replicas"], *place, row["waiting"], row["pending"], oldest


def behind(client: redis.Redis, names: Names) -> list[dict[str, Any]]:
    """Each group of a run: what it has not been given, what it holds, and since when."""
    now = streams.look(client, names)
    rows = [
        {
            "component": group.name,
            "replicas": now.alive(group.name),
            "room": flow.room,
            "type": flow.type,
            "waiting": group.waiting,
            "pending": group.pending,
            "oldest_s": _oldest(client, flow.key, group, now.now_us),
        }
        for flow in now.flows
        for group in flow.groups
    ]
    return sorted(rows, key=lambda row: (row["component"], row["room"], row["type"]))


def _oldest(client: redis.Redis, key: str, group: streams.Group, now_us: int) -> float | None:
    """Seconds since the oldest message was sent that a group has not committed."""
    if not group.behind:
        return None
    entries: Any = client.xpending_range(key, group.name, "-", "+", 1) if group.pending else []
    entry = entries[0]["message_id"] if entries else _next(client, key, group.name)
    if entry is None:
        return None
    return round(max(0.0, now_us / 1e6 - int(entry.partition(b"-")[0]) / 1000), 3)


def _next(client: redis.Redis, key: str, group: str) -> bytes | None:
    """The entry that a group will be given next."""
    groups: Any = client.xinfo_groups(key)
    for each in groups:
        if each["name"].decode(errors="replace") == group:
            last = each["last-delivered-id"].decode()
            after: Any = client.xrange(key, f"({last}", "+", 1)
            return after[0][0] if after else None
    return None
