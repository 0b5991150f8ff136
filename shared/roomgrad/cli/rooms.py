"""`roomgrad rooms`: the rooms of a run."""

from __future__ import annotations

from collections.abc import Sequence

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.inspect.rooms import RoomState, inspect

COLUMNS = ("room", "TYPE", "?<from", "<to", "msgs/s", "waiting", "pending", "dead", "?kept")


def rooms(
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    seconds: typed.Seconds = 1.0,
    as_json: typed.AsJson = False,
) -> None:
    with target.opened(run, redis) as (client, names, _):
        found = inspect(client, names, seconds)
    if as_json:
        output.print_json({"run": names.run, "rooms": found})
    else:
        output.console().print(table(found))


def table(found: Sequence[RoomState]) -> output.Table:
    """Return a line for each room and TYPE, without inboxes that never got a message."""
    used = [each for each in found if each.added or not each.room.startswith("@")]
    return output.table(COLUMNS, [_row(each) for each in used])


def _row(each: RoomState) -> tuple[object, ...]:
    to = ", ".join(f"{member.name} x{member.replicas}" for member in each.members)
    where = each.room, each.type, ", ".join(each.senders), to
    return *where, each.rate, each.lag, each.open, each.dead, each.length
