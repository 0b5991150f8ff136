"""Where a replica's next message comes from: redelivery, or a blocking read of its streams."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from roomgrad.errors import EmptiedServer
from roomgrad.redis.connection import Command, ReplyError
from roomgrad.redis.roots import inbox_stream
from roomgrad.runtime.connections import Connections
from roomgrad.runtime.consumers import Delivery, EveryoneConsumer, GroupConsumer, deliveries
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.model.store import ModelStore
from roomgrad.runtime.read_count import ReadCount
from roomgrad.runtime.redelivery import Redelivery
from roomgrad.runtime.shutdown import ShutdownEvent
from roomgrad.runtime.status import Status


class Receiver:
    """Reads the deliveries that wait, and after them the version of the component's model.

    The version is read behind the blocking read, on the same connection, so that it is never older
    than the message that is handled with it.
    """

    def __init__(
        self,
        identity: Identity,
        status: Status,
        shutdown: ShutdownEvent,
        connections: Connections,
        store: ModelStore | None,
    ) -> None:
        self.consumer = _consumer(identity)
        self.version: bytes | None = None
        self.redelivery: Redelivery | None = None
        if isinstance(self.consumer, GroupConsumer):
            self.redelivery = Redelivery(self.consumer, connections, status, identity.settings)
        self._block_s = identity.settings.block_s
        self._shutdown = shutdown
        self._connections = connections
        self._store = store
        self._queue = status.received
        self.read_count = ReadCount(identity.settings.max_deliveries)

    @property
    def waiting(self) -> bool:
        """Whether another delivery was received."""
        return bool(self._queue)

    def next(self) -> Delivery | None:
        """Return the next delivery, or None if none came within the block time.

        Raises EmptiedServer if the consumer group no longer exists.
        """
        if not self._busy:
            if self.redelivery is not None:
                self._enqueue(islice(self.redelivery.due(), 1))
            if not self._queue and self._stands_by():
                self._shutdown.wait(self._wait_s())
                self.refresh_version()
            elif not self._queue:
                self._connections.read(self._read_commands())
        if self._connections.reading and not self._queue:
            self._receive()
        return self._queue.popleft() if self._queue else None

    def next_read(self) -> list[Command]:
        """Return the read to send along with a commit; empty if something else comes first."""
        if self._busy or self._shutdown.is_set() or self._stands_by():
            return []
        if self.redelivery is not None and self.redelivery.due_in_s() == 0.0:
            return []
        return self._read_commands()

    def recover(self) -> None:
        """Have delivered again what a connection that broke has delivered."""
        if self.redelivery is not None:
            self.redelivery.recover()

    def refresh_version(self) -> None:
        """Read the version of the model again."""
        if self._store is not None:
            reply = self._connections.call(self._store.version_command())
            self.version = self._store.version_in(reply)

    def clear(self) -> None:
        """Forget what was received; the server delivers it again."""
        self._queue.clear()
        if self.redelivery is not None:
            self.redelivery.clear()

    @property
    def _busy(self) -> bool:
        """Whether a delivery waits here, or an outstanding read may still return one."""
        return self._connections.reading or bool(self._queue)

    def _enqueue(self, found: Iterable[Delivery]) -> None:
        before = len(self._queue)
        self._queue.extend(found)
        if len(self._queue) > before:
            self.refresh_version()

    def _stands_by(self) -> bool:
        return self._store is not None and self._store.stands_by()

    def _wait_s(self) -> float:
        """Return the seconds until a message is due again, at most the block time."""
        due_s = self.redelivery.due_in_s() if self.redelivery else None
        return self._block_s if due_s is None else min(due_s, self._block_s)

    def _read_commands(self) -> list[Command]:
        block_ms = max(1, round(self._wait_s() * 1000))
        commands: list[Command] = [self.consumer.read_command(block_ms, self.read_count.next)]
        if self._store is not None:
            commands.append(self._store.version_command())
        return commands

    def _receive(self) -> None:
        count = 1 if self._store is None else 2
        reply, *versions = self._connections.answers(count, self._block_s)
        for answer in (reply, *versions):
            if isinstance(answer, ReplyError):
                if str(answer).startswith("NOGROUP"):
                    raise EmptiedServer(f"the consumer group no longer exists: {answer}")
                raise answer
        if self._store is not None:
            self.version = self._store.version_in(versions[0])
        self._queue.extend(deliveries(reply, self.consumer.by_key))


def _consumer(identity: Identity) -> GroupConsumer | EveryoneConsumer:
    component, names = identity.component, identity.names
    if component.everyone:
        replica = identity.settings.replica
        return EveryoneConsumer(names, component.name, replica, component.streams)
    streams = (*component.streams, inbox_stream(names, component.name))
    return GroupConsumer(names, component.name, identity.consumer, streams)
