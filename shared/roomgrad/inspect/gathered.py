"""What components handle together: the parts of a join, and gradients that are added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import redis

from roomgrad import codec
from roomgrad.errors import DecodeError
from roomgrad.inspect.entries import MessageHeader
from roomgrad.inspect.keys import StreamKey
from roomgrad.inspect.timings import Hop, HopState, Waiting
from roomgrad.memory import GATHERED
from roomgrad.names import Names
from roomgrad.rooms import System
from roomgrad.schema import GRADIENT, Declaration


@dataclass(frozen=True)
class Gathered:
    """Messages of some streams that a component handles together."""

    component: str
    streams: tuple[StreamKey, ...]
    parts: tuple[str, ...]
    """Their senders; or their rooms, if there are several streams."""

    def fields(self, root_id: str, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the fields of memory under which they may wait, each with their ID if it is one."""
        room, type_ = self.streams[0]
        if type_ == GRADIENT:
            yield from ((f"{id_} gradients", id_) for id_ in ids)
        else:
            yield f"{root_id} {room} {type_}", ""
            yield from ((f"{root_id} {id_} {room} {type_}", id_) for id_ in ids)


def gathered(system: System | None, declared: Mapping[str, Declaration]) -> list[Gathered]:
    """Return what the components of a run handle together, by contract and declarations."""
    found = [
        Gathered(owner, (stream.key,), stream.senders)
        for stream in (system.streams if system else ())
        if stream.senders
        for owner in stream.consumers
    ]
    for name, declaration in declared.items():
        for each in declaration.handlers:
            rooms = each.rooms or ([each.room] if each.senders else [])
            joined = tuple((room, each.type) for room in rooms)
            found += [Gathered(name, joined, each.senders or each.rooms)] if joined else []
    return list(dict.fromkeys(found))


def waiting(
    client: redis.Redis, names: Names, found: Iterable[Gathered], root_id: str, ids: Iterable[str]
) -> tuple[Waiting, ...]:
    """Return which messages of a root wait for others, in the memory of a component."""
    asked = [(each, *field) for each in found for field in each.fields(root_id, ids)]
    with client.pipeline(transaction=False) as pipeline:
        for each, field, _ in asked:
            pipeline.hget(names.memory(each.component), field)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
    came = [_came(answer) for answer in answers]
    return tuple(
        Waiting(
            each.component,
            each.streams,
            tuple(name for name in each.parts if name in some),
            tuple(name for name in each.parts if name not in some),
            id_,
        )
        for (each, _, id_), some in zip(asked, came, strict=True)
        if some
    )


def _came(record: Any) -> list[str]:
    try:
        found = codec.unpack(record)[GATHERED] if isinstance(record, bytes) else []
    except (DecodeError, KeyError):
        return []
    return found if isinstance(found, list) else []


def marked(hop: Hop, found: Iterable[Gathered], waits: Iterable[Waiting]) -> Hop:
    """Return a hop that was done without a reply as joined, or as one that waits for others."""
    joins = any(
        (each.component, hop.message.stream_key) == (hop.by, key)
        for each in found
        for key in each.streams
    )
    if hop.state is not HopState.DONE or hop.replies or not joins:
        return hop
    waits_here = any(each.component == hop.by and _holds(each, hop.message) for each in waits)
    return replace(hop, state=HopState.GATHERED if waits_here else HopState.JOINED)


def _holds(waits: Waiting, message: MessageHeader) -> bool:
    name = message.stream_key[0] if len(waits.streams) > 1 else message.sent_by
    return (
        message.stream_key in waits.streams and name in waits.came and waits.id in ("", message.id)
    )
