"""From one message to one commit: dispatch, handler call, staging. Knows no connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

from roomgrad import codec, gather
from roomgrad.commit import Commit
from roomgrad.component import Component, Handler, as_messages
from roomgrad.context import Context
from roomgrad.errors import MessageError
from roomgrad.memory import GATHERED, Reads
from roomgrad.messages import Message
from roomgrad.models import Model, forward_seed
from roomgrad.names import ERRORS, LOGGING, Names
from roomgrad.parts import Parts
from roomgrad.redis import roots
from roomgrad.rooms import MessageType, ModelStatus, Room, Stream
from roomgrad.runtime.dead_letters import ERRORS_KEPT
from roomgrad.runtime.joins import TIMER, Joined, Joins
from roomgrad.runtime.model.store import ModelStore, Step

LOGS_KEPT = 10_000
ROUTES_REMEMBERED = 4096  # guests have rooms of their own
_FORWARD, _GRADIENT = MessageType.FORWARD.value, MessageType.GRADIENT.value
_UNGROUPED = {ERRORS: ERRORS_KEPT, LOGGING: LOGS_KEPT}


class Route(NamedTuple):
    """Where messages of one room and TYPE go."""

    stream: Stream
    key: str
    channel: str
    limit: int | None
    """How many entries its stream keeps, if no group reads it."""


@dataclass(slots=True)
class Attempt:
    """What one run of the handlers wants: to be committed, stepped again, or discarded."""

    context: Context
    messages: list[Message]
    model: Model | None
    began_ns: int = 0
    ended_ns: int = 0
    """When the handlers were called and when the last of them returned, by the monotonic clock."""

    guest_left: tuple[str, ...] = ()
    """If no guest waits for the root any more, the components that may remember it: its answers
    end the root."""

    staged: list[Callable[[Commit], None]] = field(default_factory=list)
    """What the commit requires and does besides."""

    @property
    def steps(self) -> bool:
        """Whether it takes an optimizer step."""
        return self.model is not None and self.model.learned is not None

    @property
    def changes_model(self) -> bool:
        """Whether it takes a step, or replaces the weights."""
        return self.model is not None and self.model.changes

    @property
    def sent(self) -> list[Message]:
        """The messages that it sends, now or with a delay."""
        delayed = self.context.delayed
        return [*self.messages, *(each for _, each in delayed)] if delayed else self.messages

    @property
    def opens_root(self) -> bool:
        """Whether it sends a message of another root than the one that it handles."""
        root_id = self.context.root_id
        others = [each for each in self.sent if each.root_id != root_id]
        return any(each.room not in _UNGROUPED for each in others)


class Work:
    """Runs the handlers of a component on a message and stages what they want."""

    def __init__(
        self, component: Component, names: Names, settings: Any, store: ModelStore | None
    ) -> None:
        self.component = component
        self.names = names
        self.settings = settings
        self.store = store
        self.open_roots = 0  # in the component's memory, counted with each heartbeat
        self.missed = 0  # entries that an `everyone` replica never saw, since its last commit
        self._inbox = names.inbox(component.name)
        self._by_stream: dict[tuple[str, str], list[Handler]] = {}
        for handler in component.handlers:
            self._by_stream.setdefault(handler.key, []).append(handler)
        self._declared = tuple(sorted(component.reply_streams()))
        self._senders = self._branches()
        self._joins = Joins(component, names)
        self._route = lru_cache(maxsize=ROUTES_REMEMBERED)(self._find_route)

    def attempt(self, message: Message, reads: Reads, version: bytes | None) -> Attempt | None:
        """Call the handlers of a message; return None if none wants it.

        Raises what a handler raises, and ContractError for a reply that it does not declare.
        """
        if message.room == self._inbox:
            if TIMER in message.fields:
                context = self._context_of_join(message, reads, version)
                return self._joined(self._joins.time_over(message, context), context)
            return self._give_up_root(message, reads)
        if message.type == _GRADIENT and self._is_for_another(message):
            return None
        found = self._by_stream.get((message.room, message.type), ())
        if found and found[0].join is not None:
            context = self._context_of_join(message, reads, version)
            return self._joined(self._joins.add(found[0], message, context), context)
        context = self.context(reads, message.root_id, version, message)
        if gathers := message.type == _GRADIENT and self._answered_by(message):
            whole = gather.whole_gradient(context.memory, message, gathers)
            if whole is None:
                return Attempt(context, [], None)
            message = whole
        handlers = [each for each in found if each.when is None or each.when(message)]
        if not (handlers or gathers):
            return None
        context.missed = self.missed
        return (self._call_with_all if gathers else self._call)(handlers, message, context)

    def _is_for_another(self, gradient: Message) -> bool:
        """Return whether it belongs to a part that another reader of the room has sent."""
        if gradient.to in ("", self.component.name):
            return False
        stream = self.component.system.find(gradient.room, gradient.type)
        return stream is not None and gradient.to in stream.consumers

    def _call(
        self, handlers: Sequence[Handler], message: Message | Parts, context: Context
    ) -> Attempt:
        messages: list[Message] = []
        began = time.monotonic_ns()
        for handler in handlers:
            own = message if len(handlers) == 1 else deepcopy(message)
            for reply in as_messages(handler.function(own, context)):
                self.component.may_send(reply, handler.replies)
                messages.append(reply)
        ended = time.monotonic_ns()
        attempt = self._attempt(context, messages, context.optional_model)
        attempt.began_ns, attempt.ended_ns = began, ended
        return attempt

    def _call_with_all(
        self, handlers: Sequence[Handler], message: Message | Parts, context: Context
    ) -> Attempt:
        """Call handlers with what waited for each other: no other message would close its root.

        Raises MessageError, which gives the root up, also for what otherwise leaves it open.
        """
        try:
            return self._call(handlers, message, context)
        except MessageError as error:
            raise error if error.ends_root else MessageError(str(error)) from error

    def _joined(self, joined: Joined, context: Context) -> Attempt:
        if joined.handler is None or joined.parts is None:
            attempt = self._attempt(context, [], None)
        else:
            attempt = self._call_with_all([joined.handler], joined.parts, context)
        attempt.staged = joined.staged
        return attempt

    def late(self, message: Message, reads: Reads, ended: str) -> Attempt:
        """Return what becomes of a part whose root was joined before, or given up."""
        context = self.context(reads, message.root_id, None, message)
        return self._joined(self._joins.late(message, ended, context), context)

    def _context_of_join(self, part: Message, reads: Reads, version: bytes | None) -> Context:
        """Return the context of a join, the same whichever part comes last."""
        name = "".join(self._joins.joined(part))
        return self.context(reads, part.root_id, version, replace(part, id=name))

    def ends_of(self, message: Message, *, with_root: bool) -> list[str]:
        """Return what may not have ended for a message to become a dead letter.

        That is its join, and its root, unless the message of one that does not gather ends it.
        """
        joined = self._joins.joined(message)
        return joined + ([message.root_id] if joined or (self.gathers and not with_root) else [])

    @property
    def gathers(self) -> bool:
        """Whether the component handles several messages as one."""
        return bool(self._senders or self._joins)

    def _branches(self) -> dict[str, tuple[str, ...]]:
        """Return the rooms into which this component sends what several answer, and these."""
        name, system = self.component.name, self.component.system
        sent = {*self._declared, *((str(room), str(t)) for room, t in self.component.sends)}
        rooms = [stream.room.name for stream in self.component.streams if stream.senders]
        return {
            room: system.senders(room)
            for room in rooms
            if (room, _FORWARD) in sent and name in system.stream(room, _GRADIENT).consumers
        }

    def _answered_by(self, message: Message) -> tuple[str, ...]:
        """Return the components whose gradients of a message are added up."""
        senders = self._senders.get(message.room, ())
        if not senders or not message.wants_gradient:
            return ()
        guest = message.guest
        return () if guest and guest.receives(message.room, _FORWARD) else senders

    def start(self, reads: Reads) -> Attempt | None:
        """Call `on_start`; return None for a component that declares none."""
        if self.component.on_start is None:
            return None
        context = self.context(reads)
        return self._attempt_freely(context, as_messages(self.component.on_start(context)))

    def context(
        self,
        reads: Reads,
        root_id: str = "",
        version: bytes | None = None,
        message: Message | None = None,
    ) -> Context:
        """Return the context of one call."""
        status = ModelStatus.TRAIN if message is None else message.status
        model = None
        if self.store is not None:
            model = self.store.model(version, status, self._seed(message))
        return Context(
            self.names,
            self.component.name,
            self.settings,
            reads,
            root_id=root_id,
            model=model,
            status=status,
            open_roots=self.open_roots,
        )

    def _seed(self, message: Message | None) -> int:
        """Return the seed of a forward pass of this message, the same on every replica."""
        if message is None:
            return 0
        key = message.id if message.seed is None else message.seed
        return forward_seed(self.settings.seed, self.component.name, key)

    def _give_up_root(self, notice: Message, reads: Reads) -> Attempt:
        """Delete what memory holds of a root, and call `on_dead` with it."""
        context = self.context(reads, notice.root_id)
        forgotten = context.forget_root(notice.root_id)
        records = [each for each in forgotten.values() if GATHERED not in each]
        messages: list[Message] = []
        if records and self.component.on_dead is not None:
            messages = as_messages(self.component.on_dead(records, context))
        attempt = self._attempt_freely(context, messages)
        if self.gathers:
            attempt.staged = self._joins.give_up(notice, forgotten)
        return attempt

    def _attempt_freely(self, context: Context, messages: list[Message]) -> Attempt:
        """Return an attempt whose messages may go to any stream that a handler declares."""
        for message in messages:
            self.component.may_send(message, self._declared)
        return self._attempt(context, messages, None)

    def _attempt(self, context: Context, messages: list[Message], model: Model | None) -> Attempt:
        for message in context.sent:
            self.component.may_send(message, self._declared)
        for _, message in context.delayed:
            self.component.may_send(message, self._declared)
        sent = messages + context.sent
        if empty := sum(each.type == _GRADIENT and not each.arrays() for each in sent):
            context.counters.add("empty_gradients", empty)
        return Attempt(context, sent, model)

    def step_again(self, attempt: Attempt, version: bytes | None) -> Attempt:
        """Return the same attempt with its finished parameter gradient applied to newer weights."""
        assert attempt.model is not None
        assert self.store is not None
        model = self.store.model(version)
        assert attempt.model.learned is not None
        model.learn_again(attempt.model.learned)
        return replace(attempt, model=model)

    def committed(self, step: Step | None, entry: str) -> None:
        """Take note that a staged attempt was committed; a step is this entry of the log."""
        self.missed = 0
        if self.store is not None:
            self.store.committed(step, entry)

    def stage(self, attempt: Attempt, commit: Commit) -> Step | None:
        """Write an attempt into a commit; the guard of the model comes last, as `Loop` expects."""
        sends = [(0.0, message) for message in attempt.messages] + attempt.context.delayed
        for after_s, message in sends:
            if message.type == _FORWARD and (senders := self._answered_by(message)):
                gather.of_gradients(attempt.context.memory, message, senders).begin()
            guest = message.guest
            if guest is None or not guest.receives(message.room, message.type):
                self._send(message, commit, after_s)
            elif attempt.guest_left:
                by = self.component.name
                members = attempt.guest_left
                roots.end_of_guest(commit, self.names, members, by, message.root_id)
            else:
                roots.require_open(commit, self.names, guest, message)
                self._send(message, commit, after_s, self.names.guest(guest.name))
        for each in attempt.staged:
            each(commit)
        attempt.context.stage(commit)
        if attempt.model is not None and self.store is not None:
            return self.store.stage(attempt.model, commit, attempt.context.root_id)
        return None

    def _send(self, message: Message, commit: Commit, after_s: float = 0.0, key: str = "") -> None:
        """Stage a message, for the stream of its room or another `key`."""
        message.sent_by = self.component.name
        stream, own_key, channel, limit = self._route(message.room, message.type)
        key = key or own_key
        header, fields = codec.header(message), codec.encode(message, stream)
        if after_s:
            name = self.component.name
            dues, bodies = self.names.later(name), self.names.later_bodies(name)
            commit.delay(dues, bodies, after_s, key, channel, header, fields, limit)
        else:
            commit.send(key, channel, header, fields, limit)

    def _find_route(self, room: str, type_: str) -> Route:
        limit = _UNGROUPED.get(room)
        if limit is None and not room.startswith("@"):
            stream = self.component.system.stream(room, type_)
        else:
            stream = Stream(Room(room), MessageType(type_), {})
        return Route(stream, self.names.stream(room, type_), self.names.channel(room), limit)
