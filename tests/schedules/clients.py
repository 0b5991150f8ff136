"""The test's part in a schedule: a client that opens roots, or a guest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from roomgrad import Message, MessageType, Room, Stream, System, codec
from roomgrad.commit import Commit
from roomgrad.errors import NoAnswer, Stale
from roomgrad.redis import guest_client
from roomgrad.redis.guest_client import GuestClient
from roomgrad.redis.guest_messages import Sending
from tests.integration.graphs import branch
from tests.integration.guests.squares import SQUARES, C, gradient_of, opened
from tests.schedules.stepping import NAMES, World
from tests.schedules.wires import CLIENT, SteppedClient

if TYPE_CHECKING:
    from tests.schedules.contracts import Contract

Vector = NDArray[np.float32]
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
ENTER, LEAVE = Room("enter"), Room("leave")
LEASE_S = 3600.0  # the schedule ends leases

batch = cache(branch.batch)


def answer(y: Vector) -> Vector:
    """Return the gradient of an output."""
    return y / np.float32(3)


def sending(system: System, message: Message) -> Sending:
    """Return a message as it is sent."""
    stream = system.stream(message.room, message.type)
    return Sending(
        NAMES.stream(*stream.key),
        NAMES.channel(message.room),
        codec.header(message),
        codec.encode(message, stream),
    )


class Client:
    """The test as a client of a run: it opens roots and, if the contract says so, answers."""

    def __init__(self, world: World, contract: Contract, roots: int) -> None:
        self._world, self._contract = world, contract
        self.left = roots
        self.opened: dict[str, int] = {}
        self._answered: set[str] = set()

    def open(self) -> None:
        """Open the next root."""
        number = len(self.opened)
        self.left -= 1
        message = Message.open(ENTER, batch(number), seed=number)
        self.opened[message.root_id] = number
        self._send(message)
        self._world.note(f"client opens root {number}")

    def answer(self, most: int = 1) -> int:
        """Answer outputs that are not answered yet; return how many."""
        if not self._contract.answered:
            return 0
        stream = self._contract.learners[0].outputs
        found = [each for each in self.entries(stream) if each.id not in self._answered][:most]
        for each in found:
            self._answered.add(each.id)
            self._send(each.reply(LEAVE, answer(each.array), type=GRADIENT, id=each.id))
            self._world.note(f"client answers root {self.opened[each.root_id]}")
        return len(found)

    def entries(self, stream: Stream) -> list[Message]:
        """Return the messages of a stream."""
        key = NAMES.stream(*stream.key).encode()
        found = self._world.server.call([b"XRANGE", key, b"-", b"+"])
        return [codec.decode(entry.decode(), fields, stream) for entry, fields in found]

    def _send(self, message: Message) -> None:
        commit = Commit()
        commit.send(*sending(self._contract.system, message))
        reply = self._world.server.call(commit.command())
        assert reply[0] == b"ok", reply
        self._world.unblock()

    def wrong(self) -> list[str]:
        """Return what is wrong at the end, as sentences; the account has the rest."""
        return []


class _Unblocked(SteppedClient):
    """A client of the test, whose reads do not wait."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if b"BLOCK" in args:
            at = args.index(b"BLOCK")
            args = args[:at] + args[at + 2 :]
        return super().execute_command(*args, **options)


_CLIENT = _Unblocked(connection_pool=CLIENT.connection_pool)


class Sender:
    """What a guest needs of a client, over the connection of the test."""

    system, names, name = SQUARES, NAMES, "client"

    def __init__(self, world: World) -> None:
        self._world = world
        self.redis = _CLIENT.over(world.server)

    def encode(self, message: Message) -> Sending:
        message.sent_by = message.sent_by or self.name
        return sending(self.system, message)

    def hold_back(self, key: str) -> None:
        """Nothing lags here."""

    def apply(self, work: Callable[[Commit], None]) -> list[str]:
        commit = Commit()
        work(commit)
        result, *entries = self._world.server.call(commit.command())
        self._world.unblock()
        if result == b"stale":
            raise Stale(f"guard {entries[0]}")
        assert result == b"ok", (result, entries)
        return [each.decode() for each in entries]


class Guest(Client):
    """The test as guests: one at a time, which gives up roots, loses its lease, and is killed."""

    def __init__(self, world: World, contract: Contract, roots: int) -> None:
        super().__init__(world, contract, roots)
        self._sender = Sender(world)
        self._guests = 0
        self._open: list[str] = []
        self._answers: list[Message] = []  # to be answered by gradients
        self.home: list[str] = []  # roots of which the gradient came home
        self._join()

    def _join(self) -> None:
        self._guests += 1
        with mock.patch.object(guest_client.threading.Thread, "start"):  # no lease is extended
            self.guest = GuestClient(self._sender, f"guest{self._guests}", lease_s=LEASE_S)

    def open(self) -> None:
        number = len(self.opened)
        self.left -= 1
        message = opened(float(number + 1))
        self.opened[message.root_id] = number
        self._open.append(message.root_id)
        self._world.note(f"guest opens root {number}")
        self.guest.open(message, C)

    def answer(self, most: int = 1) -> int:
        """Receive what has come and send gradients; return how many, and what is to be awaited."""
        draw = self._world.random
        if most == 1 and draw.random() < 0.15:
            draw.choice((self._give_up, self._give_up, self._lose_lease, self._die))()
        self.guest.extend_lease()
        came = self.guest.receive(0)
        for root_id, message in came:
            self._received(root_id, message)
        some, self._answers = self._answers[:most], self._answers[most:]
        for each in some:
            self._world.note(f"guest answers root {self.opened[each.root_id]}")
            try:
                self.guest.send(gradient_of(each))
            except NoAnswer:
                self._end(each.root_id)
        return len(came) + len(some) + len(self._gone())

    def _received(self, root_id: str, message: Message | NoAnswer) -> None:
        if isinstance(message, NoAnswer):
            self._end(root_id)
        elif message.type == GRADIENT.value:
            self.home.append(root_id)
            self._world.counts["home"] += 1
            self._open.remove(root_id)
        else:
            self._answers.append(message)

    def _gone(self) -> list[bytes]:
        """Return the guests whose lease is over, and which are not forgotten yet."""
        found: Any = self._sender.redis.hkeys(NAMES.guests())
        return [each for each in found if not self._sender.redis.exists(NAMES.guest(each.decode()))]

    def _end(self, root_id: str) -> None:
        self._open = [each for each in self._open if each != root_id]
        self._answers = [each for each in self._answers if each.root_id != root_id]

    def _size(self, key: str) -> int:
        size: Any = self._sender.redis.xlen(key) if "DATA" in key else self._sender.redis.hlen(key)
        return int(size)

    # what befalls a guest

    def _give_up(self) -> None:
        if self._open:
            root_id = self._world.random.choice(self._open)
            self._world.note(f"guest gives up root {self.opened[root_id]}")
            self._world.counts["given up"] += 1
            self.guest.give_up([root_id])
            self._end(root_id)

    def _lose_lease(self) -> None:
        self._world.note("the lease of the guest ends")
        self._world.counts["leases"] += 1
        self._world.server.call([b"DEL", NAMES.guest(self.guest.name).encode()])

    def _die(self) -> None:
        self._lose_lease()
        for root_id in [*self._open]:
            self._end(root_id)
        self._join()

    def wrong(self) -> list[str]:
        """Return what is wrong at the end, as sentences."""
        names = [NAMES.guest_roots(f"guest{n}") for n in range(1, self._guests + 1)]
        names += [NAMES.stream(*stream) for stream in (("c", FORWARD.value), ("a", GRADIENT.value))]
        left = {name: size for name in names if (size := self._size(name))}
        found = [f"{name} still has {size}" for name, size in left.items()]
        found += [f"root {self.opened[each]} is open" for each in self._open]
        twice = {each for each in self.home if self.home.count(each) > 1}
        found += [f"the gradient of root {self.opened[each]} came twice" for each in twice]
        return found
