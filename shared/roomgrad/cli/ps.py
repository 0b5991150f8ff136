"""`roomgrad ps`: the replicas of a run, and its guests."""

from __future__ import annotations

from collections.abc import Sequence

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.inspect import guests, replicas, snapshot
from roomgrad.inspect.guests import GuestState
from roomgrad.inspect.members import alike, spans
from roomgrad.inspect.replicas import LONG_S, STUCK_S, ReplicaState, likeness, step_of

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
    """Return a line for each replica, and for each component without one.

    Members of an ensemble share one while their state and their process are the same.
    """
    return output.table(COLUMNS, [_row(each) for each in alike(found, likeness)])


def _row(found: Sequence[ReplicaState]) -> tuple[object, ...]:
    [name], one = spans(each.component for each in found), found[0]
    steps = _steps([each.version if each.alive else each.model for each in found])
    if not one.alive:
        return name, _state(one), "", "", "", "", steps
    up_s, pending = max(each.up_s for each in found), sum(each.pending for each in found)
    up = output.format_age(up_s) if up_s else ""
    return name, _state(one), one.host, str(one.pid), up, pending, steps


def _guest_row(each: GuestState) -> tuple[object, ...]:
    state = "alive" if each.alive else "gone"
    return each.name, state, each.host, str(each.pid), each.open_roots


def _state(each: ReplicaState) -> str:
    """Return the state of a replica at its last heartbeat, about a second ago."""
    if not each.alive:
        return "no replica"
    if each.handling_s is not None and each.handling_s > LONG_S:
        return f"in one handler for {output.format_age(each.handling_s)}"
    return "alive" if each.turn_s < STUCK_S else f"stuck for {output.format_age(each.turn_s)}"


def _steps(versions: Sequence[str]) -> str:
    steps = sorted({step_of(each) for each in versions if each})
    return f"step {'-'.join(map(str, dict.fromkeys((steps[0], steps[-1]))))}" if steps else ""
