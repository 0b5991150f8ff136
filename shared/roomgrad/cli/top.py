"""`roomgrad top`: a run, live."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import redis
from rich.console import Group
from rich.live import Live
from rich.text import Text
from typer import Option

from roomgrad.cli import options as typed
from roomgrad.cli import output, ps, rooms, target
from roomgrad.inspect import progress, replicas, snapshot
from roomgrad.inspect.keys import stream_keys
from roomgrad.inspect.replicas import ReplicaState
from roomgrad.inspect.rooms import RoomState, compare
from roomgrad.names import Names
from roomgrad.systems import Progress

KEYS_EVERY = 10  # snapshots between two searches for new streams, which scan all keys


@dataclass(frozen=True)
class View:
    """A run at one moment, with the rates since the moment before."""

    run: str
    replicas: tuple[ReplicaState, ...]
    rooms: tuple[RoomState, ...]
    dead: int
    progress: Progress | None

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        fields = dict(vars(self))
        fields.pop("progress")
        return {**fields, "training": self.progress.figures if self.progress else None}


def top(
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    seconds: typed.Seconds = 1.0,
    once: Annotated[bool, Option("--once", help="Print one table, and end.")] = False,
    as_json: typed.AsJson = False,
) -> None:
    with target.opened(run, redis) as (client, names, _):
        views = _views(client, names, seconds)
        if as_json:
            output.print_json(next(views).to_json())
        elif once or not sys.stdout.isatty():
            output.console().print(_page(next(views)))
        else:
            _watch(views, names)


def _watch(views: Iterator[View], names: Names) -> None:
    """Redraw until Ctrl+C."""
    waiting = Text(f"reading {names.run} …")
    try:
        with Live(waiting, auto_refresh=False, screen=True) as live:
            for view in views:
                live.update(_page(view), refresh=True)
    except KeyboardInterrupt:
        return


def _views(client: redis.Redis, names: Names, seconds: float) -> Iterator[View]:
    """Yield a view every so many seconds."""
    keys = stream_keys(client, names)
    before, count = snapshot.take(client, names, keys), 0
    while True:
        time.sleep(seconds)
        count += 1
        if count % KEYS_EVERY == 0:
            keys = stream_keys(client, names)
        now = snapshot.take(client, names, keys)
        yield View(
            names.run,
            replicas.inspect(client, now),
            compare(client, before, now),
            now.dead_letters,
            progress.read(client, names),
        )
        before = now


def _page(view: View) -> Group:
    heading = Text(_heading(view), "bold")
    return Group(heading, Text(), ps.table(view.replicas), Text(), rooms.table(view.rooms))


def _heading(view: View) -> str:
    alive = sum(each.alive for each in view.replicas)
    rate = sum(each.rate for each in view.rooms)
    parts = [view.run, f"{alive} replicas", f"{rate:,.0f} messages/s"]
    if done := view.progress:
        of = "" if done.total is None else f" of {done.total:,}"
        parts += [f"{done.done:,}{of} {done.unit} done"] if done.unit else []
        parts += done.details
    if view.dead:
        parts.append(f"{view.dead} dead letters")
    return " · ".join(parts)
