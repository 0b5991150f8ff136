"""What replicas have sent and not been answered yet, and their connections over it."""

from __future__ import annotations

import copy
import re
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import redis
from greenlet import getcurrent, greenlet
from hiredis import ReplyError
from redis._parsers.base import BaseParser
from redis.client import Pipeline

from roomgrad.errors import ConnectionLost
from roomgrad.redis.connection import Command, Connection, Reply

if TYPE_CHECKING:
    from tests.schedules.stepping import SteppedReplica, World

URL = "redis://unused:1"  # no connection of a replica has a socket
_BLOCK = re.compile(rb"\$5\r\nBLOCK\r\n\$\d+\r\n\d+\r\n")


class Died(BaseException):
    """Ends the greenlets of a replica that was killed."""


class Transaction(list[Command]):
    """Commands between MULTI and EXEC."""


class Wire:
    """One connection, as the network sees it: commands not executed yet, and replies not read."""

    def __init__(self, owner: SteppedReplica, purpose: str) -> None:
        self.owner = owner
        self.purpose = purpose
        self.queue: deque[Command | Transaction] = deque()
        self.replies: deque[Reply] = deque()
        self.reader: greenlet | None = None
        self.blocked = False  # whether its first command is a read that found nothing
        self.timed_out = False  # whether that is to return without a message

    def __str__(self) -> str:
        return f"{self.owner.name} {self.purpose}"


class SteppedConnection(Connection):
    """A connection of a replica. `close` forgets the replies; what was sent is on its way."""

    def __init__(self, world: World, owner: SteppedReplica, purpose: str) -> None:
        super().__init__(URL)
        self._world, self._owner, self._purpose = world, owner, purpose
        self._wire: Wire | None = None

    @property
    def connected(self) -> bool:
        return self._wire is not None

    def connect(self, at: Any = None) -> None:
        self.close()
        self._wire = self._world.open(self._owner, self._purpose)

    def close(self) -> None:
        self._wire = None

    def send(self, *commands: Command | Transaction) -> None:
        self._open_wire().queue.extend(commands)

    def read(self, due_s: float = 0.0) -> Reply:
        wire = self._open_wire()
        while not wire.replies:
            wire.reader = getcurrent()
            self._world.pause()
            wire.reader = None
            if self._open_wire() is not wire:
                raise ConnectionLost("closed by another greenlet")
        return wire.replies.popleft()

    def cut(self) -> greenlet | None:
        """Lose the connection, as a network does; return the greenlet that is to notice."""
        wire, self._wire = self._wire, None
        return wire.reader if wire is not None else None

    def _open_wire(self) -> Wire:
        if self._owner.dead:
            raise Died
        if self._wire is None:
            raise ConnectionLost("the connection was cut")
        return self._wire


class SteppedClient(redis.Redis):
    """redis-py over a stepped connection, for what a replica does at its start."""

    connection_of_replica: Connection

    def over(self, connection: Connection) -> SteppedClient:
        """Return a client of this kind over a connection."""
        found = copy.copy(self)
        found.connection_of_replica = connection
        return found

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return self.parsed(args, self.connection_of_replica.call(_words(args)), options)

    def parsed(self, args: Sequence[Any], reply: Reply, options: dict[str, Any]) -> Any:
        if isinstance(reply, ReplyError):
            raise BaseParser.parse_error(str(reply))
        options = {name: each for name, each in options.items() if name != "keys"}
        callback = self.response_callbacks.get(args[0])
        return callback(reply, **options) if callback else reply

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> SteppedPipeline:
        return SteppedPipeline(self.connection_pool, self.response_callbacks, transaction, self)


class SteppedPipeline(Pipeline):
    def __init__(self, pool: Any, callbacks: Any, transaction: bool, client: SteppedClient) -> None:
        super().__init__(pool, callbacks, transaction, None)
        self.client = client

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = [(args, options) for args, options in self.command_stack]
        self.reset()
        connection = self.client.connection_of_replica
        replies = connection.call(Transaction(_words(args) for args, _ in commands))
        pairs = zip(commands, replies, strict=True)
        return [self.client.parsed(args, reply, options) for (args, options), reply in pairs]


CLIENT = SteppedClient(connection_pool=redis.ConnectionPool(protocol=2))


def _words(args: Sequence[Any]) -> list[bytes]:
    first, *rest = args
    return [*first.encode().split(), *map(_word, rest)]


def _word(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def name_of(command: Command | Transaction) -> bytes:
    if isinstance(command, Transaction):
        return b"MULTI"
    return command.split(b"\r\n", 3)[2] if isinstance(command, bytes) else command[0]


def without_block(command: Command) -> Command:
    """Return a read that does not wait: the scheduler repeats it."""
    if not isinstance(command, bytes) or not _BLOCK.search(command):
        return command
    count, _, rest = command.partition(b"\r\n")
    return b"*%d\r\n%s" % (int(count[1:]) - 2, _BLOCK.sub(b"", rest))


def summary(name: bytes, reply: Reply) -> str:
    """Return what a trace says of a reply: nothing that differs when it is repeated."""
    if isinstance(reply, ReplyError):
        return str(reply).split()[0]
    if name == b"EVALSHA" and isinstance(reply, list) and reply and isinstance(reply[0], bytes):
        return " ".join([reply[0].decode(), *(str(n) for n in reply[1:] if isinstance(n, int))])
    if name == b"XREADGROUP":
        return f"{sum(len(entries) for _, entries in reply or ())} messages"
    if name == b"XCLAIM" and isinstance(reply, list):
        return f"{len(reply)} messages"
    return ""
