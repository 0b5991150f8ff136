"""Gives up the roots of guests that are gone, so that no component remembers them for ever."""

from __future__ import annotations

from collections.abc import Sequence

from roomgrad.commit import SCRIPT, Commit
from roomgrad.redis import registry, roots
from roomgrad.redis.connection import Connection, Reply, ReplyError
from roomgrad.runtime.identity import Identity

AT_ONCE = 100  # roots that one commit gives up, while other commands wait


class GoneGuests:
    """Looks for guests whose lease is over; each replica of each component does."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._names = identity.names

    def give_up(self, connection: Connection) -> None:
        """Give up what guests left open whose stream has expired. Raises ReplyError."""
        for name in _checked(connection, b"HKEYS", self._names.guests().encode()):
            guest = name.decode(errors="replace")
            if not _checked(connection, b"EXISTS", self._names.guest(guest).encode()):
                while self._end_some(connection, guest):
                    pass

    def _end_some(self, connection: Connection, guest: str) -> bool:
        """Give up some roots of a guest; return whether there may be more.

        Another replica that does the same at the same time makes this commit stale.
        """
        names, component = self._names, self._identity.component
        fields = _checked(connection, b"HKEYS", names.run_info().encode())
        members = registry.members(component.system, fields)
        key = names.guest_roots(guest)
        count = b"%d" % AT_ONCE
        flat = _checked(connection, b"HRANDFIELD", key.encode(), count, b"WITHVALUES")
        commit = Commit(connection.publish_command)
        for root, room in zip(flat[::2], flat[1::2], strict=True):
            commit.same(key, root, room)
            commit.do(b"HDEL", key, root)
            name = root.decode(errors="replace")
            roots.end_of_guest(commit, names, members, component.name, name)
        if not flat:
            commit.do(b"HDEL", names.guests(), guest.encode())
        keys, arguments = commit.parts()
        number = b"%d" % len(keys)
        answer = _checked(connection, b"EVAL", SCRIPT, number, *keys, *arguments)
        return bool(flat) and answer[0] in (b"ok", b"stale")


def _checked(connection: Connection, *command: bytes) -> Sequence[bytes]:
    reply: Reply = connection.call(list(command))
    if isinstance(reply, ReplyError):
        raise reply
    found: Sequence[bytes] = reply
    return found
