"""The hops of a root: each of its messages with who handled it, and what that took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from roomgrad.inspect.entries import Held, Sent, Streams
from roomgrad.rooms import MessageType


class State(StrEnum):
    """What became of a message at one of its readers."""

    DONE = "done"
    HELD = "in hand"
    WAITING = "waiting"
    DEAD = "dead"
    UNREAD = "for nobody"


@dataclass(frozen=True)
class Spent:
    """Where the time of a hop went, in us. None: nobody wrote it down.

    `took` is from the sending of a message to that of its reply; the others are parts of it.
    """

    took: int | None = None
    about: bool = False
    """Whether an end of it is known by the server's clock only, which has milliseconds."""

    waited: int | None = None
    """In the stream, under way, and in the server, until it was in the hands of its handler."""

    decoded: int | None = None
    handled: int | None = None
    committed: int | None = None
    """Until the commit left: replies encoded, the model stepped."""


@dataclass(frozen=True)
class Hop:
    """One message and one of its readers."""

    message: Sent
    by: str
    state: State
    spent: Spent = Spent()
    replies: tuple[Sent, ...] = ()
    held: Held | None = None
    reason: str = ""


@dataclass(frozen=True)
class Death:
    """A letter of this root."""

    entry: str
    """Of the message, in its stream."""

    by: str
    place: tuple[str, str]
    reason: str
    letter: str
    ends_root: bool = True


@dataclass
class Sum:
    """Of some hops, what is known."""

    hops: int = 0
    about: bool = False
    took: int = 0
    waited: int = 0
    decoded: int = 0
    handled: int = 0
    committed: int = 0
    timed: int = 0
    """Hops of which the parts are known."""

    def add(self, spent: Spent) -> None:
        self.hops += 1
        self.took += spent.took or 0
        self.about |= spent.about
        if spent.handled is not None:
            self.timed += 1
            self.waited += spent.waited or 0
            self.decoded += spent.decoded or 0
            self.handled += spent.handled
            self.committed += spent.committed or 0


@dataclass(frozen=True)
class Trace:
    """A root, from its first message to its last."""

    root_id: str
    hops: tuple[Hop, ...]
    deaths: tuple[Death, ...] = ()
    remembered_by: tuple[str, ...] = ()
    """Components in whose memory it still stands."""

    begins_before: bool = False
    """Whether what its first message answers is not there any more."""

    sums: dict[str, Sum] = field(default_factory=dict)

    @property
    def state(self) -> str:
        if any(death.ends_root for death in self.deaths):
            return "dead"
        if self.open:
            return "open"
        return "remembered" if self.remembered_by else "finished"

    @property
    def open(self) -> list[Hop]:
        return [hop for hop in self.hops if hop.state in (State.HELD, State.WAITING)]

    @property
    def began_us(self) -> int:
        return min((hop.message.at_us for hop in self.hops), default=0)

    @property
    def ended_us(self) -> int:
        """When its last message was sent, or what its last handler sent for another root."""
        sent = [message.at_us for hop in self.hops for message in (hop.message, *hop.replies)]
        return max(sent, default=0)


def trace(
    streams: Streams,
    root_id: str,
    deaths: Sequence[Death] = (),
    remembered_by: Sequence[str] = (),
) -> Trace:
    """The hops of a root, in the order in which its messages were sent."""
    messages = _ordered(streams, [each for each in streams.messages if each.root_id == root_id])
    claimed: set[tuple[str, str, str]] = set()
    hops: list[Hop] = []
    for message in messages:
        readers = _readers(streams, messages, message)
        hops += [_hop(streams, messages, message, by, deaths, claimed) for by in readers]
        if not readers:
            hops.append(Hop(message, "", State.UNREAD))
    lost = bool(messages) and _answers_what_is_gone(streams, messages[0])
    return Trace(root_id, tuple(hops), tuple(deaths), tuple(remembered_by), lost, _sums(hops))


def _answers_what_is_gone(streams: Streams, message: Sent) -> bool:
    """The first message of a root answers the last one of another, or nothing."""
    if message.times is None:
        return False
    there = streams.by_entry.get(message.times.answers, ())
    return not any(streams.reads(message.sent_by, each.place) for each in there)


def _ordered(streams: Streams, messages: list[Sent]) -> list[Sent]:
    """By time. Where that is the same, what answers comes after what is answered."""
    left = sorted(messages, key=lambda each: (each.at_us, each.order[1]))
    placed: list[Sent] = []
    while left:
        same = [each for each in left if each.at_us == left[0].at_us]
        next_ = left[0]
        if len(same) > 1 and placed:
            follows = (each for each in same if streams.reads(each.sent_by, placed[-1].place))
            next_ = next(follows, next_)
        left.remove(next_)
        placed.append(next_)
    return placed


def _readers(streams: Streams, messages: Sequence[Sent], message: Sent) -> list[str]:
    """Who has to handle it: components, and clients of a gateway that stand in for one."""
    senders = {each.sent_by for each in messages if each.order > message.order}
    readers = streams.readers.get(message.place, ())
    named = [each.component for each in readers if not each.of_client or each.component in senders]
    return list(dict.fromkeys(named))


def _hop(
    streams: Streams,
    messages: Sequence[Sent],
    message: Sent,
    by: str,
    deaths: Sequence[Death],
    claimed: set[tuple[str, str, str]],
) -> Hop:
    for death in deaths:
        if (death.entry, death.by, death.place) == (message.entry, by, message.place):
            return Hop(message, by, State.DEAD, reason=death.reason)
    replies = _timed_replies(streams, message, by) or _replies(messages, message, by, claimed)
    claimed |= {(*reply.place, reply.entry) for reply in replies}
    if replies:
        return Hop(message, by, State.DONE, spent(message, replies[0]), tuple(replies))
    reader = next(each for each in streams.readers[message.place] if each.component == by)
    if held := reader.held.get(message.entry):
        return Hop(message, by, State.HELD, held=held)
    waits = reader.has_to_read(message.entry)
    return Hop(message, by, State.WAITING if waits else State.DONE)


def _timed_replies(streams: Streams, message: Sent, by: str) -> list[Sent]:
    """What says itself that it answers this message, though it may open a root of its own.

    Entry ids of two streams may be the same; then a reply belongs to the message of its own root.
    """
    said = [e for e in streams.by_answered.get(message.entry, ()) if e.sent_by == by]
    asked = {each.root_id for each in streams.by_entry[message.entry]}
    found = [each for each in said if each.root_id == message.root_id] or [
        each for each in said if each.root_id not in asked
    ]
    return sorted(found, key=lambda each: each.at_us)


def _replies(
    messages: Sequence[Sent], message: Sent, by: str, claimed: set[tuple[str, str, str]]
) -> list[Sent]:
    """Without times: the next message of this root that its reader sent."""
    at = messages.index(message)
    later = (
        each
        for each in messages[at + 1 :]
        if each.sent_by == by
        and each.times is None
        and not each.place[1].startswith("LOG/")
        and (*each.place, each.entry) not in claimed
    )
    found = next(later, None)
    return [found] if found else []


def spent(message: Sent, reply: Sent) -> Spent:
    """Where the time between a message and its reply went.

    How long the message waited is what is left of it, so that two clocks need not agree.
    """
    took = max(0, reply.at_us - message.at_us)
    times, about = reply.times, not (message.exact and reply.exact)
    if times is None:
        return Spent(took, about)
    return Spent(
        took,
        about,
        waited=max(0, took - max(0, times.sent)),
        decoded=max(0, times.began),
        handled=max(0, times.ended - times.began),
        committed=max(0, times.sent - times.ended),
    )


def _sums(hops: Iterable[Hop]) -> dict[str, Sum]:
    """Of what was handled: forward, back, and all."""
    directions = {MessageType.FORWARD.value: "forward", MessageType.GRADIENT.value: "back"}
    sums: dict[str, Sum] = {}
    for hop in hops:
        if hop.state is not State.DONE or not hop.replies:
            continue
        for name in filter(None, (directions.get(hop.message.place[1]), "sum")):
            sums.setdefault(name, Sum()).add(hop.spent)
    return {name: sums[name] for name in ("forward", "back", "sum") if name in sums}


def finished(streams: Streams) -> list[str]:
    """The roots of which nobody has to read a message, those with the newest messages first."""
    last: dict[str, int] = {}
    open_: set[str] = set()
    for each in streams.messages:
        if each.place[0].startswith("@") or not each.root_id:
            continue
        readers = [r for r in streams.readers.get(each.place, ()) if not r.of_client]
        if any(r.has_to_read(each.entry) or each.entry in r.held for r in readers):
            open_.add(each.root_id)
        if readers:
            last[each.root_id] = max(last.get(each.root_id, 0), each.at_us)
    return sorted(last.keys() - open_, key=lambda root: last[root], reverse=True)
