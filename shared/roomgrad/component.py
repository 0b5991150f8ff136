"""What a component declares: handlers, start, model, settings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from roomgrad.context import Context
from roomgrad.errors import ContractError, format_value
from roomgrad.messages import Message
from roomgrad.names import ERRORS, LOGGING
from roomgrad.rooms import MessageType, Room, Stream, System
from roomgrad.settings import RuntimeSettings

if TYPE_CHECKING:  # components without a model do not load it
    from roomgrad.models import Trainable
    from roomgrad.parts import Parts

Replies = Message | Iterable[Message] | None
HandlerFunction = Callable[[Message, Context], Replies]
JoinFunction = Callable[["Parts", Context], Replies]


@dataclass(frozen=True)
class Joining:
    """Which messages of a root a handler gets together, and how long they wait for each other."""

    parts: tuple[str, ...]
    rooms: tuple[str, ...]
    type: str
    least: int
    wait_s: float
    expire_s: float
    by_id: bool = False

    def __post_init__(self) -> None:
        count = len(set(self.parts))
        if count < 2 or count < len(self.parts):
            raise ContractError(
                f"a join of {self.key}: expected at least two different parts, got {self.parts}"
            )
        if not 1 <= self.least <= count or (self.least < count) != (self.wait_s > 0):
            raise ContractError(
                f"a join of {self.key}: expected `least` from 1 to {count} with `wait_s` above 0, "
                f"or neither, got {self.least} with {self.wait_s:g}"
            )
        if self.expire_s <= self.wait_s:
            raise ContractError(
                f"a join of {self.key}: expected `expire_s` above {self.wait_s:g}, got "
                f"{self.expire_s:g}"
            )

    @property
    def by_room(self) -> bool:
        """Whether a part is named after its room, and not after its sender."""
        return len(self.rooms) > 1

    @property
    def key(self) -> str:
        """The name of the join within its component: its first stream."""
        return f"{self.rooms[0]} {self.type}"

    def of(self, message: Message) -> str:
        """Return the name of the join of a root, or of an ID of a root."""
        joined = f"{message.root_id} {message.id}" if self.by_id else message.root_id
        return f"{joined} {self.key}"


@dataclass(frozen=True)
class Handler:
    """A handler function and the stream that it reads. Calling it calls the function."""

    function: Callable[[Any, Context], Replies]
    room: str
    type: str
    replies: tuple[tuple[str, str], ...]
    when: Callable[[Message], bool] | None = None
    join: Joining | None = field(default=None, repr=False)

    def __call__(self, message: Message | Parts, context: Context) -> Replies:
        return self.function(message, context)

    def of_each_room(self) -> list[Handler]:
        """Return the handler of each room that it reads."""
        return [replace(self, room=room) for room in self.join.rooms] if self.join else [self]

    @property
    def key(self) -> tuple[str, str]:
        return (self.room, self.type)


def on(
    room: Room,
    type_: MessageType,
    *,
    replies: Sequence[tuple[Room, MessageType]] = (),
    when: Callable[[Message], bool] | None = None,
) -> Callable[[HandlerFunction], Handler]:
    """Declare a handler for the messages of one room and TYPE, and where its replies go.

    Messages for which `when` is false are skipped: acknowledged with the next commit, unhandled.
    """

    def declare(function: HandlerFunction) -> Handler:
        return Handler(function, room.name, type_.value, _names(replies), when)

    return declare


def join(
    room: Room | Sequence[Room],
    type_: MessageType,
    *,
    replies: Sequence[tuple[Room, MessageType]] = (),
    parts: Sequence[str] = (),
    least: int = 0,
    wait_s: float = 0.0,
    expire_s: float = 3600.0,
    by_id: bool = False,
) -> Callable[[JoinFunction], Handler]:
    """Declare a handler that gets all parts of a root at once, as `Parts`.

    room: the room of the parts, which have the names of their senders; or a room for each part,
        and the names of the rooms.
    parts: the components that send the parts into one room, in the order in which they are handed
        over.
    least: how many parts are enough when `wait_s` seconds have passed since the first came, by the
        server's clock; all, unless given. A later part is answered by an empty gradient.
    expire_s: when the root is given up if too few came.
    by_id: join the parts of each ID, for roots of many steps: each part answers a message under the
        ID of that message, `message.reply(VOTES, array, id=message.id)`.

    The parts of a root have one MODEL_STATUS, of any kind; a handler does not choose by `when`, for
    the other parts would wait. A MessageError that it raises gives the root up.

    Raises ContractError for numbers that do not fit each other.
    """
    rooms = (room.name,) if isinstance(room, Room) else tuple(each.name for each in room)
    names = tuple(parts) or rooms
    joining = Joining(names, rooms, type_.value, least or len(names), wait_s, expire_s, by_id)
    if joining.by_room and parts:
        raise ContractError(
            f"a join of {joining.key}: parts of several rooms have the rooms' names"
        )

    def declare(function: JoinFunction) -> Handler:
        return Handler(function, rooms[0], type_.value, _names(replies), join=joining)

    return declare


def _names(streams: Sequence[tuple[Room, MessageType]]) -> tuple[tuple[str, str], ...]:
    return tuple((room.name, type_.value) for room, type_ in streams)


@dataclass(frozen=True)
class Component:
    """A component: one name for its folder, its compose service and itself on the wire.

    `on_start` speaks first: its messages are sent once per run, by one guarded commit, on however
    many replicas. `on_dead` gets the memory records of a root that was given up, and may open the
    next. With `everyone` each replica reads each message. With `joins` the component is in no
    system: its streams are added to the contract of the run.

    The rest declares permissions on the server (`roomgrad acl`): `tables` that the component
    writes, tables of others that it `reads`, `logs` to which it appends, and where it `sends`
    besides the replies of its handlers.

    `model` makes the model of a component that learns, from its settings. If torch is imported by
    then, initial weights are drawn from the setting `seed`, and `threads` says how many it uses.
    A member of an ensemble gets a `seed` of its own: see `roomgrad.models.initial_seed`.

    Raises ContractError if a handler does not fit the contract of `system`.
    """

    name: str
    system: System = field(repr=False)
    settings: type[RuntimeSettings]
    handlers: Sequence[Handler]
    model: Callable[[Any], Trainable] | None = None
    on_start: Callable[[Context], Replies] | None = None
    on_dead: Callable[[list[dict[str, Any]], Context], Replies] | None = None
    everyone: bool = False
    tables: Sequence[str] = ()
    reads: Sequence[str] = ()
    logs: Sequence[str] = ()
    sends: Sequence[tuple[Room, MessageType]] = ()
    joins: bool = field(default=False, repr=False)
    streams: tuple[Stream, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        handlers = tuple(one for handler in self.handlers for one in handler.of_each_room())
        object.__setattr__(self, "handlers", handlers)
        for handler in handlers:
            self._check(handler)
        keys = dict.fromkeys(handler.key for handler in handlers)
        streams = tuple(self.system.stream(room, type_) for room, type_ in keys)
        object.__setattr__(self, "streams", streams)

    def _check(self, handler: Handler) -> None:
        stream = self.system.stream(handler.room, handler.type)
        if not self.everyone and self.name not in stream.consumers:
            raise ContractError(
                f"{self.name} handles {handler.type} in {handler.room}, but the contract of "
                f"{self.system.name} names {', '.join(stream.consumers) or 'no consumer'} there"
            )
        for room, type_ in handler.replies:
            self.system.stream(room, type_)
        if handler.join is not None:
            self._check_join(handler, handler.join)

    def _check_join(self, handler: Handler, join: Joining) -> None:
        known = self.system.rooms if join.by_room else self.system.components
        if unknown := [name for name in join.parts if name not in known]:
            raise ContractError(
                f"{self.name} joins parts of {', '.join(unknown)}, which system {self.system.name} "
                f"does not have: the join would never be complete"
            )
        if self.everyone or [each.key for each in self.handlers].count(handler.key) > 1:
            raise ContractError(
                f"{self.name} joins {handler.type} of {handler.room}: expected no other handler of "
                f"it, and a component that shares its messages"
            )

    def make_model(self, settings: RuntimeSettings) -> Trainable:
        """Return the model as it is before it learns: every replica makes the same.

        Raises ContractError if the component declares none.
        """
        if self.model is None:
            raise ContractError(f"component {self.name} declares no model")
        from roomgrad.models import initial_seed

        settings = replace(settings, seed=initial_seed(settings.seed, self.name, self.system))
        if "torch" not in sys.modules:
            return self.model(settings)
        from roomgrad.learning.tensors import initialized

        with initialized(settings.seed, settings.threads):
            return self.model(settings)

    def reply_streams(self) -> set[tuple[str, str]]:
        """Return every (room, TYPE) that the handlers declare to send."""
        return {reply for handler in self.handlers for reply in handler.replies}

    def may_send(self, message: Message, declared: Sequence[tuple[str, str]]) -> None:
        """Raise ContractError for a reply that its handler did not declare."""
        if message.room in (LOGGING, ERRORS):
            return
        if (message.room, message.type) not in declared:
            raise ContractError(
                f"{self.name} replied {message.type} to {message.room}; its handler declares "
                f"{', '.join(f'{type_} to {room}' for room, type_ in declared) or 'no reply'}"
            )


def main(component: Component | Sequence[Component]) -> None:
    """Run one replica of a component until SIGTERM or SIGINT, then end the process.

    Of the members of an ensemble, run one replica each: of all, or of those that the setting
    `member` names. They share the process, and end with it.

    Exit code 0 after a stop, 2 for wrong settings, 1 for another error of roomgrad.
    """
    # The runtime lies above this layer and is loaded only in the process of a component.
    import_module("roomgrad.runtime.process").run(component)


def as_messages(replies: Replies) -> list[Message]:
    """Return what a handler returned as a list. Raises ContractError for anything but messages."""
    if replies is None:
        return []
    if isinstance(replies, Message):
        return [replies]
    if isinstance(replies, Iterable) and not isinstance(replies, str | bytes | Mapping):
        found = list(replies)
        if all(isinstance(each, Message) for each in found):
            return found
    raise ContractError(
        f"a handler returned {format_value(replies)}: expected a Message, several of them, or None"
    )
