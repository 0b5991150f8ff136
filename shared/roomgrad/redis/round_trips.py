"""Forward passes through the rooms of a run and their gradients back, as arrays by name."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from roomgrad import dtypes, variables
from roomgrad.errors import ContractError, ModelError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.redis.addresses import for_run
from roomgrad.redis.client import Client
from roomgrad.redis.guest_client import GuestClient
from roomgrad.redis.questions import as_array, contract
from roomgrad.redis.server import address, connect
from roomgrad.redis.server_address import AnyAddress
from roomgrad.rooms import MessageType, ModelStatus, Room, Stream, System

Arrays = Mapping[str, NDArray[Any]]

_FORWARD, _GRADIENT = MessageType.FORWARD, MessageType.GRADIENT


class RoundTrips:
    """A guest that sends arrays into one room and receives what comes out at another."""

    def __init__(
        self,
        system: System | str,
        enter: Room | str,
        leave: Room | str,
        *,
        run: str = "",
        redis_url: AnyAddress = "",
        name: str = "",
        timeout_s: float = 60.0,
    ) -> None:
        """Take the contract; nothing is sent yet.

        system: a contract, or the name of a system: that of the run, or else one installed.
        timeout_s: how long a pass waits for an answer, and for a gradient.

        Raises ContractError for rooms that the system does not have or that no path connects.
        """
        self._run = run or (system if isinstance(system, str) else system.name)
        self._redis_url, self._name, self._timeout_s = redis_url, name, timeout_s
        self.enter, self.leave = str(enter), str(leave)
        url = for_run(address(redis_url), self._run)
        with connect(url, variables.get("redis_password_file")) as client:
            names = Names(self._run)
            self.system = contract(client, names, system)
            self.inputs = self.system.stream(self.enter, _FORWARD)
            self.outputs = self.system.stream(self.leave, _FORWARD)
            _check_path(client, names, self.system, self.inputs, self.outputs)
        self._guest: GuestClient | None = None
        self._process = 0
        self._leave: Any = None

    @property
    def guest(self) -> GuestClient:
        """The guest of this process; it joins at the first pass, also after a fork."""
        if self._guest is None or self._process != os.getpid():
            client = Client(
                self.system,
                self._run,
                self._redis_url,
                variables.get("redis_password_file"),
                "guest",
            )
            self._guest, self._process = GuestClient(client, self._name), os.getpid()
            self._leave = weakref.finalize(self, _leave, self._guest, client)
        return self._guest

    def close(self) -> None:
        """Leave the run, if this process has joined it; the next pass joins again."""
        if self._guest is not None and self._process == os.getpid():
            self._leave()
        self._guest = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_guest": None, "_leave": None}

    def forward(self, inputs: Arrays, status: ModelStatus, seed: int | None = None) -> Message:
        """Send arrays by name, as `as_input` returns them; return the answer.

        Raises SchemaError for arrays that the contract does not allow, and NoAnswer.
        """
        message = Message.open(self.enter, status=status, seed=seed)
        message.fill(inputs)
        self.guest.open(message, self.leave, timeout_s=self._timeout_s)
        return self.guest.wait(message.root_id, _FORWARD, self._timeout_s)

    def backward(self, answer: Message, gradients: Arrays) -> dict[str, NDArray[Any]]:
        """Send the gradients of an answer's arrays; return those of the inputs that have one.

        Raises SchemaError for gradients that the contract does not allow, and NoAnswer.
        """
        message = answer.reply(self.leave, type=_GRADIENT, id=answer.id)
        message.fill(gradients)
        self.guest.send(message)
        home = self.guest.wait(answer.root_id, _GRADIENT, self._timeout_s)
        return home.arrays()

    @property
    def has_one_output(self) -> bool:
        """Whether DATA is all that an answer must have."""
        required = [n for n, each in self.outputs.schema.items() if not each.optional]
        return required in ([], ["DATA"])

    def has_gradient(self, name: str, array: NDArray[Any]) -> bool:
        """Return whether the components take a gradient of this output."""
        schema = self.system.stream(self.leave, _GRADIENT).schema
        return dtypes.kind_of(array.dtype) == "f" and (name in schema or not schema)

    def as_input(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        """Return an array in the dtype of the contract, if nothing but precision is lost."""
        return as_array(self.inputs, name, value)


class Pass:
    """A forward pass whose gradient is awaited; it is given up when it is freed without one."""

    def __init__(self, trips: RoundTrips, inputs: Arrays, status: ModelStatus) -> None:
        self._trips, self._inputs, self._status = trips, inputs, status
        self._guest = trips.guest
        self.answer = trips.forward(inputs, status)
        self._awaits_gradient = self.answer.wants_gradient

    def backward(self, gradients: Arrays) -> Arrays:
        """Return the gradients of the inputs.

        A root has one gradient. For another one the inputs pass through the rooms again. Raises
        ModelError if components would learn from that.
        """
        if not self._awaits_gradient:
            if self.answer.learns:
                raise ModelError(
                    "the gradient of this pass was sent, and the components have learned from it: "
                    "add up the losses before backward, call the module again, or make it with "
                    "learn=False"
                )
            self.answer = self._trips.forward(self._inputs, self._status)
        self._awaits_gradient = False
        return self._trips.backward(self.answer, gradients)

    def __del__(self) -> None:
        if getattr(self, "_awaits_gradient", False):
            self._guest.give_up_later(self.answer.root_id)


def _leave(guest: GuestClient, client: Client) -> None:
    guest.close()
    client.close()


def _check_path(client: Any, names: Names, system: System, inputs: Stream, outputs: Stream) -> None:
    """Raise ContractError if the components of a run pass nothing on from one room to the other.

    As long as one of them has never run, that cannot be known, and nothing is raised.
    """
    declared = registry.declared_in(client, names)
    reached = registry.reached_from(declared, inputs.key)
    if set(system.components) <= set(declared) and outputs.key not in reached:
        rooms = sorted({room for room, type_ in reached if type_ == _FORWARD} - {str(inputs.room)})
        raise ContractError(
            f"nothing that enters room {inputs.room} comes to room {outputs.room}: it comes to "
            f"{', '.join(rooms) or 'no other room'}"
        )
