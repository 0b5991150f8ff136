"""The log of a model's steps: one record for each, from which any replica repeats them.

A record refers to nothing but the version before it: stream entries are trimmed, and memory is
deleted by the commit that writes the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from roomgrad.codec import pack, unpack
from roomgrad.models import ForwardPass, Trainable
from roomgrad.redis.connection import Command

GRADIENT = "gradient"  # the finished gradient: the replica only updates
BATCH = "batch"  # inputs, seed and gradient of the outputs: the replica computes the step again
STATE = "state"  # another state, which a snapshot holds

AT_MOST = 16 * 1024  # bytes of a gradient that is written although its batch is smaller
_READ = 16  # records of one read

Call = Callable[[Command], Any]


@dataclass(frozen=True)
class StepRecord:
    """How a model got from one version to the next."""

    before: str
    version: str
    step: int
    body: bytes
    """A packed record, with its `kind`."""

    fingerprint: str = ""
    """Of the weights before the step, in some records."""

    key: str = ""
    """ID of the gradient message, of whose forward pass another replica may have the graph."""

    def fields(self) -> list[bytes]:
        """Return the fields of its entry in the log."""
        more = [b"fingerprint", self.fingerprint.encode()] if self.fingerprint else []
        more += [b"ID", self.key.encode()] if self.key else []
        return [
            b"version", self.version.encode(), b"before", self.before.encode(),
            b"step", b"%d" % self.step, *more, b"m", self.body,
        ]  # fmt: skip

    @classmethod
    def of(cls, fields: list[bytes]) -> StepRecord:
        """Return the record of an entry."""
        pairs = dict(zip(fields[::2], fields[1::2], strict=True))
        before, version = pairs[b"before"].decode(), pairs[b"version"].decode()
        found, key = pairs.get(b"fingerprint", b"").decode(), pairs.get(b"ID", b"").decode()
        return cls(before, version, int(pairs[b"step"]), pairs[b"m"], found, key)


def gradient_body(trainable: Trainable, update: Any) -> bytes:
    """Return a record of a finished gradient."""
    return pack({"kind": GRADIENT, **trainable.encode(update)})


def batch_body(made: ForwardPass, upstream: Mapping[str, Any]) -> bytes:
    """Return a record of a batch, whose forward pass was computed by the version before."""
    arrays = {f"input {name}": array for name, array in made.inputs.items()}
    arrays |= {f"upstream {name}": array for name, array in upstream.items()}
    return pack({"kind": BATCH, "seed": made.seed, **arrays})


def state_body() -> bytes:
    """Return a record that leads to the snapshot of its version."""
    return pack({"kind": STATE})


def replay(trainable: Trainable, record: StepRecord) -> bool:
    """Repeat a step; return False for a record of another state, which a snapshot holds."""
    trainable.drop(record.key)
    body = unpack(record.body)
    if body["kind"] == STATE:
        return False
    if body["kind"] == GRADIENT:
        trainable.apply(trainable.decode(body))
        return True
    made = ForwardPass(_named("input ", body), body["seed"], record.before)
    gradient, _ = trainable.backward("", made, _named("upstream ", body), lambda: None)
    trainable.apply(trainable.prepare(gradient, made, moved_on=False, staleness=0))
    return True


def _named(prefix: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): a for name, a in body.items() if name.startswith(prefix)}


def records(call: Call, key: str, after: str) -> Iterator[tuple[str, StepRecord]]:
    """Yield the entries of a log after one of them, with their IDs, to its end."""
    while True:
        start = f"({after}".encode()
        found = call([b"XRANGE", key.encode(), start, b"+", b"COUNT", b"%d" % _READ])
        for entry, fields in found:
            after = entry.decode()
            yield after, StepRecord.of(fields)
        if len(found) < _READ:
            return
