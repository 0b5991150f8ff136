"""The protocol with one thing left out, each of which some schedule must notice."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

from roomgrad import Message, commit
from roomgrad.commit import Commit
from roomgrad.guests import Guest
from roomgrad.names import Names
from roomgrad.redis import roots
from roomgrad.runtime import connections, runs
from roomgrad.runtime.committer import Committer
from roomgrad.runtime.consumers import Delivery, GroupConsumer
from roomgrad.runtime.model import writer
from roomgrad.runtime.model.follower import Follower
from tests.schedules import schedule


@contextlib.contextmanager
def of_script(before: str, after: str) -> Iterator[None]:
    """Change the commit script."""
    text = commit.SCRIPT.decode()
    assert text.count(before) == 1, before
    script = text.replace(before, after).encode()
    sha = hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()
    with contextlib.ExitStack() as stack:
        for module in (commit, connections, runs, writer, schedule):
            stack.enter_context(mock.patch.object(module, "SCRIPT", script))
        stack.enter_context(mock.patch.object(commit, "SCRIPT_SHA", sha))
        yield


def no_done_mark() -> Any:
    """A commit acknowledges its entry, and does not mark it as done."""
    return of_script("  call('ZADD', done, since, entry)\n", "")


def no_version_guard() -> Any:
    """A step does not require that the model has the version before it."""
    same = Commit.same

    def unless_version(self: Commit, hash_: str, name: bytes, value: bytes | None) -> None:
        if name != b"version" or value is None:
            same(self, hash_, name, value)

    return mock.patch.object(Commit, "same", unless_version)


@contextlib.contextmanager
def acknowledged_before() -> Iterator[None]:
    """A message is acknowledged before its effects are committed."""

    def guard(self: GroupConsumer, commit: Commit, delivery: Delivery) -> None:
        stream, _, group = self._names_by_stream[delivery.stream.key]
        commit.first = [b"XACK", stream.encode(), group.encode(), delivery.entry.encode()]

    def send(self: connections.Connections, commit: Commit, then_read: Any = ()) -> None:
        if first := vars(commit).get("first"):
            self.call(first)
        before(self, commit, then_read)

    before = connections.Connections.send
    with (
        mock.patch.object(GroupConsumer, "guard", guard),
        mock.patch.object(connections.Connections, "send", send),
    ):
        yield


@contextlib.contextmanager
def acknowledged_after() -> Iterator[None]:
    """A message is acknowledged by a command of its own, behind its effects."""

    def guard(self: GroupConsumer, commit: Commit, delivery: Delivery) -> None:
        stream, _, group = self._names_by_stream[delivery.stream.key]
        commit.last = [b"XACK", stream.encode(), group.encode(), delivery.entry.encode()]

    def decided(self: Any, commit: Commit, reply: Any) -> Any:
        found = before(self, commit, reply)
        if last := vars(commit).get("last"):
            self._connections.call(last)
        return found

    before = Committer.decide
    with (
        mock.patch.object(GroupConsumer, "guard", guard),
        mock.patch.object(Committer, "decide", decided),
    ):
        yield


def applied_before_commit() -> Any:
    """A replica repeats its own step from the log: it does not note that it made it."""
    return mock.patch.object(Follower, "stepped")


def no_open_root() -> Any:
    """An answer goes to a guest that lives, also if it has given the root up."""

    def require(commit: Commit, names: Names, guest: Guest, message: Message) -> None:
        commit.stored(names.guest(guest.name))

    return mock.patch.object(roots, "require_open", require)


MUTATIONS: Mapping[str, Callable[[], Any]] = {
    each.__name__.replace("_", " "): each
    for each in (
        no_done_mark,
        no_version_guard,
        acknowledged_before,
        acknowledged_after,
        applied_before_commit,
        no_open_root,
    )
}
