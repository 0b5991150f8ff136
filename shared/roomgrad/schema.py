"""A contract and what a component declares, as the JSON that stands in the run itself.

So whoever looks at a run, in any language, needs no code of its components.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from roomgrad.codec import DTYPES
from roomgrad.component import Component
from roomgrad.errors import ContractError, format_value
from roomgrad.rooms import Array, Room, Stream, System, Text

_ARRAY = ("optional", "low", "high", "nullable", "empty")  # beside dtype and shape
_TEXT = ("among", "optional", "longest", "many")
_PLAIN_ARRAY, _PLAIN_TEXT = Array("<f4", ()), Text()


def contract(system: System) -> bytes:
    """A contract as JSON; of a field stands there only what differs from the plainest."""
    streams = [
        {
            "room": stream.room.name,
            "type": str(stream.type),
            "about": stream.about,
            "consumers": stream.consumers,
            "fields": {name: _field(schema) for name, schema in stream.schema.items()},
        }
        for stream in system.streams
    ]
    written = {"name": system.name, "components": system.components, "streams": streams}
    return orjson.dumps(written)


def _field(schema: Array | Text) -> dict[str, Any]:
    if isinstance(schema, Array):
        own = {"array": schema.dtype, "shape": schema.shape}
        return own | _differing(schema, _PLAIN_ARRAY, _ARRAY)
    return {"text": True} | _differing(schema, _PLAIN_TEXT, _TEXT)


def _differing(schema: object, plain: object, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(schema, name) for name in names}
    return {name: value for name, value in values.items() if value != getattr(plain, name)}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Array(_Strict):
    array: Annotated[str, Field(pattern="|".join(f"^{re.escape(each)}$" for each in DTYPES))]
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
    fields_: Annotated[dict[str, _Array | _Text], Field(alias="fields")]

    def stream(self) -> Stream:
        schema = {name: each.field() for name, each in self.fields_.items()}
        return Stream(Room(self.room), self.type, schema, self.consumers, self.about)


class _Contract(_Strict):
    name: str
    components: tuple[str, ...]
    streams: tuple[_Stream, ...]


def read_contract(written: bytes | str) -> System:
    """The contract that was written. Raises ContractError for anything else."""
    try:
        found = _Contract.model_validate_json(written)
    except ValidationError as error:
        raise ContractError(f"this is no contract of a system: {format_value(written)}") from error
    return System(found.name, tuple(each.stream() for each in found.streams), found.components)


@dataclass(frozen=True)
class HandlerDeclaration:
    """A handler as its component declares it."""

    name: str
    room: str
    type: str
    replies: tuple[tuple[str, str], ...]
    """The rooms and TYPEs to which it may reply."""

    about: str = ""
    """The first line of its docstring."""


@dataclass(frozen=True)
class Declaration:
    """What a component says of itself to whoever looks at the run."""

    handlers: tuple[HandlerDeclaration, ...]
    everyone: bool = False
    """Whether each replica sees each message."""

    starts: bool = False
    """Whether it speaks first."""

    learns: bool = False
    """Whether it has a model."""

    tables: tuple[str, ...] = ()
    """Tables that it writes."""

    reads: tuple[str, ...] = ()
    """Tables of others that it reads, with their logs."""

    logs: tuple[str, ...] = ()
    """Streams in which it writes down what stays for good."""

    sends: tuple[tuple[str, str], ...] = ()
    """Where it sends on other occasions than in a handler's reply."""

    @classmethod
    def of(cls, component: Component) -> Declaration:
        """What a component declares."""
        handlers = [
            HandlerDeclaration(
                getattr(each.function, "__name__", ""),
                each.room,
                each.type,
                each.replies,
                (inspect.getdoc(each.function) or "").partition("\n")[0],
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

    def write(self) -> bytes:
        """As JSON."""
        return orjson.dumps(self)

    @classmethod
    def read(cls, written: bytes | str) -> Declaration:
        """From JSON. Raises ContractError for anything else."""
        try:
            return _DECLARED.validate_json(written)
        except ValidationError as error:
            raise ContractError(
                f"this is no declaration of a component: {format_value(written)}"
            ) from error


_DECLARED = TypeAdapter(Declaration)
