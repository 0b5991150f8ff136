"""Keeps the history of streams within limits: what every declared group has acknowledged may go."""

from __future__ import annotations

from roomgrad import scripts
from roomgrad.redis.connection import Connection, ReplyError, packed
from roomgrad.runtime import runs
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.status import Status

MIB = 1024 * 1024
TRIM_EVERY = 10  # heartbeats between two trims of a replica with little to do


class History:
    """The streams that a component reads or writes, and the command that trims each.

    Writers trim, too: otherwise a stream whose only reader was forgotten would grow without limit.
    Each component forgets the done marks of its own group alone.
    """

    def __init__(self, identity: Identity, status: Status) -> None:
        component, names, settings = identity.component, identity.names, identity.settings
        self._status = status
        self._entries, self._bytes = settings.history_entries, settings.history_mib * MIB
        self._heartbeats = 0
        self._trimmed_at = self._trimmed_bytes = 0
        groups = list(runs.groups(component.system, names))
        inbox = {(room, type_) for room, type_, group in groups if group == component.name}
        streams = {stream.key for stream in component.streams} | component.reply_streams() | inbox
        script = scripts.load("trim").encode()
        limits = [b"%d" % self._entries, b"%d" % self._bytes]
        self._commands = []
        for stream in sorted(streams):
            readers = [group for *key, group in groups if tuple(key) == stream]
            keys = [names.stream(*stream), names.run_info()]
            keys += [names.done(group, *stream) for group in readers if group == component.name]
            words = [b"EVAL", script, b"%d" % len(keys), *(key.encode() for key in keys), *limits]
            self._commands.append(packed(*words, *(group.encode() for group in readers)))

    def trim_if_due(self, connection: Connection) -> None:
        """Trim after many commits, after many bytes, or after some heartbeats. Raises ReplyError.

        To be called once a heartbeat.
        """
        self._heartbeats += 1
        commits = self._status.commits - self._trimmed_at
        size = self._status.handled_bytes - self._trimmed_bytes
        few = commits < self._entries // 4 and size < self._bytes / 4
        if few and (not commits or self._heartbeats % TRIM_EVERY):
            return
        handled = self._status.commits, self._status.handled_bytes
        refused = None
        for command in self._commands:
            reply = connection.call(command)
            refused = reply if isinstance(reply, ReplyError) else refused
        if refused is not None:  # the other streams are trimmed nevertheless
            raise refused
        self._trimmed_at, self._trimmed_bytes = handled
