"""Timings of a root: what became of each message at each of its readers, and how long it took.

A message and one of its readers are a hop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from roomgrad.inspect.entries import MessageHeader, PendingEntry, StoredMessages
from roomgrad.inspect.keys import StreamKey
from roomgrad.inspect.members import order
from roomgrad.rooms import MessageType

Replied = set[tuple[str, str, str]]
"""Room, TYPE and entry ID of the messages that are known to be a reply."""


class HopState(StrEnum):
    """What became of a message at one of its readers."""

    DONE = "done"
    PENDING = "pending"
    WAITING = "waiting"
    JOINED = "joined"
    """It was handled together with others, of which the last has the reply."""
    GATHERED = "waits for others"
    DEAD = "dead"
    UNREAD = "no reader"


@dataclass(frozen=True)
class Timing:
    """Where the time of a hop went, in microseconds; None if it was not recorded.

    `took` is from sending a message to sending its reply; the others are parts of it.
    """

    took: int | None = None
    about: bool = False
    """Whether it is known by the server's clock alone, which has milliseconds."""

    waited: int | None = None
    """In the stream, on the network and in the server, until its handler got it."""

    decoded: int | None = None
    handled: int | None = None
    committed: int | None = None
    """From the end of the handler to sending the commit: encode replies, step the model."""


@dataclass(frozen=True)
class Hop:
    """One message and one of its readers."""

    message: MessageHeader
    by: str
    state: HopState
    timing: Timing = Timing()
    replies: tuple[MessageHeader, ...] = ()
    held: PendingEntry | None = None
    reason: str = ""


@dataclass(frozen=True)
class Failure:
    """A message of the root that became a dead letter."""

    entry: str
    """The entry ID of the message in its stream."""

    by: str
    stream_key: StreamKey
    reason: str
    letter: str
    """The entry ID of the dead letter."""

    ends_root: bool = True


@dataclass(frozen=True)
class Waiting:
    """Messages of the root that a component has, and handles together with others."""

    component: str
    streams: tuple[StreamKey, ...]
    came: tuple[str, ...]
    """Their senders; or their rooms, if there are several streams."""

    missing: tuple[str, ...]
    id: str = ""
    """Their ID, if it is one."""


@dataclass
class Total:
    """The sum of what is known of some hops."""

    hops: int = 0
    about: bool = False
    took: int = 0
    waited: int = 0
    decoded: int = 0
    handled: int = 0
    committed: int = 0
    timed: int = 0
    """The number of hops whose parts are known."""

    def add(self, timing: Timing) -> None:
        """Add a hop."""
        self.hops += 1
        self.took += timing.took or 0
        self.about |= timing.about
        if timing.handled is not None:
            self.timed += 1
            self.waited += timing.waited or 0
            self.decoded += timing.decoded or 0
            self.handled += timing.handled
            self.committed += timing.committed or 0


@dataclass(frozen=True)
class Trace:
    """A root, from its first message to its last."""

    root_id: str
    hops: tuple[Hop, ...]
    failures: tuple[Failure, ...] = ()
    remembered_by: tuple[str, ...] = ()
    """The components whose memory still holds it."""

    begins_before: bool = False
    """Whether the message that its first message answers is not stored any more."""

    totals: dict[str, Total] = field(default_factory=dict)
    waiting: tuple[Waiting, ...] = ()

    @property
    def state(self) -> str:
        """`dead`, `open`, `remembered` (open, without a message under way) or `finished`."""
        if any(failure.ends_root for failure in self.failures):
            return "dead"
        if self.open:
            return "open"
        return "remembered" if self.remembered_by else "finished"

    @property
    def open(self) -> list[Hop]:
        """The hops that are not done."""
        return [hop for hop in self.hops if hop.state in (HopState.PENDING, HopState.WAITING)]

    @property
    def began_us(self) -> int:
        """When its first message was sent; 0 if there is none."""
        return min((hop.message.at_us for hop in self.hops), default=0)

    @property
    def ended_us(self) -> int:
        """When its last message was sent, or the last reply, even one that opens another root."""
        sent = [message.at_us for hop in self.hops for message in (hop.message, *hop.replies)]
        return max(sent, default=0)


def build_trace(
    stored: StoredMessages,
    root_id: str,
    failures: Sequence[Failure] = (),
    remembered_by: Sequence[str] = (),
) -> Trace:
    """Return the trace of a root, its hops in the order in which its messages were sent."""
    messages = _ordered(stored, [each for each in stored.messages if each.root_id == root_id])
    replied: Replied = set()
    hops: list[Hop] = []
    for message in messages:
        readers = _readers(stored, messages, message)
        hops += [_hop(stored, messages, message, by, failures, replied) for by in readers]
        if not readers:
            hops.append(Hop(message, "", HopState.UNREAD))
    lost = bool(messages) and _answers_a_lost_message(stored, messages[0])
    return Trace(root_id, tuple(hops), tuple(failures), tuple(remembered_by), lost, _totals(hops))


def tree(hops: Iterable[Hop]) -> Iterator[tuple[str, Hop]]:
    """Yield each hop behind the one that it follows from, with the lines of the branches."""
    by_message: dict[tuple[str, ...], list[Hop]] = {}
    for hop in hops:
        by_message.setdefault(_key(hop.message), []).append(hop)
    replies = {_key(reply) for each in by_message.values() for hop in each for reply in hop.replies}
    first = [key for key in by_message if key not in replies]
    left = _branches("", [hop for key in first for hop in by_message.pop(key)])
    while left:
        lines, lines_below, hop = left.pop()
        yield lines, hop
        below = [each for reply in hop.replies for each in by_message.pop(_key(reply), ())]
        left += _branches(lines_below, below)


def _branches(lines: str, hops: Sequence[Hop]) -> list[tuple[str, str, Hop]]:
    """Return hops, the last one first, with the lines before it and before what follows from it."""
    if len(hops) < 2:
        return [(lines, lines, hop) for hop in hops]
    last, *others = hops[::-1]
    found = [(f"{lines}├ ", f"{lines}│ ", hop) for hop in others]
    return [(f"{lines}└ ", f"{lines}  ", last), *found]


def _key(message: MessageHeader) -> tuple[str, ...]:
    return *message.stream_key, message.entry


def _answers_a_lost_message(stored: StoredMessages, message: MessageHeader) -> bool:
    """Return whether what it answers is missing from the streams that its sender reads."""
    if message.times is None:
        return False
    answered = stored.by_entry.get(message.times.answers, ())
    return not any(stored.reads(message.sent_by, each.stream_key) for each in answered)


def _ordered(stored: StoredMessages, messages: list[MessageHeader]) -> list[MessageHeader]:
    """Sort by time; of messages of the same time, a reply comes after what it answers."""
    left = sorted(messages, key=lambda each: (each.at_us, each.order[1]))
    placed: list[MessageHeader] = []
    while left:
        same = [each for each in left if each.at_us == left[0].at_us]
        next_ = left[0]
        if len(same) > 1 and placed:
            follows = (each for each in same if stored.reads(each.sent_by, placed[-1].stream_key))
            next_ = next(follows, next_)
        left.remove(next_)
        placed.append(next_)
    return placed


def _readers(
    stored: StoredMessages, messages: Sequence[MessageHeader], message: MessageHeader
) -> list[str]:
    """Return the components that have to handle it, and gateway clients that replace one."""
    senders = {each.sent_by for each in messages if each.order > message.order}
    readers = stored.readers.get(message.stream_key, ())
    named = {each.component for each in readers if not each.of_client or each.component in senders}
    if message.stream_key[1] == MessageType.GRADIENT.value and message.to in named:
        return [message.to]  # the others leave it to the sender of that part
    return sorted(named, key=order)


def _hop(
    stored: StoredMessages,
    messages: Sequence[MessageHeader],
    message: MessageHeader,
    by: str,
    failures: Sequence[Failure],
    replied: Replied,
) -> Hop:
    for failure in failures:
        failed = (failure.entry, failure.by, failure.stream_key)
        if failed == (message.entry, by, message.stream_key):
            return Hop(message, by, HopState.DEAD, reason=failure.reason)
    replies = _timed_replies(stored, message, by) or _next_reply(messages, message, by, replied)
    replied |= {(*reply.stream_key, reply.entry) for reply in replies}
    if replies:
        return Hop(message, by, HopState.DONE, timing_of(message, replies[0]), tuple(replies))
    reader = next(each for each in stored.readers[message.stream_key] if each.component == by)
    if held := reader.held.get(message.entry):
        return Hop(message, by, HopState.PENDING, held=held)
    waits = reader.has_to_read(message.entry)
    return Hop(message, by, HopState.WAITING if waits else HopState.DONE)


def _timed_replies(stored: StoredMessages, message: MessageHeader, by: str) -> list[MessageHeader]:
    """Return the messages that say that they answer this one, even if they open another root.

    Entry IDs of two streams may be the same; then a reply belongs to the message of its own root.
    """
    sent = [each for each in stored.by_answered.get(message.entry, ()) if each.sent_by == by]
    asked = {each.root_id for each in stored.by_entry[message.entry]}
    found = [each for each in sent if each.root_id == message.root_id] or [
        each for each in sent if each.root_id not in asked
    ]
    return sorted(found, key=lambda each: each.at_us)


def _next_reply(
    messages: Sequence[MessageHeader], message: MessageHeader, by: str, replied: Replied
) -> list[MessageHeader]:
    """Without times: return the next message of this root that its reader sent."""
    at = messages.index(message)
    later = (
        each
        for each in messages[at + 1 :]
        if each.sent_by == by
        and each.times is None
        and not each.stream_key[1].startswith("LOG/")
        and (*each.stream_key, each.entry) not in replied
    )
    found = next(later, None)
    return [found] if found else []


def timing_of(message: MessageHeader, reply: MessageHeader) -> Timing:
    """Return where the time between a message and its reply went.

    The time that the message waited is the rest, so the clocks of two machines need not agree.
    """
    took = max(0, reply.at_us - message.at_us)
    times, about = reply.times, not (message.exact and reply.exact)
    if times is None:
        return Timing(took, about)
    return Timing(
        took,
        about,
        waited=max(0, took - max(0, times.sent)),
        decoded=max(0, times.began),
        handled=max(0, times.ended - times.began),
        committed=max(0, times.sent - times.ended),
    )


def _totals(hops: Iterable[Hop]) -> dict[str, Total]:
    """Return the totals of the hops that are done: forward, back, and all."""
    directions = {MessageType.FORWARD.value: "forward", MessageType.GRADIENT.value: "back"}
    totals: dict[str, Total] = {}
    for hop in hops:
        if hop.state is not HopState.DONE or not hop.replies:
            continue
        for name in filter(None, (directions.get(hop.message.stream_key[1]), "sum")):
            totals.setdefault(name, Total()).add(hop.timing)
    return {name: totals[name] for name in ("forward", "back", "sum") if name in totals}


def finished_roots(stored: StoredMessages) -> list[str]:
    """Return the roots without an unread or pending message, the newest first."""
    last: dict[str, int] = {}
    open_: set[str] = set()
    for each in stored.messages:
        if each.stream_key[0].startswith("@") or not each.root_id:
            continue
        readers = [r for r in stored.readers.get(each.stream_key, ()) if not r.of_client]
        if any(r.has_to_read(each.entry) or each.entry in r.held for r in readers):
            open_.add(each.root_id)
        if readers:
            last[each.root_id] = max(last.get(each.root_id, 0), each.at_us)
    return sorted(last.keys() - open_, key=lambda root: last[root], reverse=True)
