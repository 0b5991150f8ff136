"""A guest of a run: opens roots and receives their answers in a stream of its own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple, Protocol

import orjson
import redis
import structlog

from roomgrad import codec
from roomgrad.commit import Commit
from roomgrad.errors import MessageError, NoAnswer, ServerError, SettingsError, Stale, format_value
from roomgrad.guests import Guest
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.redis import roots, unanswered
from roomgrad.redis.streams import START, read_after
from roomgrad.rooms import MessageType, Room, System

LEASE_S = 30.0
MOST_ROOTS = 10_000
MOST_BYTES = 1024 * 1024 * 1024  # of the arrays of all open roots
AT_ONCE = 100  # roots that one commit gives up
RETRY_S = 0.1
TURN_S = 1.0  # how long one read waits, before another thread may read

log = structlog.get_logger("roomgrad")


class Root(NamedTuple):
    """A root that is open."""

    enter: str
    leave: str
    size: int
    """Bytes of the arrays that opened it."""

    wants_gradient: bool


class Sender(Protocol):
    """What a guest needs of a client."""

    system: System
    names: Names
    name: str
    redis: redis.Redis

    def stage(self, message: Message, commit: Commit) -> None: ...

    def apply(self, work: Callable[[Commit], None]) -> str: ...


class GuestClient:
    """Opens roots in a run, and waits for what comes home; use it as a context manager.

    No component owes anything to a guest: it has no consumer group, holds no history back, and
    when it ends, or dies, its open roots are given up. Any number of threads may use one guest.
    """

    def __init__(self, client: Sender, name: str = "", *, lease_s: float = LEASE_S) -> None:
        """Join the run of a client.

        name: what `roomgrad ps` shows; one of its own if empty.
        lease_s: how long the run waits for a guest that does not respond.

        Raises SettingsError for a name in use, and ServerError.
        """
        self._client = client
        self._system, self._names = client.system, client.names
        self.name = name or f"{client.name}~{socket.gethostname()}~{secrets.token_hex(4)}"
        if not re.fullmatch(r"[A-Za-z0-9_.~-]{1,128}", self.name):
            raise SettingsError(
                f"guest {format_value(name)}: expected 1 to 128 letters, digits, _ . ~ or -"
            )
        self._key, self._roots = self._names.guest(self.name), self._names.guest_roots(self.name)
        self._lease_ms = round(lease_s * 1000)
        self._open: dict[str, Root] = {}  # by ROOT_ID
        self._bytes = 0  # of all of them
        self._answers: dict[tuple[str, str], Message] = {}  # by ROOT_ID and TYPE
        self._errors: dict[str, str] = {}  # by ROOT_ID, why it was given up
        self._done: deque[str] = deque()  # roots that are not open any more
        self._unused: deque[str] = deque()  # roots to give up
        self._arrived = threading.Condition()
        self._reading = False
        self._closed = threading.Event()
        self._position = self._join()
        self._renewal = threading.Thread(target=self._renew, name="guest", daemon=True)
        self._renewal.start()

    def __enter__(self) -> GuestClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # roots

    def open(
        self,
        message: Message,
        leave: Room | str,
        answer: MessageType = MessageType.FORWARD,
    ) -> str:
        """Open a root with its first message; return the message's entry ID.

        What the root brings into room `leave` comes here instead. Raises SchemaError, and
        ServerError if too much is open or the readers lag.
        """
        size = sum(each.nbytes for each in message.arrays().values())
        if len(self._open) >= MOST_ROOTS or self._bytes + size > MOST_BYTES:
            raise ServerError(
                f"guest {self.name} has {len(self._open)} open roots, expected fewer than "
                f"{MOST_ROOTS} with {MOST_BYTES >> 20} MiB at most: wait for answers first"
            )
        message.guest = Guest(self.name, message.room, str(leave), answer.value)
        self._open[message.root_id] = Root(message.room, str(leave), size, message.wants_gradient)
        self._bytes += size

        done = self._drained(self._done)

        def work(commit: Commit) -> None:
            self._stage_end(done, commit)
            commit.stored(self._key)
            self._client.stage(message, commit)
            if message.wants_gradient:  # no component remembers any other
                commit.do(b"HSET", self._roots, message.root_id.encode(), message.room.encode())

        try:
            return self._apply(work)
        except BaseException:
            self._close(message.root_id)
            self._done.extend(done)
            raise

    def send(self, message: Message) -> None:
        """Send a message of a root that is open, like the gradient of its answer."""

        def work(commit: Commit) -> None:
            commit.stored(self._key)
            self._client.stage(message, commit)

        self._apply(work)

    def wait(
        self, root_id: str, type_: MessageType = MessageType.FORWARD, timeout_s: float = 60.0
    ) -> Message:
        """Return the message of a TYPE that comes home to an open root.

        Raises NoAnswer if none comes in time or the root is given up, with the reason.
        """
        until = time.monotonic() + timeout_s
        while (found := self._take(root_id, type_)) is None:
            left = until - time.monotonic()
            if left <= 0:
                raise self._no_answer(root_id, type_, timeout_s)
            self._read(min(left, TURN_S))
        is_last = type_ is MessageType.GRADIENT or not found.wants_gradient
        if is_last and self._close(root_id) is not None:
            self._done.append(root_id)
        return found

    def _no_answer(self, root_id: str, type_: MessageType, timeout_s: float) -> NoAnswer:
        """Give up a root, and return why nothing came."""
        reason = unanswered.reason(self._client.redis, self._names, self._system, root_id)
        root = self._open.get(root_id)
        self.give_up([root_id])
        what, room = "answer", root.leave if root else "?"
        if type_ is MessageType.GRADIENT:
            what, room = "gradient", root.enter if root else "?"
        return NoAnswer(
            f"no {what} in room {room} of run {self._names.run!r} within {timeout_s:g} s: {reason}"
        )

    def give_up(self, root_ids: Iterable[str]) -> None:
        """Give up roots that are open: the components forget them, without a dead letter."""
        known = [(each, self._close(each)) for each in root_ids]
        given_up = [root_id for root_id, root in known if root and root.wants_gradient]
        for start in range(0, len(given_up), AT_ONCE):
            some = given_up[start : start + AT_ONCE]

            def work(commit: Commit, some: list[str] = some) -> None:
                for root_id in some:
                    commit.do(b"HDEL", self._roots, root_id.encode())
                    text = f"root {root_id} is given up by the guest that opened it"
                    members = self._system.components
                    roots.give_up(commit, self._names, members, root_id, self.name, text)

            self._client.apply(work)

    def give_up_later(self, root_id: str) -> None:
        """Have a root given up soon; may be called anywhere, also by a garbage collector."""
        self._unused.append(root_id)

    def flush(self) -> None:
        """Give up now what `give_up_later` was called for, and end what is done."""
        self.give_up(self._drained(self._unused))
        if done := self._drained(self._done):

            def work(commit: Commit) -> None:
                self._stage_end(done, commit)

            self._client.apply(work)

    def close(self) -> None:
        """Give up what is open, and leave the run."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._renewal.join()
        with contextlib.suppress(redis.RedisError, ServerError):  # else when the lease is over
            self.give_up(list(self._open))
            self.flush()
            with self._client.redis.pipeline() as pipeline:
                pipeline.delete(self._key)
                pipeline.hdel(self._names.guests(), self.name)
                pipeline.execute()

    def _close(self, root_id: str) -> Root | None:
        """Return a root that was open, and is no longer."""
        root = self._open.pop(root_id, None)
        self._bytes -= root.size if root else 0
        return root

    # the guest's stream

    def _join(self) -> str:
        """Create the stream and register the guest; return the ID of its first entry."""
        about = orjson.dumps({"host": socket.gethostname(), "pid": os.getpid()})

        def work(commit: Commit) -> None:
            commit.same(self._names.guests(), self.name.encode(), None)
            commit.do(b"XADD", self._key, b"*", b"joined", about)
            commit.do(b"PEXPIRE", self._key, b"%d" % self._lease_ms)
            commit.do(b"HSET", self._names.guests(), self.name.encode(), about)

        try:
            return self._client.apply(work) or START
        except Stale as error:
            raise SettingsError(
                f"guest {self.name!r} is in use in run {self._names.run!r}: choose another, or "
                f"wait {self._lease_ms / 1000:g} s after the death of the other"
            ) from error

    def _renew(self) -> None:
        """Extend the lease until the guest is closed."""
        while not self._closed.wait(self._lease_ms / 3000):
            with contextlib.suppress(redis.RedisError, ServerError):
                if not self._client.redis.pexpire(self._key, self._lease_ms):
                    return  # the next message that it sends says so
                self.flush()

    def _stage_end(self, done: list[str], commit: Commit) -> None:
        """Stage the end of roots that are done, and of the answers that were read."""
        for root_id in done:
            commit.do(b"HDEL", self._roots, root_id.encode())
        if done:
            commit.do(b"XTRIM", self._key, b"MINID", self._position.encode())

    @staticmethod
    def _drained(queue: deque[str]) -> list[str]:
        """Return what a queue holds, and empty it; other threads may add meanwhile."""
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(queue.popleft())
        return found

    def _apply(self, work: Callable[[Commit], None]) -> str:
        try:
            return self._client.apply(work)
        except Stale as error:
            raise ServerError(
                f"the lease of guest {self.name} is over, since it did not respond for "
                f"{self._lease_ms / 1000:g} s or the server lost it: its roots are given up. "
                f"Join again"
            ) from error

    def _take(self, root_id: str, type_: MessageType) -> Message | None:
        with self._arrived:
            if reason := self._errors.pop(root_id, ""):
                self._close(root_id)
                raise NoAnswer(reason)
            return self._answers.pop((root_id, type_.value), None)

    def _read(self, seconds: float) -> None:
        """Wait until something comes home, to this thread or another."""
        with self._arrived:
            if self._reading:
                self._arrived.wait(seconds)
                return
            self._reading = True
        found = []
        try:
            positions = {self._key: self._position}
            found = read_after(self._client.redis, positions, seconds)
            self._position = positions[self._key]
        except (redis.ConnectionError, redis.TimeoutError):
            self._position = START  # the next master's clock, so its entry IDs, may be behind
            time.sleep(RETRY_S)
        finally:
            with self._arrived:
                self._reading = False
                for _, entry, values in found:
                    self._sort(entry, values)
                self._arrived.notify_all()

    def _sort(self, entry: str, values: dict[bytes, bytes]) -> None:
        root_id = values.get(b"ROOT_ID", b"").decode(errors="replace")
        if root_id not in self._open:
            return
        try:
            body = codec.parse_body(values.get(b"m", b""))
            if body.get("TYPE") == MessageType.LOG_ERROR.value:
                text, run = body.get("TEXT", ""), self._names.run
                self._errors[root_id] = f"{text}; `roomgrad dead list --run {run}` shows it"
                return
            stream = self._system.stream(str(body.get("TO_ROOM")), str(body.get("TYPE")))
            flat = [part for pair in values.items() for part in pair]
            message = codec.decode(entry, flat, stream)
        except MessageError as error:
            self._errors[root_id] = f"the answer cannot be read: {error}"
            return
        self._answers[root_id, message.type] = message
