"""One replica of a component: receive, decode, dispatch, handle, commit, and again.

The loop holds one message at a time. Its commit and the next blocking read leave in one send, and
behind the read waits a look at the model's version, so that it is read after the message.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections import deque
from itertools import islice

import structlog
from redis.exceptions import RedisError

from roomgrad import codec
from roomgrad.commit import Commit
from roomgrad.component import Component
from roomgrad.errors import MessageError, NoServer, RoomgradError, TLSError
from roomgrad.memory import Cache, CachedReads
from roomgrad.messages import Message, new_id
from roomgrad.names import Names
from roomgrad.redis.addresses import for_run, located, resolver_of
from roomgrad.redis.connection import GRACE_S, Command, Connection, ConnectionLost, ReplyError
from roomgrad.redis.server import connect
from roomgrad.runtime.committer import Committer
from roomgrad.runtime.connections import Connections
from roomgrad.runtime.consumers import Delivery, EveryoneConsumer, GroupConsumer, deliveries
from roomgrad.runtime.dead_letters import Quota, dead_letter, inbox_stream
from roomgrad.runtime.failover import FailoverWatch
from roomgrad.runtime.history import History
from roomgrad.runtime.housekeeping import Housekeeping
from roomgrad.runtime.model_store import ModelStore
from roomgrad.runtime.notifications import Notifications
from roomgrad.runtime.observe.observers import observers
from roomgrad.runtime.observe.outcome import COMMITTED, DEAD, GONE, RETRIED, SKIPPED, Outcome
from roomgrad.runtime.redelivery import Redelivery
from roomgrad.runtime.scheduler import Scheduler
from roomgrad.runtime.setup import Setup
from roomgrad.runtime.shutdown import ShutdownEvent
from roomgrad.runtime.status import Status
from roomgrad.runtime.work import Attempt, Work
from roomgrad.settings import RuntimeSettings, of_run

log = structlog.get_logger("roomgrad")

RECONNECT_S = (0.05, 0.25)  # first and longest pause between two attempts to connect


class EmptiedServer(RoomgradError):
    """Raised when the run's groups or model are not there any more; the run starts again."""


LOST = (OSError, ReplyError, RedisError, NoServer, EmptiedServer)


class Replica:
    """The loop of one process. `run` returns the exit code; `stop` ends it after this message."""

    def __init__(self, component: Component, settings: RuntimeSettings, url: str) -> None:
        self.component = component
        self.settings = settings
        self.names = Names(settings.run or component.system.name)
        self.consumer = f"{component.name}~{socket.gethostname()}~{os.getpid()}~{new_id()[:8]}"
        self.pulse = Status()
        self._url = for_run(url, self.names.run)
        self._wires: list[Connection] = []
        self._stopping = ShutdownEvent()
        self._line = Connections(self._open_wire)
        self._cache = Cache()
        self._reads = CachedReads(self._line, self._cache)
        self._store = self._make_store()
        self._work = Work(component, self.names, settings, self._store)
        self._setup = Setup(component, self.names, self._work, of_run(settings))
        self._inbox = inbox_stream(self.names, component.name)
        self._source = self._make_source()
        self._claims = (
            Redelivery(self._source, self._line, self.pulse, settings)
            if isinstance(self._source, GroupConsumer)
            else None
        )
        self._later = Scheduler(self.names, component)
        self._shelf = Quota(self.names, settings.dead_mib, self._line.call)
        self._committer = Committer(
            self._line, self._source, self._work, self._cache, self._stopping, self._later
        )
        self._keeper: Housekeeping | None = None
        self._observers = observers(component, settings, self.names, self.consumer, self._url)
        self._queue: deque[Delivery] = deque()
        self._version: bytes | None = None
        self._missed = 0
        self._pause_s, self._lost_at = RECONNECT_S[0], 0.0
        self._served = False

    def _make_store(self) -> ModelStore | None:
        if self.component.model is None:
            return None
        trainable = self.component.model(self.settings)
        return ModelStore(self.names, self.component.name, trainable, self._line.call)

    def _make_source(self) -> GroupConsumer | EveryoneConsumer:
        component, replica = self.component, self.settings.replica
        if component.everyone:
            return EveryoneConsumer(self.names, component.name, replica, component.streams)
        streams = (*component.streams, self._inbox)
        return GroupConsumer(self.names, component.name, self.consumer, streams)

    def _open_wire(self, purpose: str) -> Connection:
        wire = Connection(
            self._url, self.settings.redis_password_file, f"{self.consumer}~{purpose}"
        )
        self._wires.append(wire)
        return wire

    # the life of a replica

    def stop(self) -> None:
        """Asks the loop to commit what it has in hand and to end."""
        self._stopping.set()

    def give_up(self) -> None:
        """Hands back what the loop has in hand, for a process that ends without it.

        Raises OSError where the server cannot be reached: then the lease has to end by itself.
        """
        if self._keeper is not None:
            wire = self._open_wire("end")
            wire.connect()
            self._keeper.leave(wire)

    def run(self) -> int:
        """Serves until `stop`, through outages of any length.

        Raises Untrusted when the server that it finds first cannot be trusted.
        """
        resolver = resolver_of(self._url, self.settings.redis_password_file)
        lookout = FailoverWatch(resolver, self._wires) if resolver else None
        if lookout is not None:
            lookout.start()
        keeper = self._keeper = self._make_keeper()
        try:
            self._serve_until_stopped(keeper)
        finally:
            if lookout is not None:
                lookout.stop()
            keeper.stop()
            self._line.close()
            self._observers.close()
        log.info("stopped", component=self.component.name)
        return 0

    def _serve_until_stopped(self, keeper: Housekeeping) -> None:
        while not self._stopping.is_set():
            try:
                self._connect()
                self._served = True
                keeper.start()
                self._serve()
            except LOST as error:
                if isinstance(error, TLSError) and not self._served:
                    raise
                self._abandon()
                if not self._lost_at:
                    self._lost_at = time.time()
                    log.warning("lost the server, trying again", reason=str(error))
                self._stopping.wait(self._pause_s)
                self._pause_s = min(self._pause_s * 2, RECONNECT_S[1])

    def _found_again(self) -> None:
        """It serves: to connect was not enough, it may not let this replica read."""
        log.info("the server answers again", after_s=round(time.time() - self._lost_at, 2))
        self._pause_s, self._lost_at = RECONNECT_S[0], 0.0

    def _make_rings(self) -> Notifications:
        system, rooms = self.component.system, {s.room.name for s in self.component.streams}
        return Notifications(self.names, system, sorted(rooms), self.component.name, self.consumer)

    def _make_keeper(self) -> Housekeeping:
        return Housekeeping(
            self.names,
            self.settings,
            self.component.name,
            self.consumer,
            self.pulse,
            self._source if isinstance(self._source, GroupConsumer) else None,
            self._make_rings(),
            self._open_wire,
            History(self.names, self.component, self.settings),
            self._later,
        )

    def _connect(self) -> None:
        self._line.connect()
        where = located(self._url, self._line.at, self.settings.redis_password_file)
        with connect(where, self.settings.redis_password_file, GRACE_S) as client:
            self.pulse.token = self.pulse.token_seen = self._setup.prepare(client)
            if isinstance(self._source, EveryoneConsumer):
                self._missed = self._setup.find_positions(self._source, client)
        if self._store is not None:
            self._committer.aside(self._store.create())
        start = self._setup.start(self._line)
        if start is not None and self._committer.aside(start[0]):
            self._observers.sent(start[1].messages)
        if self._claims is not None:
            self._take(self._claims.own())

    def _abandon(self) -> None:
        """Forgets what was in hand: the server gives it again to whoever reads."""
        self._line.close()
        self._queue.clear()
        self._cache.clear()
        self._committer.clear()
        if self._claims is not None:
            self._claims.clear()

    # the loop

    def _serve(self) -> None:
        while self._line.reading or self._queue or not self._stopping.is_set():
            self.pulse.turn = time.time()
            if self.pulse.token_seen != self.pulse.token:
                raise EmptiedServer("the server was emptied: the run starts again")
            delivery = self._next()
            if self._lost_at:
                self._found_again()
            if delivery is None:
                self._committer.flush()
            else:
                self._handle(delivery)
        self._committer.flush()

    def _next(self) -> Delivery | None:
        if not self._queue and not self._line.reading:
            if self._claims is not None:
                self._take(list(islice(self._claims.take(), 1)))
            if not self._queue:
                self._line.read(self._read_commands())
        if not self._queue:
            self._receive()
        return self._queue.popleft() if self._queue else None

    def _take(self, found: list[Delivery]) -> None:
        self._queue.extend(found)
        if found and self._store is not None:  # read after the message, as ever
            self._version = self._line.call(self._store.version_command())

    def _read_commands(self) -> list[Command]:
        due_s = self._claims.due_in() if self._claims else None
        block_s = self.settings.block_s if due_s is None else min(due_s, self.settings.block_s)
        commands: list[Command] = [self._source.read_command(max(1, round(block_s * 1000)))]
        if self._store is not None:
            commands.append(self._store.version_command())
        return commands

    def _receive(self) -> None:
        count = 1 if self._store is None else 2
        reply, *versions = self._line.answers(count, self.settings.block_s)
        for answer in (reply, *versions):
            if isinstance(answer, ReplyError):
                if str(answer).startswith("NOGROUP"):
                    raise EmptiedServer(f"a group is not there any more: {answer}")
                raise answer
        if versions:
            self._version = versions[0]
        self._queue.extend(deliveries(reply, self._source.by_key))

    def _then_read(self) -> list[Command]:
        """The next read, to leave with a commit, unless there is something to do before it."""
        if self._queue or self._line.reading or self._stopping.is_set():
            return []
        if self._claims is not None and self._claims.due_in() == 0.0:
            return []
        return self._read_commands()

    # one message

    def _handle(self, delivery: Delivery) -> None:
        self._source.pass_by(delivery)
        self.pulse.handling = time.time()
        done = Outcome(delivery)
        try:
            if delivery.count > self.settings.max_deliveries:
                raise MessageError(f"delivered {delivery.count - 1} times and never committed")
            self._handle_one(delivery, done)
        except (ConnectionLost, ReplyError, EmptiedServer):
            raise
        except MessageError as error:
            done.outcome, done.reason = DEAD, str(error)
            self._bury(delivery, str(error), gives_up_root=error.ends_root)
        except BaseException as error:  # a stop is a flag: sys.exit and the like are the handler's
            done.outcome, done.reason = self._failed(delivery, error)
        finally:
            self.pulse.handling = None
        self._observers.handled(done)

    def _handle_one(self, delivery: Delivery, done: Outcome) -> None:
        message = done.message = codec.decode(delivery.entry, delivery.fields, delivery.stream)
        attempt = self._attempt(message)
        if attempt is None:
            done.outcome = SKIPPED
            self._committer.skip(delivery)
            return

        def again(before: Attempt, only_model: bool) -> Attempt:
            return self._again(message, before, only_model)

        done.attempt = self._committer.commit(delivery, attempt, again, self._then_read())
        done.outcome = COMMITTED if done.attempt else GONE
        if done.attempt:
            self.pulse.commits += 1
            self.pulse.handled_bytes += sum(map(len, delivery.fields))
            self.pulse.version = self._store.loaded_version if self._store else ""

    def _attempt(self, message: Message) -> Attempt | None:
        hits = self._cache.hits
        while True:
            try:
                return self._run(message)
            except MessageError:
                if self._cache.hits == hits:
                    raise
                self._cache.clear()  # what the handler objects to may be out of date
                hits = self._cache.hits
            except ReplyError as error:  # of a read
                self._committer.wait_out(error)

    def _run(self, message: Message) -> Attempt | None:
        if message.room == self._inbox.room.name:
            return self._work.give_up_root(message, self._reads)
        handlers = self._work.handlers(message)
        if not handlers:
            return None
        self._work.open_roots = self.pulse.open_roots
        attempt = self._work.run(handlers, message, self._reads, self._version, self._missed)
        self._missed = 0
        return attempt

    def _again(self, message: Message, attempt: Attempt, only_model: bool) -> Attempt:
        """Something that was read has changed: run again on fresh state.

        Where only the model moved on, its finished parameter gradient is applied to the new
        weights; it is not computed again.
        """
        if self._store is not None:
            self._version = self._line.call(self._store.version_command())
            if only_model and attempt.steps:
                return self._work.step_again(attempt, self._version)
        return self._attempt(message) or attempt

    def _failed(self, delivery: Delivery, error: BaseException) -> tuple[str, str]:
        """The handler raised: try again later, or give up after the limit. The outcome, and why."""
        line = traceback.format_exception_only(error)[-1].strip()  # also where str() of it fails
        reason = line.removeprefix(f"{type(error).__module__}.")
        log.error("handler failed", exc_info=error, entry=delivery.entry, times=delivery.count)
        if self._claims is None or delivery.count >= self.settings.max_deliveries:
            self._bury(delivery, reason, gives_up_root=True)
            return DEAD, reason
        pause = self._claims.retry_later(delivery)
        log.info("handler is tried again", entry=delivery.entry, in_s=pause)
        return RETRIED, reason

    def _bury(self, delivery: Delivery, reason: str, *, gives_up_root: bool) -> None:
        log.warning("dead letter", entry=delivery.entry, reason=reason)
        if self._claims is None or delivery.stream == self._inbox:
            # Who only looks on must not end what others work on; and a notice that cannot be
            # handled must not bring about the next one.
            gives_up_root = False
        commit = Commit()
        self._source.guard(commit, delivery)
        dead_letter(
            commit,
            self.names,
            delivery,
            reason,
            group=self.component.name,
            members=self.component.system.components if gives_up_root else (),
            whole=self._shelf.takes(delivery),
            by=self.consumer,
        )
        self._committer.aside(commit)
        self._source.committed(delivery)
