"""History is kept within limits: what every declared group has acknowledged may go."""

from __future__ import annotations

from roomgrad.component import Component
from roomgrad.names import Names
from roomgrad.redis.connection import Connection, ReplyError, packed
from roomgrad.runtime import runs
from roomgrad.settings import RuntimeSettings


class History:
    """The streams that a component reads or writes, and how each is trimmed.

    Writers trim too: a stream whose only reader was forgotten would otherwise grow for ever. The
    marks of what a group has done are its own component's to forget.
    """

    def __init__(self, names: Names, component: Component, settings: RuntimeSettings) -> None:
        script = runs.script("trim").encode()
        limits = [
            b"%d" % settings.history_entries,
            b"%d" % (settings.history_mib * 1024 * 1024),
        ]
        inbox = {
            key[:2] for key in runs.groups(component.system, names) if key[2] == component.name
        }
        streams = {stream.key for stream in component.streams} | component.reply_streams() | inbox
        self._commands = []
        for stream in sorted(streams):
            groups = [g for *key, g in runs.groups(component.system, names) if tuple(key) == stream]
            keys = [names.stream(*stream), names.run_info()]
            keys += [names.done(group, *stream) for group in groups if group == component.name]
            words = [b"EVAL", script, b"%d" % len(keys), *(key.encode() for key in keys), *limits]
            self._commands.append(packed(*words, *(group.encode() for group in groups)))

    def trim(self, wire: Connection) -> None:
        """Forgets what may go now. Raises what the server answers as an error."""
        for command in self._commands:
            reply = wire.call(command)
            if isinstance(reply, ReplyError):
                raise reply
