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

Replies = Message | Iterable[Message] | None
HandlerFunction = Callable[[Message, Context], Replies]


@dataclass(frozen=True)
class Handler:
    """A handler function and the stream that it reads. Calling it calls the function."""

    function: HandlerFunction
    room: str
    type: str
    replies: tuple[tuple[str, str], ...]
    when: Callable[[Message], bool] | None = None

    def __call__(self, message: Message, context: Context) -> Replies:
        return self.function(message, context)

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
        streams = tuple((reply_room.name, reply_type.value) for reply_room, reply_type in replies)
        return Handler(function, room.name, type_.value, streams, when)

    return declare


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
    joins: bool = False
    streams: tuple[Stream, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for handler in self.handlers:
            self._check(handler)
        keys = dict.fromkeys(handler.key for handler in self.handlers)
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
