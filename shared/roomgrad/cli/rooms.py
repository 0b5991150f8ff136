"""`roomgrad rooms`: the rooms of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from roomgrad.cli import options as typed
from roomgrad.cli import tables, target

if TYPE_CHECKING:
    from roomgrad.inspect.rooms import RoomState

COLUMNS = ("room", "TYPE", "<from", "<to", "msgs/s", "waiting", "pending", "dead", "kept")


def rooms(
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    seconds: typed.Seconds = 1.0,
    as_json: typed.AsJson = False,
) -> None:
    """Show the rooms: members, messages per second, and what is waiting, pending and dead."""
    from roomgrad.inspect import rooms

    with target.connected(redis) as (client, _):
        names = target.choose_run(client, run)
        found = rooms.inspect(client, names, seconds)
    if as_json:
        tables.print_json({"run": names.run, "rooms": found})
    else:
        tables.console().print(table(found))


def table(found: Sequence[RoomState]) -> Table:
    """Return a line for each room and TYPE, without inboxes that never got a message."""
    used = [each for each in found if each.added or not each.room.startswith("@")]
    return tables.table(COLUMNS, [_row(each) for each in used])


def _row(each: RoomState) -> tuple[object, ...]:
    to = ", ".join(f"{member.name} x{member.replicas}" for member in each.members)
    where = each.room, each.type, ", ".join(each.senders), to
    return *where, each.rate, each.lag, each.open, each.dead, each.length
