"""`roomgrad top`: a run, live."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from rich.console import Group
from rich.live import Live
from rich.text import Text

from roomgrad.cli import tables, target
from roomgrad.cli.inspect import replicas as shown_replicas
from roomgrad.cli.inspect import rooms as shown_rooms
from roomgrad.inspect import replicas, rooms, streams
from roomgrad.inspect.replicas import ReplicaState
from roomgrad.inspect.rooms import RoomState
from roomgrad.names import Names
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.ledger import Ledger

KEYS_EVERY = 10  # looks between two searches for new rooms, which ask for all keys


@dataclass(frozen=True)
class Sight:
    """A run at one moment, with the rates since the moment before."""

    run: str
    replicas: tuple[ReplicaState, ...]
    rooms: tuple[RoomState, ...]
    dead: int
    training: Ledger | None


def run(run: str, redis_url: str, seconds: float, *, once: bool, as_json: bool) -> None:
    """Show a run again and again, until Ctrl+C; once where the output is no terminal."""
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        seen = sights(client, names, seconds)
        if as_json:
            tables.say_json(next(seen))
        elif once or not sys.stdout.isatty():
            tables.console().print(page(next(seen)))
        else:
            _watch(seen, names)


def _watch(seen: Iterator[Sight], names: Names) -> None:
    """Redraws until Ctrl+C, which is how it is meant to end."""
    waiting = Text(f"looking at {names.run} …")
    try:
        with Live(waiting, auto_refresh=False, screen=True) as live:
            for sight in seen:
                live.update(page(sight), refresh=True)
    except KeyboardInterrupt:
        return


def sights(client: redis.Redis, names: Names, seconds: float) -> Iterator[Sight]:
    """What a run looks like, again and again."""
    keys = streams.keys_of(client, names)
    before, looks = streams.look(client, names, keys), 0
    while True:
        time.sleep(seconds)
        looks += 1
        if looks % KEYS_EVERY == 0:
            keys = streams.keys_of(client, names)
        now = streams.look(client, names, keys)
        found = rooms.states(client, names, before, now)
        training = ledger.read(client, names)
        yield Sight(
            names.run,
            replicas.look(client, names, now),
            found,
            now.dead,
            training if training.sent else None,
        )
        before = now


def page(sight: Sight) -> Group:
    """All of it, as it is drawn."""
    return Group(
        Text(heading(sight), "bold"),
        Text(),
        shown_replicas.table(sight.replicas),
        Text(),
        shown_rooms.table(sight.rooms),
    )


def heading(sight: Sight) -> str:
    """How the training goes, and what is wrong."""
    alive = sum(each.alive for each in sight.replicas)
    rate = sum(each.rate for each in sight.rooms)
    parts: list[Any] = [sight.run, f"{alive} replicas", f"{rate:,.0f} messages/s"]
    training = sight.training
    if training is not None:
        parts.append(f"{training.finished:,} of {training.sent:,} batches done")
        if training.newest is not None:
            parts.append(f"loss {training.newest.loss:,.2f}")
            if not math.isnan(training.newest.miss_m):
                parts.append(f"mean miss {training.newest.miss_m:.2f} m")
    if sight.dead:
        parts.append(f"{sight.dead} dead letters")
    return " · ".join(map(str, parts))
