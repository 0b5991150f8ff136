"""`roomgrad rooms`: the rooms of a run."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.inspect.members import alike, family, spans
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
    """Return a line for each room and TYPE, without inboxes that never got a message.

    The rooms of an ensemble share one while their senders and readers are alike.
    """
    used = [each for each in found if each.added or not each.room.startswith("@")]
    return output.table(COLUMNS, [_row(each) for each in alike(used, _likeness)])


def _likeness(each: RoomState) -> Hashable:
    senders = frozenset(map(family, each.senders))
    members = frozenset((family(member.name), member.replicas) for member in each.members)
    return family(each.room), each.type, senders, members


def _row(found: Sequence[RoomState]) -> tuple[object, ...]:
    [room], senders = spans(each.room for each in found), spans(n for e in found for n in e.senders)
    members = (member for each in found for member in each.members)
    to = [
        f"{name} x{each[0].replicas}"
        for each in alike(members, lambda member: (family(member.name), member.replicas))
        for name in spans(member.name for member in each)
    ]
    numbers = zip(*((e.rate, e.lag, e.open, e.dead, e.length) for e in found), strict=True)
    return room, found[0].type, ", ".join(senders), ", ".join(to), *map(sum, numbers)
