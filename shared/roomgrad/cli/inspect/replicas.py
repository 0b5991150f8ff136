"""`roomgrad ps`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from roomgrad.cli import tables, target
from roomgrad.inspect import replicas, streams
from roomgrad.inspect.replicas import ReplicaState

LONG_S = 3.0  # a heartbeat of a busy replica finds it in some handler, which says nothing
STILL_S = 10.0
COLUMNS = ("component", "state", "host", "pid", "up", "in hand", "weights")


def run(run: str, redis_url: str, *, as_json: bool) -> None:
    """Show the replicas of a run."""
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        found = replicas.look(client, names, streams.look(client, names))
    if as_json:
        tables.say_json({"run": names.run, "replicas": found})
        return
    console = tables.console()
    if not found:
        console.print(Text(f"No component has ever run in {names.run}."))
        return
    console.print(table(found))


def table(found: Sequence[ReplicaState]) -> Table:
    """A line for each replica, and for each component that has none."""
    return tables.table(COLUMNS, [_row(each) for each in found])


def _row(each: ReplicaState) -> tuple[object, ...]:
    if not each.alive:
        return each.component, "none lives", "", "", "", "", step(each.model)
    up = tables.ago(each.up_s) if each.up_s else ""
    return (
        each.component,
        state(each),
        each.host,
        str(each.pid),
        up,
        each.pending,
        step(each.version),
    )


def state(each: ReplicaState) -> str:
    """How it is, as its last heartbeat said, which may be a second old."""
    if each.handling_s is not None and each.handling_s > LONG_S:
        return f"in one handler for {tables.ago(each.handling_s)}"
    return "lives" if each.turn_s < STILL_S else f"stands still for {tables.ago(each.turn_s)}"


def step(version: str) -> str:
    """A version, which is a step and a random part, as people compare it."""
    return f"step {version.partition('-')[0]}" if version else ""
