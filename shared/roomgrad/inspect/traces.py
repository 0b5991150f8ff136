"""The trace of a root, found in the streams, dead letters and memory of a run."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import redis

from roomgrad.errors import RoomgradError
from roomgrad.inspect import entries, gathered, timings
from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.inspect.entries import StoredMessages
from roomgrad.inspect.format import format_time
from roomgrad.inspect.members import order
from roomgrad.inspect.timings import Failure, Hop, Trace, Waiting
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.redis.cluster import on_cluster

MOST_LETTERS = 10_000  # dead letters that are searched, the newest ones
CANDIDATES = 50  # for the newest finished root


def find(client: redis.Redis, names: Names, root_id: str) -> tuple[Trace, StoredMessages]:
    """Return the trace of a root, or of the newest finished one if `root_id` is empty.

    Raises RoomgradError if there is none.
    """
    stored = entries.read(client, names)
    search = _Search(client, names, stored)
    root_id = root_id or search.newest_finished()
    failures = _failures(client, names, root_id)
    if not search.ids(root_id) and not failures:
        raise RoomgradError(_unknown(names, root_id, stored))
    trace = timings.build_trace(stored, root_id, failures, search.remembered(root_id))
    waits = search.waiting(root_id)
    hops = tuple(gathered.marked(each, search.gathered, waits) for each in trace.hops)
    return replace(trace, hops=hops, waiting=waits), stored


class _Search:
    """Roots in the streams and the memory of a run."""

    def __init__(self, client: redis.Redis, names: Names, stored: StoredMessages) -> None:
        self._client = client
        self._names = names
        self._stored = stored
        self._components = sorted(registry.components_of(client, names), key=order)
        system = registry.system_of_run(client, names)
        self.gathered = gathered.gathered(system, registry.declared_in(client, names))

    def newest_finished(self) -> str:
        """Return the newest root that no group and no memory waits for. Raises RoomgradError."""
        for root_id in timings.finished_roots(self._stored)[:CANDIDATES]:
            if not self.remembered(root_id):
                return root_id
        subscribe = "-c SSUBSCRIBE" if on_cluster(self._client) else "SUBSCRIBE"
        raise RoomgradError(
            f"run {self._names.run} has no finished root in its streams: name an open one by its "
            f"ROOT_ID, which every notification contains: redis-cli {subscribe} "
            f"'{self._names.channel('ROOM')}'"
        )

    def ids(self, root_id: str) -> list[str]:
        """Return the IDs of the messages of a root."""
        return sorted({each.id for each in self._stored.messages if each.root_id == root_id})

    def remembered(self, root_id: str) -> list[str]:
        """Return the components whose memory holds the root, a message of it, or a part."""
        fields = [root_id, *self.ids(root_id)]
        asked = [(component, field) for field in fields for component in self._components]
        with self._client.pipeline(transaction=False) as pipeline:
            for component, field in asked:
                pipeline.hexists(self._names.memory(component), field)
            answers = pipeline.execute(raise_on_error=False)
        found = {each for (each, _), answer in zip(asked, answers, strict=True) if answer is True}
        return sorted(found | {each.component for each in self.waiting(root_id)}, key=order)

    def waiting(self, root_id: str) -> tuple[Waiting, ...]:
        """Return the messages of the root that wait for others in the memory of a component."""
        ids = self.ids(root_id)
        return gathered.waiting(self._client, self._names, self.gathered, root_id, ids)


def _unknown(names: Names, root_id: str, stored: StoredMessages) -> str:
    """Return that there is no such root, and how far back messages are stored."""
    start = f"run {names.run} has no message of root {root_id!r}"
    if not stored.messages:
        return f"{start}, nor of any other: its streams are empty"
    ago = (stored.now_us - stored.since_us) / 1e6
    return (
        f"{start}: what is older than {ago:,.1f} s ({format_time(stored.since_us)}) may be gone, "
        f"as a stream keeps the newest 1,000 messages (setting history_entries); "
        f"`roomgrad trace --run {names.run}` shows the newest finished root"
    )


def _failures(client: redis.Redis, names: Names, root_id: str) -> list[Failure]:
    """Return the dead letters of a root, the oldest first."""
    newest = islice(DeadLetters(client, names).newest_first(), MOST_LETTERS)
    found = [
        Failure(
            entry=str(letter.history.get("entry", "")),
            by=letter.component,
            stream_key=letter.stream_key,
            reason=letter.reason,
            letter=letter.entry,
            ends_root=letter.root_given_up,
        )
        for letter in newest
        if letter.message_field(b"ROOT_ID") == root_id
    ]
    return found[::-1]


def to_json(names: Names, trace: Trace) -> dict[str, Any]:
    """Return a trace for JSON; durations in microseconds, times in microseconds of Unix time."""
    return {
        "run": names.run,
        "root_id": trace.root_id,
        "state": trace.state,
        "began_us": trace.began_us,
        "ended_us": trace.ended_us,
        "begins_before": trace.begins_before,
        "remembered_by": list(trace.remembered_by),
        "waiting": [vars(each) for each in trace.waiting],
        "hops": [_hop_to_json(hop) for hop in trace.hops],
        "dead": [_failure_to_json(failure) for failure in trace.failures],
        **{name: vars(total) for name, total in trace.totals.items()},
    }


def _failure_to_json(failure: Failure) -> dict[str, Any]:
    fields = dict(vars(failure))
    return {"place": list(fields.pop("stream_key")), **fields}


def _hop_to_json(hop: Hop) -> dict[str, Any]:
    message, timing = hop.message, vars(hop.timing)
    return {
        "room": message.stream_key[0],
        "type": message.stream_key[1],
        "entry": message.entry,
        "id": message.id,
        "from": message.sent_by,
        "client": message.client,
        "sent_us": message.at_us,
        "exact": message.exact,
        "to": hop.by,
        "state": hop.state.value,
        **{name if name == "about" else f"{name}_us": value for name, value in timing.items()},
        "replies": [[*reply.stream_key, reply.entry] for reply in hop.replies],
        "held": vars(hop.held) if hop.held else None,
        "reason": hop.reason,
    }
