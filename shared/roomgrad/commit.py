"""A commit: what a handler read and wants written, as one call of the script on the server."""

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

_LITERAL = 40  # values up to so many bytes are compared themselves, longer ones by their SHA-1
ENVELOPE = 6  # ID, ROOT_ID, m and their values; what follows in an entry are arrays
TIMES_FIELD = b"times"  # the entry field with the sender's handling times
ONCE_KEPT = 10_000  # tokens of the newest commits that may be tried again


def fingerprint(value: bytes) -> bytes:
    """What a guard sends of a value that was read."""
    if len(value) <= _LITERAL:
        return value
    return hashlib.sha1(value, usedforsecurity=False).hexdigest().encode()


@dataclass
class Commit:
    """Guards and operations in the order in which they were staged.

    `lua/commit.lua` does it; the head of that file explains each guard and operation.
    """

    ring: bytes = PUBLISH
    keys: dict[str, bytes] = field(default_factory=dict)
    guards: list[list[bytes]] = field(default_factory=list)
    operations: list[list[bytes]] = field(default_factory=list)
    sends: list[tuple[list[bytes], list[bytes]]] = field(default_factory=list)
    times: bytes = b""  # the sender's `roomgrad.runtime.handling_times`, for each entry it sends
    soonest_s: float = math.inf  # the shortest delay of what is to be sent later

    def _key(self, name: str) -> bytes:
        index = self.keys.get(name)
        if index is None:
            index = self.keys[name] = str(len(self.keys) + 1).encode()
        return index

    # guards

    def pending(self, stream: str, done: str, group: str, entry: str) -> None:
        """The group still owes this entry; it is marked as done and acknowledged."""
        self.guards.append(
            [b"PENDING", self._key(stream), self._key(done), group.encode(), entry.encode()]
        )

    def same(self, hash_: str, name: bytes, value: bytes | None) -> None:
        """The field of the hash is as it was read; None: it was not there."""
        if value is None:
            self.guards.append([b"ABSENT", self._key(hash_), name])
        else:
            self.guards.append([b"SAME", self._key(hash_), name, fingerprint(value)])

    def once(self, kept: str, token: str, at_s: float) -> None:
        """It does not stand yet, and is known to stand by this token from then on."""
        self.guards.append([b"ONCE", self._key(kept), token.encode()])
        self.do(b"ZADD", kept, b"%d" % at_s, token.encode())
        self.do(b"ZREMRANGEBYRANK", kept, b"0", b"%d" % -(ONCE_KEPT + 1))

    # operations

    def mark(self, stream: str, done: str, group: str, entry: str) -> None:
        """An entry that was skipped: done, and acknowledged if it was still owed."""
        self.operations.append(
            [b"MARK", self._key(stream), self._key(done), group.encode(), entry.encode()]
        )

    def do(self, command: bytes, key: str, *arguments: bytes) -> None:
        """A write of one key: HSET, HDEL, HINCRBY, XADD, XACK..."""
        self.operations.append([command, self._key(key), b"%d" % len(arguments), *arguments])

    def send(
        self,
        stream: str,
        channel: str,
        header: bytes,
        fields: list[bytes],
        limit: int | None = None,
    ) -> None:
        """A stream entry, and its header on the channel. `limit` trims streams without groups."""
        self.sends.append(([b"SEND", *self._to(stream, channel, header, limit)], fields))

    def later(
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
        """The same in so many seconds, counted by the server; see `lua/delayed.lua`."""
        when = [self._key(dues), self._key(bodies), b"%d" % math.ceil(after_s * 1000)]
        to = self._to(stream, channel, header, limit)
        self.sends.append(([b"LATER", *when, *to], fields))
        self.soonest_s = min(self.soonest_s, after_s)

    def _to(self, stream: str, channel: str, header: bytes, limit: int | None) -> list[bytes]:
        most = b"" if limit is None else b"%d" % limit
        return [self._key(stream), channel.encode(), header, most]

    def retain(self, kept: str, version: str) -> None:
        """One more open root needs the weights of this version."""
        self.operations.append([b"RETAIN", self._key(kept), version.encode()])

    def release(self, kept: str, version: str) -> None:
        """One root less needs the weights of this version; the last one frees them."""
        self.operations.append([b"RELEASE", self._key(kept), version.encode()])

    def step(
        self, model: str, kept: str, version: str, step: int, weights: bytes, optimizer: bytes
    ) -> None:
        """The next version of a model; the former weights are kept while open roots need them."""
        self.operations.append(
            [
                b"STEP",
                self._key(model),
                self._key(kept),
                version.encode(),
                b"%d" % step,
                weights,
                optimizer,
            ]
        )

    def ledger(self, ledger: str, counters: str, root_id: str, step: int) -> None:
        """Writes down that the gradient of a root was applied."""
        self.operations.append(
            [b"LEDGER", self._key(ledger), self._key(counters), root_id.encode(), b"%d" % step]
        )

    def parts(self) -> tuple[list[bytes], list[bytes]]:
        """KEYS and ARGV of the script. What can fail soonest, the sends, is written first."""
        arguments = [self.ring, b"%d" % len(self.guards)]
        for guard in self.guards:
            arguments += guard
        arguments.append(b"%d" % (len(self.sends) + len(self.operations)))
        more = [TIMES_FIELD, self.times] if self.times else []
        for to, fields in self.sends:
            arguments += to
            arguments.append(b"%d" % (len(fields) + len(more)))
            arguments += fields[:ENVELOPE]
            arguments += more
            arguments += fields[ENVELOPE:]
        # RELEASE counts down before STEP looks at who still needs the weights: staged order holds.
        for operation in self.operations:
            arguments += operation
        return [name.encode() for name in self.keys], arguments

    def command(self) -> list[bytes]:
        """The EVALSHA that does it."""
        keys, arguments = self.parts()
        return [b"EVALSHA", SCRIPT_SHA, b"%d" % len(keys), *keys, *arguments]
