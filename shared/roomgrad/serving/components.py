"""The component of a network or a function, between two rooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from roomgrad import backprop, dtypes
from roomgrad.component import Component, Handler, on
from roomgrad.context import Context
from roomgrad.errors import SchemaError
from roomgrad.messages import Message
from roomgrad.models import forward_seed
from roomgrad.rooms import Array, MessageType, Room, System
from roomgrad.serving.functions import Function
from roomgrad.settings import RuntimeSettings

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT


@dataclass(frozen=True)
class Place:
    """Where a component stands."""

    name: str
    enter: Room
    leave: Room
    inputs: Array
    """The schema of DATA in room `enter`."""

    outputs: Array
    """That in room `leave`."""

    system: System
    """The contract of the run, with this component."""

    def component(self, handlers: list[Handler], **more: Any) -> Component:
        """Return the component that these handlers make."""
        return Component(self.name, self.system, RuntimeSettings, handlers, joins=True, **more)


def component_of_network(place: Place, make_model: Any) -> Component:
    """Return a component that learns. make_model: makes the `Trainable`."""
    handlers = backprop.handlers(place.enter, place.leave)
    return place.component(handlers, model=lambda _: make_model())


def component_of_function(place: Place, function: Function) -> Component:
    """Return a component that differentiates a function, and learns nothing."""
    enter, leave = place.enter, place.leave

    @on(enter, FORWARD, replies=[(leave, FORWARD)])
    def forward(message: Message, context: Context) -> Message:
        """Forward: inputs of the function in, its outputs out."""
        seed, before = seed_of(message, context), function.calls
        outputs = _fitting(function(message.array, seed), place.outputs)
        if len(outputs) != len(message.array):
            raise SchemaError(f"{place.name} turned {message.array.shape} into {outputs.shape}")
        reply = message.reply(leave, outputs)
        shape = list(outputs.shape)
        context.memory.put(
            reply.id, answers=message.id, inputs=message.array, seed=seed, shape=shape
        )
        _count(context, function.calls - before)
        return reply

    @on(leave, GRADIENT, replies=[(enter, GRADIENT)])
    def gradient(message: Message, context: Context) -> Message:
        """Differentiate: d loss / d outputs in, d loss / d inputs out."""
        asked, before = context.memory.pop(message.id), function.calls
        reply = message.reply(enter, id=asked["answers"])
        if message.data is None:  # an empty gradient
            return reply
        x, shape = asked["inputs"], tuple(asked["shape"])
        if message.array.shape != shape:
            raise SchemaError(f"DATA: expected {shape} as the outputs, got {message.array.shape}")
        if dtypes.kind_of(x.dtype) == "f":
            found = function.vjp(x, message.array, asked["seed"])
            if found.shape != x.shape:
                raise SchemaError(
                    f"the vjp of {place.name} returned {found.shape}, expected the shape of its "
                    f"inputs {x.shape}"
                )
            reply.data = _fitting(found, place.inputs)
        _count(context, function.calls - before)
        return reply

    return place.component([forward, gradient])


def seed_of(message: Message, context: Context) -> int:
    """Return the seed of a message's random numbers, of 31 bits, which any library takes."""
    key = message.id if message.seed is None else message.seed
    return forward_seed(context.settings.seed, context.component, key) >> 32


def _fitting(array: NDArray[Any], schema: Array) -> NDArray[Any]:
    return array.astype(dtypes.from_name(schema.dtype), copy=False)


def _count(context: Context, calls: int) -> None:
    if calls:
        context.counters.add("calls", calls)
