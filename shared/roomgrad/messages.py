"""A message: what travels from room to room."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad.rooms import MessageType, ModelStatus, Room

_TRAIN = ModelStatus.TRAIN  # an attribute of an Enum takes Python 3.11 a microsecond to find


def new_id() -> str:
    """A fresh ID: 32 hexadecimal digits, as the original's."""
    return os.urandom(16).hex()


@dataclass(slots=True)
class Message:
    """One message. `data` is the DATA array; `fields` are the system's own (GENOMES, ANGLE...)."""

    room: str
    type: str
    id: str
    root_id: str
    data: NDArray[Any] | None = None
    status: ModelStatus = ModelStatus.TRAIN
    sent_by: str = ""
    to: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    entry: str = ""  # the stream's entry id, once it stands in one

    @classmethod
    def open(
        cls,
        room: Room | str,
        data: NDArray[Any] | None = None,
        *,
        type: MessageType = MessageType.FORWARD,
        status: ModelStatus = ModelStatus.TRAIN,
        **fields: Any,
    ) -> Message:
        """The first message of a new root."""
        return cls(str(room), type.value, new_id(), new_id(), data, status, fields=fields)

    def reply(
        self,
        room: Room | str,
        data: NDArray[Any] | None = None,
        *,
        type: MessageType | None = None,
        id: str | None = None,
        **fields: Any,
    ) -> Message:
        """A message that follows from this one: it inherits ROOT_ID and MODEL_STATUS.

        `type` is this message's unless given. `id` is a new one unless given; a gradient carries
        the ID of the forward message that it answers.
        """
        return Message(
            str(room),
            type or self.type,
            id or new_id(),
            self.root_id,
            data,
            self.status,
            fields=fields,
        )

    @property
    def is_training(self) -> bool:
        """Whether anything may be learned from this message (MODEL_STATUS 1)."""
        return self.status is _TRAIN

    @property
    def array(self) -> NDArray[Any]:
        """DATA, of a message whose schema requires it."""
        if self.data is None:
            return np.empty(0, dtype="<f4")
        return self.data
