"""A message: what travels from room to room."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad.errors import SchemaError
from roomgrad.guests import Guest
from roomgrad.reprs import short_repr
from roomgrad.rooms import MessageType, ModelStatus, Room

MAX_SEED = 2**63 - 1

# Python 3.11 takes a microsecond for an attribute of an Enum
_TRAIN, _VALIDATE = ModelStatus.TRAIN, ModelStatus.VALIDATE


def new_id() -> str:
    """Return a new ID: 32 hexadecimal digits, as in the original."""
    return os.urandom(16).hex()


@dataclass(slots=True, repr=False)
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
    entry: str = ""  # the stream's entry id, once it has one
    seed: int | None = None  # of random numbers drawn on the way; set by the opener of the root
    guest: Guest | None = None  # who opened the root, if it is no component

    __repr__ = short_repr

    @classmethod
    def open(
        cls,
        room: Room | str,
        data: NDArray[Any] | None = None,
        *,
        type: MessageType = MessageType.FORWARD,
        status: ModelStatus = ModelStatus.TRAIN,
        seed: int | None = None,
        **fields: Any,
    ) -> Message:
        """Return the first message of a new root.

        seed: a number from 0 to 2**63 - 1 that names the root for whatever draws random numbers
            on its way, like the number of a batch: a component draws the same for the same seed.
        """
        ids = new_id(), new_id()
        return cls(str(room), type.value, *ids, data, status, fields=fields, seed=seed)

    def reply(
        self,
        room: Room | str,
        data: NDArray[Any] | None = None,
        *,
        type: MessageType | None = None,
        id: str | None = None,
        **fields: Any,
    ) -> Message:
        """Return a message that follows from this one: it inherits ROOT_ID, MODEL_STATUS, SEED
        and GUEST.

        `type` is this message's unless given. `id` is a new one unless given; a gradient has the
        ID of the forward message that it answers.
        """
        return Message(
            str(room),
            type or self.type,
            id or new_id(),
            self.root_id,
            data,
            self.status,
            fields=fields,
            seed=self.seed,
            guest=self.guest,
        )

    @property
    def sent_ms(self) -> int:
        """When the server stored it, in ms of Unix time; 0 if it was not sent yet."""
        return int(self.entry.partition("-")[0] or 0)

    @property
    def learns(self) -> bool:
        """Whether a component learns from this message (MODEL_STATUS 1)."""
        return self.status is _TRAIN

    @property
    def wants_gradient(self) -> bool:
        """Whether a gradient follows this message (MODEL_STATUS 1 and 3)."""
        return self.status is not _VALIDATE

    def arrays(self, names: Iterable[str] = ()) -> dict[str, NDArray[Any]]:
        """Return arrays of this message by name: those that are named, or else all.

        Raises SchemaError for a name that is missing or is no array.
        """
        every = {"DATA": self.data, **self.fields}
        found = {n: each for n, each in every.items() if isinstance(each, np.ndarray)}
        for name in names:
            if name not in found:
                raise SchemaError(f"{self.room} {self.type}: the array {name} is missing")
        return {name: found[name] for name in names} if names else found

    def fill(self, arrays: Mapping[str, NDArray[Any]], **fields: Any) -> None:
        """Put arrays by name into this message, DATA among them, and more fields."""
        values = {**fields, **arrays}
        self.data = values.pop("DATA", self.data)
        self.fields = {**self.fields, **values}

    @property
    def array(self) -> NDArray[Any]:
        """DATA of a message whose schema requires it."""
        if self.data is None:
            return np.empty(0, dtype="<f4")
        return self.data
