"""A contract, and what a component declares, as JSON that is stored in the run itself.

So a program that inspects a run, in any language, needs no code of its components.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from roomgrad import dtypes
from roomgrad.component import Component
from roomgrad.errors import ContractError, format_value
from roomgrad.rooms import Array, MessageType, Room, Stream, System, Text

FORWARD, GRADIENT = MessageType.FORWARD.value, MessageType.GRADIENT.value

_ARRAY = ("optional", "low", "high", "nullable", "empty")  # beside dtype and shape
_TEXT = ("among", "optional", "longest", "many")
_DEFAULT_ARRAY, _DEFAULT_TEXT = Array("<f4", ()), Text()


def contract_to_json(system: System) -> bytes:
    """Return a contract as JSON; a field holds only what differs from the defaults."""
    streams = [
        {
            "room": stream.room.name,
            "type": str(stream.type),
            "about": stream.about,
            "consumers": stream.consumers,
            **({"senders": stream.senders} if stream.senders else {}),
            "fields": {name: _field(schema) for name, schema in stream.schema.items()},
        }
        for stream in system.streams
    ]
    found = {"name": system.name, "components": system.components, "streams": streams}
    return orjson.dumps(found)


def _field(schema: Array | Text) -> dict[str, Any]:
    if isinstance(schema, Array):
        own = {"array": schema.dtype, "shape": schema.shape}
        return own | _differing(schema, _DEFAULT_ARRAY, _ARRAY)
    return {"text": True} | _differing(schema, _DEFAULT_TEXT, _TEXT)


def _differing(schema: object, default: object, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(schema, name) for name in names}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Array(_Strict):
    array: Annotated[str, Field(pattern="|".join(f"^{re.escape(each)}$" for each in dtypes.NAMES))]
    shape: tuple[Annotated[int, Field(ge=0)] | str, ...]
    optional: bool = False
    low: float | None = None
    high: float | None = None
    nullable: bool = False
    empty: bool = True

    def field(self) -> Array:
        more = self.model_dump(exclude_unset=True, exclude={"array", "shape"})
        return Array(self.array, self.shape, **more)


class _Text(_Strict):
    text: Literal[True]
    among: tuple[str, ...] = ()
    optional: bool = False
    longest: Annotated[int, Field(ge=0)] = 128
    many: bool = False

    def field(self) -> Text:
        return Text(**self.model_dump(exclude_unset=True, exclude={"text"}))


class _Stream(_Strict):
    room: str
    type: str
    about: str
    consumers: tuple[str, ...]
    senders: tuple[str, ...] = ()
    fields_: Annotated[dict[str, _Array | _Text], Field(alias="fields")]

    def stream(self) -> Stream:
        schema = {name: each.field() for name, each in self.fields_.items()}
        return Stream(Room(self.room), self.type, schema, self.consumers, self.about, self.senders)


class _Contract(_Strict):
    name: str
    components: tuple[str, ...]
    streams: tuple[_Stream, ...]


def contract_from_json(text: bytes | str) -> System:
    """Return the contract of a JSON text. Raises ContractError for anything else."""
    try:
        found = _Contract.model_validate_json(text)
    except ValidationError as error:
        raise ContractError(
            f"this is not the contract of a system: {format_value(text)}"
        ) from error
    return System(found.name, tuple(each.stream() for each in found.streams), found.components)


@dataclass(frozen=True)
class HandlerDeclaration:
    """A handler as its component declares it."""

    name: str
    room: str
    type: str
    replies: tuple[tuple[str, str], ...]
    """The rooms and TYPEs of its replies."""

    about: str = ""
    """The first line of its docstring."""

    senders: tuple[str, ...] = ()
    """The components whose messages of a root it gets together."""

    rooms: tuple[str, ...] = ()
    """The rooms whose messages of a root it gets together."""

    by_id: bool = False
    """Whether those of one ID are together."""


@dataclass(frozen=True)
class Declaration:
    """What a component tells about itself to programs that inspect the run."""

    handlers: tuple[HandlerDeclaration, ...]
    everyone: bool = False
    """Whether each replica reads each message."""

    starts: bool = False
    """Whether it sends the first message of a run."""

    learns: bool = False
    """Whether it has a model."""

    tables: tuple[str, ...] = ()
    """Tables that it writes."""

    reads: tuple[str, ...] = ()
    """Tables of others that it reads, with their logs."""

    logs: tuple[str, ...] = ()
    """Streams to which it appends for good."""

    sends: tuple[tuple[str, str], ...] = ()
    """Where it sends besides the replies of its handlers."""

    @classmethod
    def of(cls, component: Component) -> Declaration:
        """Return the declaration of a component."""
        handlers = [
            HandlerDeclaration(
                getattr(each.function, "__name__", ""),
                each.room,
                each.type,
                each.replies,
                (inspect.getdoc(each.function) or "").partition("\n")[0],
                each.join.parts if each.join and not each.join.by_room else (),
                each.join.parts if each.join and each.join.by_room else (),
                each.join is not None and each.join.by_id,
            )
            for each in component.handlers
        ]
        starts, learns = component.on_start is not None, component.model is not None
        return cls(
            tuple(handlers),
            component.everyone,
            starts,
            learns,
            tuple(component.tables),
            tuple(component.reads),
            tuple(component.logs),
            tuple((room.name, type_.value) for room, type_ in component.sends),
        )

    def answers_gradients(self, room: str) -> bool:
        """Return whether it reads the forward messages of a room and sends gradients there."""
        reads = any((each.room, each.type) == (room, FORWARD) for each in self.handlers)
        return reads and self.may_send(room, GRADIENT)

    def may_send(self, room: str, type_: str) -> bool:
        """Return whether it declares to send messages of a TYPE into a room."""
        sent = {*self.sends, *(reply for each in self.handlers for reply in each.replies)}
        return (room, type_) in sent

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Declaration:
        """Return the declaration of a JSON text. Raises ContractError for anything else."""
        try:
            return _DECLARED.validate_json(text)
        except ValidationError as error:
            raise ContractError(
                f"this is not the declaration of a component: {format_value(text)}"
            ) from error


_DECLARED = TypeAdapter(Declaration)


def check_gradients(system: System, declared: Mapping[str, Declaration]) -> None:
    """Raise ContractError if it is not clear which gradients a forward message is answered by, or
    if a join waits for what is never sent.

    That is one, unless the contract names the `senders` whose gradients are added up. Components
    that read those messages and send no gradient, like a logger, may be as many as they like. A
    component that is no consumer in the contract counts if each replica reads each message.
    """
    for stream in system.streams:
        if stream.type == FORWARD:
            _check_answers(stream, system.senders(stream.room.name), declared)
    for name, each in declared.items():
        for handler in each.handlers:
            _check_parts(name, handler, declared)


def _check_parts(
    name: str, handler: HandlerDeclaration, declared: Mapping[str, Declaration]
) -> None:
    room, type_ = handler.room, handler.type
    for sender in handler.senders:
        if sender in declared and not declared[sender].may_send(room, type_):
            raise ContractError(
                f"{name} joins {type_} of {', '.join(handler.senders)} in room {room}, but "
                f"{sender} does not declare to send any there: the join would never be complete"
            )


def _check_answers(
    stream: Stream, senders: tuple[str, ...], declared: Mapping[str, Declaration]
) -> None:
    room = stream.room.name
    answers = {name for name, each in declared.items() if each.answers_gradients(room)}
    found = sorted(n for n in answers if declared[n].everyone or n in stream.consumers)
    more = [name for name in found if name not in senders]
    if len(more) > (0 if senders else 1):
        raise ContractError(
            f"{' and '.join(found)} answer the same {FORWARD} of room {room} with a gradient: name "
            f"them in `senders` of its {GRADIENT}, where they are added up, or remove others by "
            f"`roomgrad forget`"
        )
    if silent := [n for n in senders if n not in (answers if n in declared else stream.consumers)]:
        raise ContractError(
            f"{' and '.join(silent)} would never answer {FORWARD} of room {room}, though `senders` "
            f"of its {GRADIENT} names them: no sum would be complete"
        )
