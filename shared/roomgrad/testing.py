"""Tools for tests of components: calls without Redis, a temporary server, replicas in a thread.

A handler is called as by the runtime, but without a connection: the message and the replies are
checked against the contract and pass through the codec, memory and tables are packed and unpacked,
the model is stepped.

    >>> import numpy as np
    >>> from roomgrad import Array, Component, Message, MessageType, Room, RuntimeSettings
    >>> from roomgrad import Stream, System, on
    >>> from roomgrad.testing import call
    >>> CAVE, HILL = Room("cave"), Room("hill")
    >>> numbers = {"DATA": Array("<f4", ("n",))}
    >>> contract = System("echo", (
    ...     Stream(CAVE, MessageType.FORWARD, numbers, ("rock",)),
    ...     Stream(HILL, MessageType.FORWARD, numbers),
    ... ), ("rock",))
    >>> @on(CAVE, MessageType.FORWARD, replies=[(HILL, MessageType.FORWARD)])
    ... def echo(message, context):
    ...     context.memory.put(message.id, heard=len(message.array))
    ...     return message.reply(HILL, message.array / 2)
    >>> rock = Component("rock", contract, RuntimeSettings, handlers=[echo])
    >>> shout = Message.open(CAVE, np.array([4, 2], "<f4"))
    >>> called = call(rock, shout)
    >>> called.replies[0].array
    array([2., 1.], dtype=float32)
    >>> called.memory[shout.id]["heard"]
    2
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from roomgrad import codec
from roomgrad.clock import ServerClock
from roomgrad.commit import Commit
from roomgrad.component import Component
from roomgrad.errors import ContractError, NoAnswer
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.messages import Message, new_id
from roomgrad.models import ModelState, Trainable
from roomgrad.names import Names
from roomgrad.redis.server_address import AnyAddress
from roomgrad.reprs import short_repr
from roomgrad.rooms import MessageType, Stream
from roomgrad.runtime.model.store import ModelStore
from roomgrad.runtime.replica import Replica
from roomgrad.runtime.work import Attempt, Work
from roomgrad.settings import RuntimeSettings

BLOCK_S = 5.0  # shorter than a client waits for an answer

Records = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, repr=False)
class Called:
    """What a call wants, and what its component would store if it were committed."""

    replies: list[Message] = field(default_factory=list)
    """What the handlers returned, as its receivers would read it."""

    sent: list[Message] = field(default_factory=list)
    """What `context.send` and `context.report` staged; delayed messages come last."""

    delayed: list[tuple[float, Message]] = field(default_factory=list)
    """What `context.send` staged with a delay, and the delay in seconds; in `sent`, too."""

    appended: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """What `context.append` staged: the name of the log, and the record."""

    memory: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The memory afterwards, for the next call."""

    tables: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """The tables afterwards: name, field, record."""

    counters: dict[str, int] = field(default_factory=dict)
    """What was added to the counters."""

    state: ModelState | None = None
    """The model afterwards, for the next call. None if the component declares none."""

    stepped: bool = False
    """Whether the model took an optimizer step."""

    skipped: bool = False
    """Whether no handler wanted the message."""

    __repr__ = short_repr


def call(
    component: Component,
    message: Message,
    *,
    settings: Any = None,
    memory: Records | None = None,
    tables: Mapping[str, Records] | None = None,
    state: ModelState | None = None,
    kept: Mapping[str, bytes] | None = None,
) -> Called:
    """Call the handlers that `component` has for this message, without Redis.

    settings: those of the component; its defaults unless given.
    memory, tables: what is stored before the call, as records by field.
    state: the model; the initial one unless given.
    kept: states of older versions, for gradients of their forward passes.

    Raises what the handler raises, SchemaError if the message or a reply does not fit the
    contract, and ContractError for a reply that the handler did not declare.
    """
    bench = _Bench(component, settings, memory or {}, tables or {}, state, kept or {})
    stream = component.system.stream(message.room, message.type)
    message = _travelled(message, stream)
    version = bench.state.version.encode() if bench.state else None
    attempt = bench.work.attempt(message, bench, version)
    if attempt is None:
        return bench.result(Attempt(bench.work.context(bench), [], None), skipped=True)
    return bench.result(attempt)


def call_start(
    component: Component, *, settings: Any = None, tables: Mapping[str, Records] | None = None
) -> Called:
    """Call `on_start` of a component, in a run that starts or that others have started."""
    bench = _Bench(component, settings, {}, tables or {}, None, {})
    attempt = bench.work.start(bench)
    if attempt is None:
        raise ContractError(f"{component.name} declares no on_start")
    return bench.result(attempt)


def call_dead(
    component: Component,
    root_id: str,
    *,
    settings: Any = None,
    memory: Records | None = None,
    tables: Mapping[str, Records] | None = None,
) -> Called:
    """Give up a root, as after a dead letter: delete its memory and call `on_dead`."""
    bench = _Bench(component, settings, memory or {}, tables or {}, None, {})
    notice = Message(Names.inbox(component.name), MessageType.LOG_ERROR, new_id(), root_id)
    attempt = bench.work.attempt(notice, bench, None)
    assert attempt is not None  # every component reads its inbox
    return bench.result(attempt)


class _Bench:
    """Hashes in dicts, read by the real `Context`, `Work` and `ModelStore`."""

    def __init__(
        self,
        component: Component,
        settings: Any,
        memory: Records,
        tables: Mapping[str, Records],
        state: ModelState | None,
        kept: Mapping[str, bytes],
    ) -> None:
        self.component = component
        self.settings = settings if settings is not None else component.settings()
        self.names = Names(component.system.name)
        self.hashes = {self.names.memory(component.name): _packed(memory)}
        for name, records in tables.items():
            self.hashes[self.names.table(name)] = _packed(records)
        self.tables = tables
        self.store: ModelStore | None = None
        self.state: ModelState | None = None
        if component.model is not None:
            self.store = self._store(kept)
            self.state = self._load(state)
        self.work = Work(component, self.names, self.settings, self.store)
        self.time = ServerClock().time

    def hget(self, key: str, name: bytes) -> bytes | None:
        return self.hashes.get(key, {}).get(name)

    def hmget(self, key: str, names: list[bytes]) -> list[bytes | None]:
        return [self.hget(key, name) for name in names]

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        return dict(self.hashes.get(key, {}))

    def result(self, attempt: Attempt, *, skipped: bool = False) -> Called:
        """Stage the attempt as the runtime does, which checks the replies and steps the model."""
        step = self.work.stage(attempt, Commit())
        if step is not None and self.store is not None:
            self.store.committed(step, "1-0")
            self.state = self._now(self.store)
        context = attempt.context
        count = len(attempt.messages) - len(context.sent)
        staged_tables = {name: table.staged for name, table in context.tables.items()}
        tables = {
            name: self._after(self.names.table(name), staged_tables.get(name, {}))
            for name in {**self.tables, **staged_tables}
        }
        return Called(
            replies=[self._received(message) for message in attempt.messages[:count]],
            sent=attempt.messages[count:] + [message for _, message in context.delayed],
            delayed=context.delayed,
            appended=[(name, codec.unpack(entry)) for name, entry in context.appended],
            memory=self._after(context.memory.key, context.memory.staged),
            tables=tables,
            counters=dict(context.counters.staged),
            state=self.state,
            stepped=step is not None,
            skipped=skipped,
        )

    def _after(self, key: str, staged: Mapping[str, bytes | None]) -> dict[str, dict[str, Any]]:
        fields = {name.decode(): value for name, value in self.hashes.get(key, {}).items()}
        after = {**fields, **staged}
        return {name: codec.unpack(value) for name, value in after.items() if value is not None}

    def _received(self, message: Message) -> Message:
        return _travelled(message, self.component.system.stream(message.room, message.type))

    def _store(self, kept: Mapping[str, bytes]) -> ModelStore:
        """Return a store that needs no server: its model is loaded."""

        def nothing(_: Any) -> None:
            """Answer that no snapshot is stored, if an older version is not in `kept`."""

        def make() -> Trainable:
            return self.component.make_model(self.settings)

        store = ModelStore(self.names, self.component.name, make, nothing)
        for version, content in kept.items():
            trainable = make()
            trainable.load(content)
            store.follower.keep(version, trainable.weights())
        return store

    def _load(self, state: ModelState | None) -> ModelState:
        assert self.store is not None
        follower = self.store.follower
        if state is not None:
            follower.trainable.load(state.content)
        follower.adopt(state.version if state else "0-initial", state.step if state else 0, "0-0")
        return self._now(self.store)

    @staticmethod
    def _now(store: ModelStore) -> ModelState:
        follower = store.follower
        return ModelState(follower.version, follower.step, bytes(follower.trainable.dump()))


def _packed(records: Records) -> dict[bytes, bytes]:
    return {name.encode(): codec.pack(record) for name, record in records.items()}


def _travelled(message: Message, stream: Stream) -> Message:
    """Return the message as it arrives at the other end of a stream."""
    return codec.decode(message.entry, codec.encode(message, stream), stream)


# with a real server


@contextlib.contextmanager
def throwaway_server() -> Iterator[EmbeddedServer]:
    """Run a real server in a temporary directory, deleted with its data after the block."""
    with tempfile.TemporaryDirectory(prefix="roomgrad-") as directory:
        server = EmbeddedServer.start(directory, die_with_parent=True)
        try:
            yield server
        finally:
            restarted = EmbeddedServer.running(directory)  # if a test killed the first one
            for each in filter(None, (restarted, server)):
                each.kill()


def wait_for(
    client: redis.Redis,
    names: Names,
    stream: Stream,
    *,
    root_id: str | None = None,
    after: str = "0-0",
    timeout_s: float = 10.0,
) -> Message:
    """Return the first message of a room and TYPE; it is read by `XREAD BLOCK`.

    stream: as the contract names it, `system.stream(room, type)`.
    root_id: skips messages of other roots.
    after: an entry id (`message.entry`), to wait for the next message after it.

    Raises NoAnswer if none came in time.
    """
    key = names.stream(*stream.key)
    until = time.monotonic() + timeout_s
    while (left := until - time.monotonic()) > 0:
        block_ms = max(1, round(min(left, BLOCK_S) * 1000))
        found: Any = client.xread({key: after}, count=100, block=block_ms)
        for entry, values in found[0][1] if found else ():
            after = entry.decode()
            if root_id is None or values.get(b"ROOT_ID") == root_id.encode():
                fields = [part for pair in values.items() for part in pair]
                return codec.decode(after, fields, stream)
    of_root = f" of root {root_id}" if root_id else ""
    raise NoAnswer(f"no message{of_root} came to {key} within {timeout_s:g} s")


@contextlib.contextmanager
def running(
    component: Component,
    settings: RuntimeSettings,
    url: AnyAddress,
) -> Iterator[Replica]:
    """Run a replica of a component in a thread; it is stopped and drained after the block.

    Raises what ended the replica, if anything did before.
    """
    replica = Replica(component, settings, url)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            replica.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=f"{component.name} {replica.consumer}", daemon=True)
    thread.start()
    try:
        yield replica
    finally:
        replica.stop()
        thread.join(timeout=30.0)
        if errors:
            raise errors[0]
        if thread.is_alive():
            raise TimeoutError(f"{component.name} did not stop within 30 s")
