"""`roomgrad rooms` and `info`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from roomgrad.cli import tables, target
from roomgrad.inspect import format, rooms
from roomgrad.inspect.rooms import Member, RoomState
from roomgrad.redis import registry
from roomgrad.redis.cluster import on_cluster

NEWEST = 3  # messages that `info` shows
COLUMNS = ("room", "TYPE", "<from", "<to", "msgs/s", "waiting", "in hand", "dead", "kept")


def listing(run: str, redis_url: str, seconds: float, *, as_json: bool) -> None:
    """Show all rooms of a run."""
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        found = rooms.look(client, names, seconds)
    if as_json:
        tables.say_json({"run": names.run, "rooms": found})
        return
    console = tables.console()
    console.print(table(found))


def table(found: Sequence[RoomState]) -> Table:
    """A line for each room and TYPE. Inboxes that got nothing yet are left out."""
    used = [each for each in found if each.added or not each.room.startswith("@")]
    return tables.table(COLUMNS, [_row(each) for each in used])


def _row(each: RoomState) -> tuple[object, ...]:
    to = ", ".join(member(who) for who in each.members)
    place = each.room, each.type, ", ".join(each.senders), to
    return *place, each.rate, each.lag, each.open, each.dead, each.length


def member(who: Member) -> str:
    """Who listens, and how many of it live."""
    return f"{who.name} x{who.replicas}"


def info(room: str, run: str, redis_url: str, *, as_json: bool) -> None:
    """Show one room."""
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        room = target.room(client, names, room)
        carries = rooms.of_contract(registry.system_of_run(client, names), room)
        states = [each for each in rooms.look(client, names, 0.5) if each.room == room]
        channel = names.channel(room)
        count = "SHARDNUMSUB" if on_cluster(client) else "NUMSUB"
        subscribed: Any = client.execute_command("PUBSUB", count, channel)  # type: ignore[no-untyped-call]
        newest: list[Any] = []
        for each in states:
            entries: Any = client.xrevrange(each.key, count=NEWEST)
            newest += [(entry.decode(), each.type, list(pairs.items())) for entry, pairs in entries]
    listeners = int(subscribed[1])
    if as_json:
        said = {"run": names.run, "room": room, "channel": channel, "subscribers": listeners}
        shows = [_entry(*each) for each in sorted(newest, reverse=True)[:NEWEST]]
        tables.say_json({**said, "carries": carries, "streams": states, "newest": shows})
        return
    _show(room, channel, listeners, carries, states, sorted(newest, reverse=True)[:NEWEST])


def _entry(entry: str, type_: str, pairs: list[tuple[bytes, bytes]]) -> dict[str, object]:
    return {"entry": entry, "type": type_, "fields": dict(format.lines(pairs))}


def _show(
    room: str,
    channel: str,
    listeners: int,
    carries: Sequence[dict[str, Any]],
    states: Sequence[RoomState],
    newest: Sequence[Any],
) -> None:
    console = tables.console()
    console.print(Text(f"Room {room} rings on {channel}, with {listeners} subscribers.\n"))
    for each in carries:
        console.print(Text(f"{each['type']}  {each['about']}"))
        for name, what in each["fields"].items():
            console.print(Text(f"  {name}: {what}"))
    if carries:
        console.print()
    console.print(table(states))
    for entry, type_, pairs in newest:
        console.print(Text(f"\n{entry} {type_}"))
        for name, text in format.lines(pairs):
            console.print(Text(f"  {name}  {text}"), overflow="fold")
