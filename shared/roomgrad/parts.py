"""The parts of a root, as a join hands them over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from roomgrad.messages import Message
from roomgrad.rooms import MessageType, Room


class Parts(Mapping[str, Message]):
    """The parts of a root that a join hands over together, by name, in the order of the join.

    The name of a part is its sender, or its room if the join reads several rooms.
    """

    def __init__(self, messages: Mapping[str, Message]) -> None:
        self._messages = dict(messages)

    @classmethod
    def of(cls, message: Message, record: Mapping[str, Any]) -> Parts:
        """Return the parts of a memory record, without their arrays, for a gradient of the join."""
        found = {}
        for name, room, id_, sent_by in record["parts"]:
            found[name] = replace(message.reply(room, id=id_), sent_by=sent_by)
        return cls(found)

    def __getitem__(self, name: str) -> Message:
        return self._messages[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    def reply(self, room: Room | str, data: NDArray[Any] | None = None, **fields: Any) -> Message:
        """Return a message that follows from all parts, as `Message.reply` does from one."""
        return next(iter(self.values())).reply(room, data, **fields)

    def record(self) -> dict[str, Any]:
        """Return what `of` needs, for `memory.put(reply.id, **parts.record())`."""
        return {"parts": [[n, each.room, each.id, each.sent_by] for n, each in self.items()]}

    def gradients(self, found: Mapping[str, NDArray[Any]]) -> list[Message]:
        """Return a gradient for the sender of each part, under the ID of the part.

        found: gradients of DATA by the names of the parts; that of a missing one is empty.
        """
        return [gradient_of(each, found.get(name)) for name, each in self.items()]


def gradient_of(part: Message, data: NDArray[Any] | None = None) -> Message:
    """Return the gradient of a part for its sender; it is empty without `data`."""
    reply = part.reply(part.room, data, type=MessageType.GRADIENT, id=part.id)
    reply.to = part.sent_by
    return reply
