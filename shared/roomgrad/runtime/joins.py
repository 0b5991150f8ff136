"""Joins: the parts of a root wait in memory, until a handler gets them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from roomgrad import codec
from roomgrad.commit import Commit
from roomgrad.component import Component, Handler, Joining
from roomgrad.context import Context
from roomgrad.errors import MessageError, StrayMessage
from roomgrad.gather import Gathering, part_of
from roomgrad.messages import Message, new_id
from roomgrad.names import ERRORS, Names
from roomgrad.parts import Parts, gradient_of
from roomgrad.redis import roots
from roomgrad.rooms import MessageType

TIMER = "JOIN"
"""The field of a message to the component itself that names the join whose time is over."""

INCOMPLETE, LATE = "incomplete_joins", "late_parts"  # counters
ENDED_KEPT = 100_000
_FORWARD, _GRADIENT = MessageType.FORWARD.value, MessageType.GRADIENT.value
_ERROR = MessageType.LOG_ERROR


@dataclass
class Joined:
    """What becomes of a part, or of the end of a time."""

    handler: Handler | None = None
    parts: Parts | None = None
    """What the handler gets; None while parts are missing."""

    staged: list[Callable[[Commit], None]] = field(default_factory=list)
    """What the commit requires and does besides."""


class Joins:
    """The joins of a component."""

    def __init__(self, component: Component, names: Names) -> None:
        self._names, self._name = names, component.name
        self._handlers = {each.join.key: each for each in component.handlers if each.join}
        self._sent, self._members = component.reply_streams(), component.system.components
        self._ended = names.ended(component.name)
        self._timers = names.later(component.name), names.later_bodies(component.name)
        self._inbox = roots.inbox_stream(names, component.name)

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def add(self, handler: Handler, part: Message, context: Context) -> Joined:
        """Take a part of a root. Raises StrayMessage if its sender is no part of the join."""
        join = handler.join
        assert join is not None
        name = part.room if join.by_room else part.sent_by
        if name not in join.parts:
            raise StrayMessage(
                f"{name or 'a client'} sent a part of root {part.root_id} into room {part.room}, "
                f"which the join expects from {', '.join(join.parts)}"
            )
        gathering = _gathering(join, part, context)
        came = gathering.came
        found = Joined(handler, staged=[self._unless_ended(part, join)])
        if came and name in came:
            same = gathering.holds(name, part)  # then the join answers this ID
            self.refuse(part, context, f"{name} had sent one before", answers=not same)
        elif len(came or ()) + 1 >= (join.least if gathering.late else len(join.parts)):
            found.parts = self._take(gathering, part, context, (name, part))
            found.staged += [self._end(join.of(part), part), self._stop_timer(join.of(part))]
        else:
            gathering.add(name, part)
            if came is None:
                after_s = join.wait_s or join.expire_s
                found.staged.append(self._start_timer(join, part, after_s, context))
        return found

    def time_over(self, notice: Message, context: Context) -> Joined:
        """Join what came when the time to wait is over, if that is enough.

        Raises MessageError, which gives the root up, when its parts expire.
        """
        handler = self._handlers.get(str(notice.fields[TIMER]))
        if handler is None or handler.join is None:  # an older version of the component had it
            return Joined()
        join = handler.join
        gathering = _gathering(join, notice, context)
        came = gathering.came
        if came is None:
            return Joined()
        if gathering.late or not join.wait_s:
            raise MessageError(
                f"no part of {gathering.missing(came)} came to {join.key} within "
                f"{join.expire_s:g} s, only that of {', '.join(came)}: the parts have expired"
            )
        if len(came) < join.least:
            gathering.begin(came, late=True)
            left_s = join.expire_s - join.wait_s
            return Joined(handler, staged=[self._start_timer(join, notice, left_s, context)])
        parts = self._take(gathering, notice, context)
        staged = [self._unless_ended(notice), self._end(join.of(notice), notice)]
        return Joined(handler, parts, staged)

    def _take(
        self, gathering: Gathering, message: Message, context: Context, *more: tuple[str, Message]
    ) -> Parts:
        """Return the parts that came, and report those that did not."""
        parts = Parts(gathering.take(*more))
        if missing := gathering.missing(parts):
            self._report(message, context, INCOMPLETE, f"joined without {missing}")
        return parts

    def refuse(self, part: Message, context: Context, why: str, *, answers: bool = True) -> None:
        """Answer a part that is not joined by an empty gradient, so that its sender ends."""
        self._report(part, context, LATE, f"a part of {part.sent_by} was not joined: {why}")
        wanted = answers and part.type == _FORWARD and part.wants_gradient
        if wanted and (part.room, _GRADIENT) in self._sent:
            context.send(gradient_of(part))

    def late(self, part: Message, ended: str, context: Context) -> Joined:
        """Refuse a part of a root that was joined; drop one of a root that was given up.

        Then its sender may have handled the notice before the message that the part answers, so it
        gets another. The sender of the end of a time is this component, whose parts came meanwhile.
        """
        if ended == part.root_id:
            return Joined(staged=[self._tell(part)] if part.sent_by in self._members else [])
        self.refuse(part, context, "its root was joined before")
        return Joined(staged=[self._unless_ended(part)])

    def joined(self, message: Message) -> list[str]:
        """Return the name of the join of a part, or of the end of a time; nothing for others."""
        key = message.fields.get(TIMER)
        joins = [each.join for each in self._handlers.values() if each.join]
        return [
            join.of(message)
            for join in joins
            if join.key == key or (message.room in join.rooms and message.type == join.type)
        ]

    def give_up(
        self, notice: Message, forgotten: Mapping[str, Mapping[str, Any]]
    ) -> list[Callable[[Commit], None]]:
        """Return what the end of a root does besides: what comes of it later is dropped.

        forgotten: its records in memory. The sender of a part may have handled its own notice
            before it stored what the part is of, so it gets another.
        """
        ends = tuple(f" {key}" for key in self._handlers)
        stops = [self._stop_timer(name) for name in forgotten if name.endswith(ends)]
        parts = [part_of(each) for each in forgotten.values()]
        tells = [self._tell(part) for part in parts if part and part.sent_by in self._members]
        return [self._end(notice.root_id, notice), *stops, *tells]

    def _report(self, message: Message, context: Context, counter: str, text: str) -> None:
        """Count what is unusual, and say it in room `errors`."""
        context.counters.add(counter)
        fields = {"TEXT": f"{self._name}, root {message.root_id}: {text}"}
        context.send(Message(ERRORS, _ERROR.value, new_id(), message.root_id, fields=fields))

    # what a commit requires and does

    def _unless_ended(self, part: Message, join: Joining | None = None) -> Callable[[Commit], None]:
        def stage(commit: Commit) -> None:
            commit.never(self._ended, part.root_id)
            if join is not None:
                commit.never(self._ended, join.of(part))

        return stage

    def _tell(self, part: Message) -> Callable[[Commit], None]:
        text = f"root {part.root_id} is given up: its part came to {self._name} too late"
        members = [part.sent_by]
        return lambda commit: roots.give_up(
            commit, self._names, members, part.root_id, self._name, text
        )

    def _end(self, what: str, message: Message) -> Callable[[Commit], None]:
        return lambda commit: commit.record(self._ended, what, message.sent_ms, ENDED_KEPT)

    def _start_timer(
        self, join: Joining, message: Message, after_s: float, context: Context
    ) -> Callable[[Commit], None]:
        # IDs of entries never go back, when the server's clock is set back
        from_ms = min(message.sent_ms, round(context.time() * 1000))
        room = self._inbox.room.name
        notice = message.reply(room, type=_ERROR, id=message.id)
        notice.fields = {"TEXT": "the time to wait for parts is over", TIMER: join.key}
        notice.sent_by = notice.to = self._name
        entry = [
            self._names.stream(*self._inbox.key).encode(),
            self._names.channel(room).encode(),
            codec.header(notice),
            b"",
            *codec.encode(notice, self._inbox),
        ]
        return lambda commit: commit.start_timer(
            *self._timers, join.of(message), from_ms, after_s, entry
        )

    def _stop_timer(self, name: str) -> Callable[[Commit], None]:
        return lambda commit: commit.stop_timer(*self._timers, name)


def _gathering(join: Joining, message: Message, context: Context) -> Gathering:
    return Gathering(context.memory, join.of(message), join.parts, message.root_id)
