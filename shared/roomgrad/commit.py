"""A commit: what a handler read and wants written, as one call of a script on the server."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

from roomgrad import scripts

# The commands that announce an entry on the channel of its room. On a cluster, channels belong to
# slots as keys do, and PUBLISH does not reach them.
PUBLISH, SPUBLISH = b"PUBLISH", b"SPUBLISH"

SCRIPT = scripts.load("commit").encode()
SCRIPT_SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()

_LITERAL = 4096  # bytes up to which values are compared as they are, longer ones by SHA-1
ENVELOPE = 6  # ID, ROOT_ID, m and their values; SEED and arrays follow in an entry
TIMES_FIELD = b"times"  # the entry field with the sender's handling times
ONCE_KEPT = 10_000  # tokens of the newest commits that may be retried


def fingerprint(value: bytes) -> bytes:
    """Return what a guard sends of a value that was read."""
    if len(value) <= _LITERAL:
        return value
    return hashlib.sha1(value, usedforsecurity=False).hexdigest().encode()


def _packed(texts: list[bytes]) -> bytes:
    """Return texts as MessagePack, which scripts unpack."""
    parts = [b"\xdb" + len(each).to_bytes(4, "big") + each for each in texts]
    return b"\xdc" + len(texts).to_bytes(2, "big") + b"".join(parts)


@dataclass
class Commit:
    """Guards and operations in the order in which they were staged.

    `lua/commit.lua` applies it; the head of that file explains each guard and operation.
    """

    publish_command: bytes = PUBLISH
    keys: dict[str, bytes] = field(default_factory=dict)
    guards: list[list[bytes]] = field(default_factory=list)
    acknowledged: list[list[bytes]] = field(default_factory=list)
    operations: list[list[bytes]] = field(default_factory=list)
    sends: list[tuple[list[bytes], list[bytes]]] = field(default_factory=list)
    times: bytes = b""  # the sender's `roomgrad.runtime.handling_times`, for each entry it sends
    soonest_s: float = math.inf  # the shortest delay of a message

    def _key(self, name: str) -> bytes:
        index = self.keys.get(name)
        if index is None:
            index = self.keys[name] = str(len(self.keys) + 1).encode()
        return index

    # guards

    def pending(self, stream: str, done: str, group: str, entry: str) -> None:
        """Require that the group still owes this entry; mark it as done and acknowledge it."""
        self.guards.append(
            [b"PENDING", self._key(stream), self._key(done), group.encode(), entry.encode()]
        )

    def memory(self) -> None:
        """Require that the server's memory is not full; to be called after `pending`."""
        self.guards.append([b"MEMORY"])

    def same(self, hash_: str, name: bytes, value: bytes | None) -> None:
        """Require that a field of a hash is as it was read; None: that it does not exist."""
        if value is None:
            self.guards.append([b"ABSENT", self._key(hash_), name])
        else:
            self.guards.append([b"SAME", self._key(hash_), name, fingerprint(value)])

    def stored(self, key: str) -> None:
        """Require that a key exists."""
        self.guards.append([b"STORED", self._key(key)])

    def once(self, kept: str, token: str, at_s: float) -> None:
        """Require that no commit with this token was applied, and store the token."""
        self.never(kept, token)
        self.record(kept, token, int(at_s), ONCE_KEPT)

    def never(self, kept: str, token: str) -> None:
        """Require that a sorted set does not have a token."""
        self.guards.append([b"ONCE", self._key(kept), token.encode()])

    def guarded(self, number: int) -> str:
        """Return the key that a guard, counted from 1, reads; an empty text for 0, or for none."""
        guard = self.guards[number - 1] if number else []
        return list(self.keys)[int(guard[1]) - 1] if len(guard) > 1 else ""

    # operations

    def record(self, kept: str, token: str, at: int, most: int) -> None:
        """Add a token to a sorted set, of which the newest are kept."""
        self.do(b"ZADD", kept, b"%d" % at, token.encode())
        self.do(b"ZREMRANGEBYRANK", kept, b"0", b"%d" % -(most + 1))

    def mark(self, stream: str, done: str, group: str, entry: str) -> None:
        """Mark a skipped entry as done, and acknowledge it if it is pending."""
        self.operations.append(
            [b"MARK", self._key(stream), self._key(done), group.encode(), entry.encode()]
        )

    def acknowledge(self, stream: str, group: str, *entries: bytes) -> None:
        """Acknowledge entries. They come before all other writes: see `lua/commit.lua`."""
        count = b"%d" % (1 + len(entries))
        self.acknowledged.append([b"XACK", self._key(stream), count, group.encode(), *entries])

    def do(self, command: bytes, key: str, *arguments: bytes) -> None:
        """Write one key: HSET, HDEL, HINCRBY, XADD, XACK..."""
        self.operations.append([command, self._key(key), b"%d" % len(arguments), *arguments])

    def send(
        self,
        stream: str,
        channel: str,
        header: bytes,
        fields: list[bytes],
        limit: int | None = None,
    ) -> None:
        """Add a stream entry and publish its header. `limit` trims streams without groups."""
        self.sends.append(([b"SEND", *self._to(stream, channel, header, limit)], fields))

    def delay(
        self,
        dues: str,
        bodies: str,
        after_s: float,
        stream: str,
        channel: str,
        header: bytes,
        fields: list[bytes],
        limit: int | None = None,
    ) -> None:
        """Do the same in so many seconds by the server's clock; see `lua/delayed.lua`."""
        when = [self._key(dues), self._key(bodies), b"%d" % math.ceil(after_s * 1000)]
        to = self._to(stream, channel, header, limit)
        self.sends.append(([b"LATER", *when, *to], fields))
        self.soonest_s = min(self.soonest_s, after_s)

    def start_timer(
        self, dues: str, bodies: str, name: str, at_ms: int, after_s: float, entry: list[bytes]
    ) -> None:
        """Deliver an entry so long after a moment, unless the timer of this name is stopped.

        entry: stream, channel, header, limit and fields, as `lua/delayed.lua` reads them.
        """
        self.do(b"ZADD", dues, b"%d" % (at_ms + math.ceil(after_s * 1000)), name.encode())
        self.do(b"HSET", bodies, name.encode(), _packed(entry))
        self.soonest_s = min(self.soonest_s, after_s)

    def stop_timer(self, dues: str, bodies: str, name: str) -> None:
        """Stop a timer; it may be over."""
        self.do(b"ZREM", dues, name.encode())
        self.do(b"HDEL", bodies, name.encode())

    def _to(self, stream: str, channel: str, header: bytes, limit: int | None) -> list[bytes]:
        most = b"" if limit is None else b"%d" % limit
        return [self._key(stream), channel.encode(), header, most]

    def retain(self, kept: str, version: str) -> None:
        """Count one more open root that needs this version of the model."""
        self.operations.append([b"RETAIN", self._key(kept), version.encode()])

    def release(self, kept: str, version: str) -> None:
        """Count one root less that needs this version of the model."""
        self.operations.append([b"RELEASE", self._key(kept), version.encode()])

    def ledger(self, ledger: str, counters: str, root_id: str, step: int) -> None:
        """Record that the gradient of a root was applied."""
        self.operations.append(
            [b"LEDGER", self._key(ledger), self._key(counters), root_id.encode(), b"%d" % step]
        )

    def parts(self) -> tuple[list[bytes], list[bytes]]:
        """Return KEYS and ARGV of the script. Sends come early, since they fail soonest."""
        arguments = [self.publish_command, b"%d" % len(self.guards)]
        for guard in self.guards:
            arguments += guard
        count = len(self.acknowledged) + len(self.sends) + len(self.operations)
        arguments.append(b"%d" % count)
        for operation in self.acknowledged:
            arguments += operation
        more = [TIMES_FIELD, self.times] if self.times else []
        for to, fields in self.sends:
            arguments += to
            arguments.append(b"%d" % (len(fields) + len(more)))
            arguments += fields[:ENVELOPE]
            arguments += more
            arguments += fields[ENVELOPE:]
        for operation in self.operations:
            arguments += operation
        return [name.encode() for name in self.keys], arguments

    def command(self) -> list[bytes]:
        """Return the EVALSHA command that applies it."""
        keys, arguments = self.parts()
        return [b"EVALSHA", SCRIPT_SHA, b"%d" % len(keys), *keys, *arguments]
