"""One root of a run, looked up in streams, dead letters and memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice

import redis

from roomgrad.commands import inventory
from roomgrad.commands.dead.letters import Letters
from roomgrad.commands.trace import hops, sent
from roomgrad.commands.trace.hops import Death, Trace
from roomgrad.commands.trace.sent import Streams
from roomgrad.errors import RoomgradError
from roomgrad.names import Names

LETTERS = 10_000  # the newest, among which those of a root are looked for


def find(client: redis.Redis, names: Names, root_id: str) -> tuple[Trace, Streams]:
    """The trace of a root, or of the newest that is finished. Raises RoomgradError."""
    streams = sent.look(client, names)
    if not root_id:
        root_id = hops.newest_finished(streams)
        if not root_id:
            raise RoomgradError(
                f"run {names.run} has no finished root in its streams: name an open one by its "
                f"ROOT_ID, which every ring shows: redis-cli SUBSCRIBE '{names.channel('ROOM')}'"
            )
    deaths = _deaths(client, names, root_id)
    ids = {each.id for each in streams.messages if each.root_id == root_id}
    if not ids and not deaths:
        raise RoomgradError(unknown(names, root_id, streams))
    components = inventory.components_of(client, names)
    remembered = _remembered(client, names, sorted(components), [root_id, *sorted(ids)])
    return hops.trace(streams, root_id, deaths, remembered), streams


def unknown(names: Names, root_id: str, streams: Streams) -> str:
    """That there is no such root, and how far back one can look."""
    start = f"run {names.run} has no message of root {root_id!r}"
    if not streams.messages:
        return f"{start}, nor of any other: its streams are empty"
    since = clock(streams.since_us)
    ago = (streams.now_us - streams.since_us) / 1e6
    return (
        f"{start}: its streams reach {ago:,.1f} s back, to {since}, as each keeps the newest 1,000 "
        f"messages (setting history_entries); `roomgrad trace --run {names.run}` shows the newest "
        f"root that is finished"
    )


def clock(us: int) -> str:
    """A time as people of this time zone read it."""
    try:
        return datetime.fromtimestamp(us / 1e6).isoformat(sep=" ", timespec="milliseconds")
    except (OverflowError, OSError, ValueError):  # an entry id of somebody's own
        return "an unknown time"


def _deaths(client: redis.Redis, names: Names, root_id: str) -> list[Death]:
    """The letters of a root, the oldest first."""
    newest = islice(Letters(client, names).newest_first(), LETTERS)
    found = [
        Death(
            entry=str(letter.history.get("entry", "")),
            by=letter.component,
            place=letter.place,
            reason=letter.reason,
            letter=letter.entry,
            ends_root=letter.root_given_up,
        )
        for letter in newest
        if letter.own(b"ROOT_ID") == root_id
    ]
    return found[::-1]


def _remembered(
    client: redis.Redis, names: Names, components: Sequence[str], fields: Iterable[str]
) -> list[str]:
    """The components whose memory holds the root, or a message of it."""
    asked = [(component, field) for field in fields for component in components]
    with client.pipeline(transaction=False) as together:
        for component, field in asked:
            together.hexists(names.memory(component), field)
        answers = together.execute(raise_on_error=False)
    there = {each for (each, _), answer in zip(asked, answers, strict=True) if answer is True}
    return sorted(there)
