"""One root of a run, looked up in streams, dead letters and memory."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

import redis

from roomgrad.errors import RoomgradError
from roomgrad.inspect import entries, timings
from roomgrad.inspect.dead_letters import Letters
from roomgrad.inspect.entries import Streams
from roomgrad.inspect.timings import Death, Hop, Spent, Trace
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.redis.cluster import on_cluster

LETTERS = 10_000  # the newest, among which those of a root are looked for

CANDIDATES = 50  # for the newest that is finished


def find(client: redis.Redis, names: Names, root_id: str) -> tuple[Trace, Streams]:
    """The trace of a root, or of the newest that is finished. Raises RoomgradError."""
    streams = entries.look(client, names)
    found = Lookup(client, names, streams)
    root_id = root_id or found.newest_finished()
    deaths = _deaths(client, names, root_id)
    if not found.ids(root_id) and not deaths:
        raise RoomgradError(unknown(names, root_id, streams))
    return timings.trace(streams, root_id, deaths, found.remembered(root_id)), streams


class Lookup:
    """Roots in the streams and the memory of a run."""

    def __init__(self, client: redis.Redis, names: Names, streams: Streams) -> None:
        self._client = client
        self._names = names
        self._streams = streams
        self._subscribe = "-c SSUBSCRIBE" if on_cluster(client) else "SUBSCRIBE"
        self._components = sorted(registry.components_of(client, names))

    def newest_finished(self) -> str:
        """The root that nobody has to read, or remembers. Raises RoomgradError: there is none."""
        for root_id in timings.finished(self._streams)[:CANDIDATES]:
            if not self.remembered(root_id):
                return root_id
        channel = self._names.channel("ROOM")
        raise RoomgradError(
            f"run {self._names.run} has no finished root in its streams: name an open one by its "
            f"ROOT_ID, which every ring shows: redis-cli {self._subscribe} '{channel}'"
        )

    def ids(self, root_id: str) -> list[str]:
        """The IDs of the messages of a root."""
        return sorted({each.id for each in self._streams.messages if each.root_id == root_id})

    def remembered(self, root_id: str) -> list[str]:
        """The components whose memory holds the root, or a message of it."""
        fields = [root_id, *self.ids(root_id)]
        asked = [(component, field) for field in fields for component in self._components]
        with self._client.pipeline(transaction=False) as together:
            for component, field in asked:
                together.hexists(self._names.memory(component), field)
            answers = together.execute(raise_on_error=False)
        found = {each for (each, _), answer in zip(asked, answers, strict=True) if answer is True}
        return sorted(found)


def unknown(names: Names, root_id: str, streams: Streams) -> str:
    """That there is no such root, and how far back one can look."""
    start = f"run {names.run} has no message of root {root_id!r}"
    if not streams.messages:
        return f"{start}, nor of any other: its streams are empty"
    since = clock(streams.since_us)
    ago = (streams.now_us - streams.since_us) / 1e6
    return (
        f"{start}: what is older than {ago:,.1f} s ({since}) may be gone, as a stream keeps the "
        f"newest 1,000 messages (setting history_entries); `roomgrad trace --run {names.run}` "
        f"shows the newest root that is finished"
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


def as_object(names: Names, trace: Trace) -> dict[str, Any]:
    """All of it; times in us, those of the clock in us of Unix time."""
    return {
        "run": names.run,
        "root_id": trace.root_id,
        "state": trace.state,
        "began_us": trace.began_us,
        "ended_us": trace.ended_us,
        "begins_before": trace.begins_before,
        "remembered_by": list(trace.remembered_by),
        "hops": [_hop_object(hop) for hop in trace.hops],
        "dead": [vars(death) | {"place": list(death.place)} for death in trace.deaths],
        **{name: vars(each) for name, each in trace.sums.items()},
    }


def _hop_object(hop: Hop) -> dict[str, Any]:
    message = hop.message
    return {
        "room": message.place[0],
        "type": message.place[1],
        "entry": message.entry,
        "id": message.id,
        "from": message.sent_by,
        "client": message.client,
        "sent_us": message.at_us,
        "exact": message.exact,
        "to": hop.by,
        "state": hop.state.value,
        **_spent_object(hop.spent),
        "replies": [[*reply.place, reply.entry] for reply in hop.replies],
        "held": vars(hop.held) if hop.held else None,
        "reason": hop.reason,
    }


def _spent_object(spent: Spent) -> dict[str, Any]:
    return {f"{name}_us" if name != "about" else name: value for name, value in vars(spent).items()}
