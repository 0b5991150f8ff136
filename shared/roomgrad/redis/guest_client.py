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
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import orjson
import redis

from roomgrad.commit import Commit
from roomgrad.errors import (
    NoAnswer,
    Overloaded,
    ServerError,
    SettingsError,
    Stale,
    format_value,
)
from roomgrad.guests import Guest
from roomgrad.messages import Message
from roomgrad.redis import registry, roots, unanswered
from roomgrad.redis.guest_answers import GuestAnswers
from roomgrad.redis.guest_messages import Opening, Root, Sender, received
from roomgrad.redis.streams import START
from roomgrad.rooms import MessageType, Room

LEASE_S = 30.0
MOST_ROOTS = 10_000
MOST_BYTES = 1024 * 1024 * 1024  # of the arrays of all open roots
AT_ONCE = 100  # roots that one commit gives up
LAG_S = 0.02  # between two attempts to open a root while readers lag
TURN_S = 1.0  # how long one read waits, before another thread may read


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
        self._answers = GuestAnswers(
            client.redis,
            self._key,
            partial(received, self._system, self._names.run),
            self._open.__contains__,
            self._system.senders,
        )
        self._done: deque[str] = deque()  # roots that are not open any more
        self._unused: deque[str] = deque()  # roots to give up
        self._lost: deque[str] = deque()  # roots that are closed, and not given up in the run yet
        self._joining = threading.Lock()
        self._closed = threading.Event()
        self._about = orjson.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        self._answers.position = self._join()
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
        *,
        timeout_s: float = 0.0,
    ) -> str:
        """Open a root with its first message; return the message's entry ID.

        What the root brings into room `leave` comes here instead.

        timeout_s: how long to wait while the readers of the room lag.

        Raises SchemaError, Overloaded if they lag longer, and ServerError if too much is open.
        """
        opening = self.prepare(message, leave, answer)
        if not self.has_room(opening):
            raise ServerError(
                f"guest {self.name} has {len(self._open)} open roots, expected fewer than "
                f"{MOST_ROOTS} with {MOST_BYTES >> 20} MiB at most: wait for answers first"
            )
        until = time.monotonic() + timeout_s
        while True:
            try:
                return self.open_some([opening])[0]
            except Overloaded:
                if time.monotonic() > until:
                    raise
                time.sleep(LAG_S)

    def prepare(self, message: Message, leave: Room | str, answer: MessageType) -> Opening:
        """Return how a message opens a root; nothing is sent. Raises SchemaError."""
        message.guest = Guest(self.name, message.room, str(leave), answer.value)
        return Opening(message, Root.of(message, str(leave)), self._client.encode(message))

    def has_room(self, *openings: Opening) -> bool:
        """Return whether so many more roots may be open, with the bytes of their arrays."""
        size = sum(each.root.size for each in openings)
        return len(self._open) + len(openings) <= MOST_ROOTS and self._bytes + size <= MOST_BYTES

    def open_some(self, openings: Sequence[Opening]) -> list[str]:
        """Open roots in one commit, in their order: as many as the readers of their rooms take.

        Returns the entry IDs of those that are open now, at least one. Raises Overloaded and
        ServerError; then none is open.
        """
        self.give_up(self._drained(self._unused))
        try:
            return self._open_some(openings)
        except Stale:  # the process was suspended, or the server away
            self._join_again()
            return self._open_some(openings)

    def _open_some(self, openings: Sequence[Opening]) -> list[str]:
        done, opened = self._drained(self._done), 0

        def work(commit: Commit) -> None:
            nonlocal opened
            self._stage_end(done, commit)
            commit.stored(self._key)
            opened = self._stage_some(openings, commit)

        for each in openings:  # before the commit: an answer may come before its reply
            self._open[each.message.root_id] = each.root
            self._bytes += each.root.size
        try:
            entries = self._client.apply(work)
        except BaseException:
            opened = 0
            self._done.extend(done)
            raise
        finally:
            for each in openings[opened:]:
                self._close(each.message.root_id)
        return entries or [""] * opened

    def _stage_some(self, openings: Sequence[Opening], commit: Commit) -> int:
        """Stage roots until the readers lag; return how many. Raises Overloaded if none."""
        for number, each in enumerate(openings):
            try:
                self._client.hold_back(each.sending.stream)
            except Overloaded:
                if not number:
                    raise
                return number
            commit.send(*each.sending)
            if each.root.wants_gradient:  # no component remembers any other
                root_id = each.message.root_id.encode()
                commit.do(b"HSET", self._roots, root_id, each.root.enter.encode())
        return len(openings)

    def send(self, message: Message) -> None:
        """Send a message of a root that is open, like the gradient of its answer.

        Raises NoAnswer if the root was given up, with the reason.
        """

        def work(commit: Commit) -> None:
            commit.stored(self._key)
            commit.send(*self._client.encode(message))

        self._require_open(message.root_id)
        try:
            self._client.apply(work)
        except Stale as error:
            self._lose_roots()
            raise NoAnswer(self._lease_ended) from error

    def wait(
        self, root_id: str, type_: MessageType = MessageType.FORWARD, timeout_s: float = 60.0
    ) -> Message:
        """Return the message of a TYPE that comes home to an open root.

        Raises NoAnswer if none comes in time or the root is given up, with the reason.
        """
        until = time.monotonic() + timeout_s
        while True:
            seen = self._answers.count
            self._require_open(root_id)
            if found := self._answers.take(root_id, type_.value):
                self._end_if_last(found)
                return found
            left = until - time.monotonic()
            if left <= 0:
                raise self.no_answer(root_id, type_, timeout_s)
            self._answers.read(min(left, TURN_S), seen)

    def receive(self, timeout_s: float) -> list[tuple[str, Message | NoAnswer]]:
        """Wait until something comes home; return it, or why a root was given up, by ROOT_ID.

        For a program in which one thread waits for all roots.
        """
        self._answers.read(timeout_s, self._answers.count)
        lost, messages = self._answers.take_all()
        for root_id in lost:
            self._lose(root_id)
        for message in messages:
            self._end_if_last(message)
        reasons = [(root_id, NoAnswer(reason)) for root_id, reason in lost.items()]
        return [*reasons, *((each.root_id, each) for each in messages)]

    def _end_if_last(self, message: Message) -> None:
        if message.type == MessageType.GRADIENT.value or not message.wants_gradient:
            self.end(message.root_id)

    def end(self, root_id: str) -> None:
        """End a root of which nothing more comes, and which no component remembers."""
        if self._close(root_id) is not None:
            self._done.append(root_id)

    def no_answer(self, root_id: str, type_: MessageType, timeout_s: float) -> NoAnswer:
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
        for each in root_ids:
            self._lose(each)
        lost = self._drained(self._lost)
        try:
            self._end(lost)
        except BaseException:
            self._lost.extend(lost)  # the next time that something is given up
            raise

    def _end(self, root_ids: list[str]) -> None:
        for start in range(0, len(root_ids), AT_ONCE):
            some = root_ids[start : start + AT_ONCE]

            def work(commit: Commit, some: list[str] = some) -> None:
                fields: Any = self._client.redis.hkeys(self._names.run_info())
                members = registry.members(self._system, fields)
                for root_id in some:
                    commit.do(b"HDEL", self._roots, root_id.encode())
                    text = f"root {root_id} is given up by the guest that opened it"
                    roots.give_up(commit, self._names, members, root_id, self.name, text)

            self._client.apply(work)

    def _lose(self, root_id: str) -> None:
        """Close a root that is to be given up, if a component may remember it."""
        root = self._close(root_id)
        if root is not None and root.wants_gradient:
            self._lost.append(root_id)

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
            self._client.redis.delete(self._key)
            if not self._client.redis.exists(self._roots):  # else the components end them
                self._client.redis.hdel(self._names.guests(), self.name)

    def _close(self, root_id: str) -> Root | None:
        """Return a root that was open, and is no longer."""
        root = self._open.pop(root_id, None)
        self._bytes -= root.size if root else 0
        self._answers.forget(root_id)
        return root

    # the guest's stream

    def _join(self, known_as: bytes | None = None) -> str:
        """Create the stream and register the guest; return the ID of its first entry.

        known_as: the guest's entry in the registry until now. Raises SettingsError.
        """

        def work(commit: Commit) -> None:
            commit.same(self._names.guests(), self.name.encode(), known_as)
            commit.do(b"XADD", self._key, b"*", b"joined", self._about)
            commit.do(b"PEXPIRE", self._key, b"%d" % self._lease_ms)
            commit.do(b"HSET", self._names.guests(), self.name.encode(), self._about)

        try:
            return (self._client.apply(work) or [START])[0]
        except Stale as error:
            raise SettingsError(
                f"guest {self.name!r} is in use in run {self._names.run!r}: choose another, or "
                f"wait {self._lease_ms / 1000:g} s after the death of the other"
            ) from error

    def _join_again(self) -> None:
        """Join after the lease has ended. What was open is given up."""
        with self._joining:
            if self._client.redis.exists(self._key):  # another thread was faster
                return
            self._lose_roots()
            left: Any = self._client.redis.hkeys(self._roots)
            self._end([each.decode(errors="replace") for each in left])
            known: Any = self._client.redis.hget(self._names.guests(), self.name)
            self._answers.position = self._join(known if known == self._about else None)

    def _lose_roots(self) -> None:
        """Tell all that wait that the lease has ended."""
        lost = list(self._open)
        for root_id in lost:
            self._close(root_id)
        self._answers.lose(lost, self._lease_ended)

    @property
    def _lease_ended(self) -> str:
        return (
            f"the lease of guest {self.name} ended, since the program did not respond for "
            f"{self._lease_ms / 1000:g} s or the server lost it: its open roots are given up"
        )

    def _renew(self) -> None:
        """Extend the lease until the guest is closed."""
        while not self._closed.wait(self._lease_ms / 3000):
            with contextlib.suppress(redis.RedisError, ServerError):
                self.extend_lease()

    def extend_lease(self) -> None:
        """Begin the lease anew, as a thread does; if it has ended, all that is open is lost."""
        if self._client.redis.pexpire(self._key, self._lease_ms):
            self.flush()
        else:
            self._lose_roots()

    def _stage_end(self, done: list[str], commit: Commit) -> None:
        """Stage the end of roots that are done, and of the answers that were read."""
        if done:
            commit.do(b"HDEL", self._roots, *map(str.encode, done))
            commit.do(b"XTRIM", self._key, b"MINID", self._answers.position.encode())

    @staticmethod
    def _drained(queue: deque[str]) -> list[str]:
        """Return what a queue holds, and empty it; other threads may add meanwhile."""
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(queue.popleft())
        return found

    def _require_open(self, root_id: str) -> None:
        """Raise NoAnswer if a root was given up."""
        if reason := self._answers.take_reason(root_id):
            self._lose(root_id)
            raise NoAnswer(reason)
