"""`roomgrad ps`: the replicas of a run, and its guests."""

from __future__ import annotations

from collections.abc import Sequence

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.inspect import guests, replicas, snapshot
from roomgrad.inspect.guests import GuestState
from roomgrad.inspect.replicas import ReplicaState

LONG_S = 3.0  # a busy replica is in some handler at each heartbeat, which means nothing
STUCK_S = 10.0
COLUMNS = ("component", "state", "?host", "?pid", "up", "pending", "weights")
GUEST_COLUMNS = ("guest", "state", "?host", "?pid", "open roots")


def ps(run: typed.AnyRun = "", redis: typed.Redis = "", as_json: typed.AsJson = False) -> None:
    with target.opened(run, redis) as (client, names, _):
        found = replicas.inspect(client, snapshot.take(client, names))
        outside = guests.inspect(client, names)
    if as_json:
        output.print_json({"run": names.run, "replicas": found, "guests": outside})
    elif found:
        output.console().print(table(found))
    else:
        output.say(f"No component has ever run in {names.run}.")
    if outside and not as_json:
        rows = [_guest_row(each) for each in outside]
        output.console().print(output.table(GUEST_COLUMNS, rows))


def table(found: Sequence[ReplicaState]) -> output.Table:
    """Return a line for each replica, and for each component without one."""
    return output.table(COLUMNS, [_row(each) for each in found])


def _row(each: ReplicaState) -> tuple[object, ...]:
    if not each.alive:
        return each.component, "no replica", "", "", "", "", _step(each.model)
    up = output.format_age(each.up_s) if each.up_s else ""
    where = each.host, str(each.pid)
    return each.component, _state(each), *where, up, each.pending, _step(each.version)


def _guest_row(each: GuestState) -> tuple[object, ...]:
    state = "alive" if each.alive else "gone"
    return each.name, state, each.host, str(each.pid), each.open_roots


def _state(each: ReplicaState) -> str:
    """Return the state of a replica at its last heartbeat, about a second ago."""
    if each.handling_s is not None and each.handling_s > LONG_S:
        return f"in one handler for {output.format_age(each.handling_s)}"
    return "alive" if each.turn_s < STUCK_S else f"stuck for {output.format_age(each.turn_s)}"


def _step(version: str) -> str:
    """Return the step of a version, which is a step and a random part."""
    return f"step {version.partition('-')[0]}" if version else ""
