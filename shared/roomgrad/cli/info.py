"""`roomgrad info`: one room."""

from __future__ import annotations

from typing import Any

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.cli.rooms import table
from roomgrad.inspect import rooms
from roomgrad.inspect.format import format_fields
from roomgrad.redis import registry
from roomgrad.redis.cluster import on_cluster

NEWEST = 3  # messages that are shown


def info(
    room: typed.Room,
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    with target.opened(run, redis) as (client, names, _):
        room = target.choose_room(client, names, room)
        carries = rooms.described_by_contract(registry.system_of_run(client, names), room)
        streams = [each for each in rooms.inspect(client, names, 0.5) if each.room == room]
        channel = names.channel(room)
        subscribers = _subscribers(client, channel)
        newest = _newest(client, {each.key: each.type for each in streams})
    found = {"run": names.run, "room": room, "channel": channel, "subscribers": subscribers}
    if as_json:
        output.print_json({**found, "carries": carries, "streams": streams, "newest": newest})
        return
    output.say(f"Room {room} notifies {subscribers} subscribers on {channel}.", "")
    for each in carries:
        output.say(f"{each['type']}  {each['about']}")
        output.say(*(f"  {name}: {what}" for name, what in each["fields"].items()))
    if carries:
        output.say("")
    output.console().print(table(streams))
    for message in newest:
        output.say("", f"{message['entry']} {message['type']}")
        output.say(*(f"  {name}  {text}" for name, text in message["fields"].items()))


def _subscribers(client: Any, channel: str) -> int:
    count = "SHARDNUMSUB" if on_cluster(client) else "NUMSUB"
    return int(client.execute_command("PUBSUB", count, channel)[1])


def _newest(client: Any, types: dict[str, str]) -> list[dict[str, Any]]:
    """Return the newest messages of some streams. types: TYPE by key."""
    found = [
        {"entry": entry.decode(), "type": type_, "fields": dict(format_fields([*pairs.items()]))}
        for key, type_ in types.items()
        for entry, pairs in client.xrevrange(key, count=NEWEST)
    ]
    return sorted(found, key=lambda each: each["entry"], reverse=True)[:NEWEST]
