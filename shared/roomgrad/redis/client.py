"""A client that sends messages into a system and waits for answers. It has no consumer group."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import redis
import structlog
from numpy.typing import NDArray

from roomgrad import codec, scripts
from roomgrad.clock import server_time
from roomgrad.commit import SCRIPT, Commit
from roomgrad.context import Context
from roomgrad.errors import ContractError, NoAnswer, Overloaded, SchemaError, ServerError, Stale
from roomgrad.messages import Message, new_id
from roomgrad.names import Names, is_client_group
from roomgrad.redis import users
from roomgrad.redis.addresses import for_run, publish_command, resolver_of
from roomgrad.redis.disk import wait_for_disk
from roomgrad.redis.guest_client import GuestClient
from roomgrad.redis.guest_messages import Sending
from roomgrad.redis.server import address, connect, explain_refusal
from roomgrad.redis.server_address import AnyAddress
from roomgrad.rooms import MessageType, ModelStatus, Room, System

# No new root is opened while so many messages of its stream are not acknowledged.
BACKLOG_LIMIT = 1000
CHECK_EVERY, CHECK_EVERY_S = 100, 1.0  # messages, and seconds, between checks of the backlog
RETRY_S = 0.1
NOT_NOW = (redis.ReadOnlyError, redis.exceptions.MasterDownError)

T = TypeVar("T")
log = structlog.get_logger("roomgrad")


class Client:
    """Sends messages into a running system and asks it questions; use it as a context manager."""

    def __init__(
        self,
        system: System,
        run: str = "",
        redis_url: AnyAddress = "",
        password_file: str = "",
        name: str = "client",
        patience_s: float = 10.0,
    ) -> None:
        """Connect to the server of a run; `run` is the system's name if empty.

        redis_url: as `REDIS_URL`, which counts if it is empty.
        patience_s: under Sentinel or in a cluster, how long a call waits for the next master.

        Raises NoServer, TLSError and ServerError.
        """
        self.system = system
        self.names = Names(run or system.name)
        self.name = name
        url = for_run(address(redis_url), self.names.run)
        self.redis = connect(url, password_file)
        self._watched = resolver_of(url, password_file) is not None
        self._publish_command = publish_command(url)
        self._patience_s = patience_s
        self._told_of_disk = False
        self._commit_script = self.redis.register_script(SCRIPT)
        self._guest: GuestClient | None = None
        self._free: dict[str, tuple[int, float]] = {}  # per stream: messages that fit, until when

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, and leave the run as a guest."""
        if self._guest is not None:
            self._guest.close()
        self.redis.close()

    def send(self, message: Message) -> str:
        """Add a message to its room's stream and publish it; return the entry id.

        Raises SchemaError if it does not fit the room, and Overloaded while the room's consumers
        are so far behind that no new root may be opened.
        """
        return self.send_many([message])[0]

    def send_many(self, messages: Sequence[Message]) -> list[str]:
        """Add messages to their rooms' streams in one commit, all or none; return the entry ids.

        That is much faster than one after the other. Raises SchemaError if one does not fit its
        room or all of them do not fit into a commit, and Overloaded as `send` does.
        """
        if not messages:
            return []

        def work(commit: Commit) -> None:
            self._stage(messages, commit)
            _check_size(commit)

        return self.apply(work) or [self._entry(message) for message in messages]

    def apply(self, work: Callable[[Commit], None]) -> list[str]:
        """Apply what `work` stages, once; return the IDs of the entries that it adds.

        There are none if an earlier attempt applied it, whose reply was lost. Raises ServerError,
        also if a guard does not hold.
        """
        token = new_id()

        def attempt(again: bool) -> list[str]:
            if again and self._was_applied(token, self.redis):
                return []
            commit = self._commit(token, self.redis)
            work(commit)
            result, *entries = self._committed(commit, self.redis)
            if result == b"ok":
                return [each.decode() for each in entries]
            if not (self._watched and entries == [1]):  # it was not applied before
                raise Stale(f"guard {entries[0]} of a commit does not hold")
            return []

        return self._patiently(attempt)

    def commit(self, work: Callable[[Context], T], *, durable: bool = False) -> T:
        """Read and write hashes and send messages in one commit, as a handler does.

        work: reads and stages through the context that it gets; it is called again if something
            that it read has changed before the commit.
        durable: return only when the server has written the commit to its disk, if it can tell
            (WAITAOF).

        Returns what `work` returns. Raises what it raises, SchemaError, and ServerError.
        """
        client: Any = self.redis
        token = new_id()
        answers: list[T] = []

        def attempt(again: bool) -> T:
            with client.client() as connection:  # WAITAOF covers what this connection wrote
                if not (again and self._was_applied(token, connection)):
                    answers.append(self._work(work, token, connection))
                if durable and not wait_for_disk(connection) and not self._told_of_disk:
                    self._told_of_disk = True
                    log.warning(
                        "the server does not tell what is on its disk: what it confirms is lost if "
                        "it fails now; `roomgrad doctor` says why"
                    )
            return answers[-1]

        return self._patiently(attempt)

    def _work(self, work: Callable[[Context], T], token: str, connection: Any) -> T:
        while True:
            context = Context(self.names, self.name, None, ClientReads(connection))
            answer = work(context)
            commit = self._commit(token, connection)
            if context.delayed:  # no replica would deliver it
                raise ContractError(f"{self.name} is no component: it cannot delay messages")
            self._stage(context.sent, commit)
            context.stage(commit)
            result, *number = self._committed(commit, connection)
            if result == b"ok" or (self._watched and number == [1]):  # it was applied before
                return answer

    # a failover may lose the reply of a commit that was applied, or a commit that was confirmed

    def _patiently(self, attempt: Callable[[bool], T]) -> T:
        """Call `attempt` until it succeeds; while a master is elected, call it again with True."""
        until = time.monotonic() + self._patience_s
        again = False
        while True:
            try:
                return attempt(again)
            except (redis.ConnectionError, redis.TimeoutError):
                if not self._watched or time.monotonic() > until:
                    raise
                again = True
                time.sleep(RETRY_S)

    def _commit(self, token: str, connection: redis.Redis) -> Commit:
        commit = Commit(self._publish_command)
        if self._watched:
            commit.once(self.names.sent(), token, server_time(connection))
        return commit

    def _was_applied(self, token: str, connection: redis.Redis) -> bool:
        """Return whether a commit whose reply was lost was applied.

        Its token is then written again, so that this connection has written something to wait for.
        """
        if connection.zscore(self.names.sent(), token) is None:
            return False
        connection.zadd(self.names.sent(), {token: server_time(connection)}, xx=True)
        return True

    def _entry(self, message: Message) -> str:
        """Return the entry id of a message whose reply was lost."""
        key = self.names.stream(message.room, message.type)
        newest: Any = self.redis.xrevrange(key, count=BACKLOG_LIMIT)
        found = (entry for entry, values in newest if values.get(b"ID") == message.id.encode())
        return next(found, b"").decode()

    def stage(self, message: Message, commit: Commit) -> None:
        """Stage a message that opens a root.

        Raises SchemaError if it does not fit its room, and Overloaded while the room's readers lag.
        """
        self._stage([message], commit)

    def _stage(self, messages: Sequence[Message], commit: Commit) -> None:
        sendings = [self.encode(message) for message in messages]
        for stream, count in Counter(sending.stream for sending in sendings).items():
            self.hold_back(stream, count)
        for sending in sendings:
            commit.send(*sending)

    def encode(self, message: Message) -> Sending:
        """Return a message as it is sent, with this client as its sender. Raises SchemaError."""
        stream = self.system.stream(message.room, message.type)
        message.sent_by = message.sent_by or self.name
        return Sending(
            self.names.stream(*stream.key),
            self.names.channel(message.room),
            codec.header(message),
            codec.encode(message, stream),
        )

    def _committed(self, commit: Commit, connection: redis.Redis) -> list[Any]:
        keys, arguments = commit.parts()
        try:
            reply: list[Any] = self._commit_script(keys, arguments, client=connection)
        except redis.ResponseError as error:
            not_now = isinstance(error, NOT_NOW) or str(error).startswith("NOREPLICAS")
            if self._watched and not_now:  # nothing was written
                connection.connection_pool.disconnect()
                raise redis.ConnectionError(str(error)) from error
            raise self._refusal(explain_refusal(error, self.redis)) from error
        if reply[0] not in (b"ok", b"stale"):
            raise self._refusal(b" ".join(reply).decode(errors="replace"))
        return reply

    def _refusal(self, reason: str) -> ServerError:
        return ServerError(f"the server refused: {users.explain(reason, self.names.run)}")

    def ask(
        self,
        room: Room,
        type_: MessageType,
        data: NDArray[Any] | None,
        *,
        answer: tuple[Room, MessageType],
        status: ModelStatus = ModelStatus.VALIDATE,
        timeout_s: float = 10.0,
        fields: Mapping[str, Any] | None = None,
    ) -> Message:
        """Send a new root and return the message of the same ROOT_ID that would arrive in `answer`.

        It comes to this client alone. Raises NoAnswer if none came in time.
        """
        message = Message.open(room, data, type=type_, status=status, **(fields or {}))
        guest = self.guest
        entry = guest.open(message, *answer)
        try:
            return guest.wait(message.root_id, answer[1], timeout_s)
        except NoAnswer:
            self.withdraw(self.names.stream(str(room), type_), entry)
            raise

    @property
    def guest(self) -> GuestClient:
        """The guest as which this client asks; it joins the run with the first question."""
        if self._guest is None:
            self._guest = GuestClient(self)
        return self._guest

    def withdraw(self, key: str, entry: str) -> None:
        """Let the readers skip a question if it is all that waits for them, so that none answers.

        Without the permission, or the server, it goes on waiting.
        """
        with contextlib.suppress(redis.RedisError):
            self.redis.register_script(scripts.load("withdraw"))(keys=[key], args=[entry])

    def hold_back(self, key: str, count: int = 1) -> None:
        """Raise Overloaded while the readers of a stream lag, so that it takes no new roots.

        The backlog is checked at most once per batch of messages that are known to fit.
        """
        left, until = self._free.get(key, (0, 0.0))
        if left < count or time.monotonic() > until:
            left = max(count, min(CHECK_EVERY, BACKLOG_LIMIT - self._backlog(key)))
            until = time.monotonic() + CHECK_EVERY_S
        self._free[key] = (left - count, until)

    def _backlog(self, key: str) -> int:
        largest = 0
        for group in self.redis.xinfo_groups(key) if self.redis.exists(key) else ():
            name = group["name"].decode(errors="replace")
            if is_client_group(name):
                continue  # the gateway limits the backlog of its clients
            largest = max(largest, (group["lag"] or 0) + group["pending"])
            if largest >= BACKLOG_LIMIT:
                raise Overloaded(
                    f"{name} is {largest} messages behind in {key}: start it or add replicas, "
                    f"then send again"
                )
        return largest


def _check_size(commit: Commit) -> None:
    """Raise SchemaError for more messages than are sent at once."""
    count = len(commit.sends)
    size = sum(len(part) for _, fields in commit.sends for part in fields)
    if count > BACKLOG_LIMIT or size > codec.MAX_MESSAGE_BYTES:
        raise SchemaError(
            f"sent at once: expected at most {BACKLOG_LIMIT:,} messages with "
            f"{codec.MAX_MESSAGE_BYTES:,} bytes, got {count:,} with {size:,}: send fewer together"
        )


class ClientReads:
    """Reads hashes through redis-py."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection

    def hget(self, key: str, field: bytes) -> bytes | None:
        """Return one field, or None."""
        value: bytes | None = self._connection.hget(key, field)
        return value

    def hmget(self, key: str, fields: list[bytes]) -> list[bytes | None]:
        """Return some fields, in one round trip."""
        values: list[bytes | None] = self._connection.hmget(key, fields)
        return values

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        """Return a whole hash."""
        values: dict[bytes, bytes] = self._connection.hgetall(key)
        return values

    def time(self) -> float:
        """Return the Unix time in seconds by the server's clock."""
        return server_time(self._connection)
