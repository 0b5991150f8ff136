"""The loop of a replica: receive, decode and handle one message at a time, and commit each.

A commit and the next blocking read leave in one send, so that a message costs one round trip. Of
messages that wait some are read at once. Each has its own commit, which leaves as soon as its
handlers have returned; the answers are read behind the last of them, so that they cost about one
round trip together.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

import redis
import structlog

from roomgrad import codec
from roomgrad.commit import Commit
from roomgrad.errors import (
    ConnectionLost,
    EmptiedServer,
    MessageError,
    ModelError,
    SnapshotError,
    Stale,
)
from roomgrad.memory import Cache, CachedReads
from roomgrad.redis import heartbeats, registry, roots
from roomgrad.redis.connection import Reply, ReplyError
from roomgrad.runtime import handling_times
from roomgrad.runtime.committer import FULL, GONE, OK, Committed, Committer
from roomgrad.runtime.connections import Connections
from roomgrad.runtime.consumers import Delivery, EveryoneConsumer
from roomgrad.runtime.dead_letters import Quota, Verdict, dead_letter
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.joins import TIMER
from roomgrad.runtime.model.snapshotter import Snapshotter
from roomgrad.runtime.model.standby import Standby
from roomgrad.runtime.model.store import ModelStore, Step
from roomgrad.runtime.observe import outcome as outcomes
from roomgrad.runtime.observe.observers import Observers
from roomgrad.runtime.observe.outcome import Outcome
from roomgrad.runtime.read_count import GROUP_S
from roomgrad.runtime.receiver import Receiver
from roomgrad.runtime.scheduler import Scheduler
from roomgrad.runtime.setup import Setup
from roomgrad.runtime.shutdown import ShutdownEvent
from roomgrad.runtime.status import Status
from roomgrad.runtime.work import Attempt, Work

log = structlog.get_logger("roomgrad")

MOST_TORN_READS = 3  # of one message, before it is tried again later
MANY_SKIPPED = 100  # skipped entries that are acknowledged without waiting for a commit


@dataclass(slots=True)
class Handling:
    """One message on its way to an end."""

    delivery: Delivery
    outcome: Outcome
    attempt: Attempt | None = None
    commit: Commit = field(default_factory=Commit)
    step: Step | None = None
    skipped: list[Delivery] = field(default_factory=list)
    """Earlier messages without a handler, which the commit acknowledges, too."""


class Loop:
    """Handles the messages of one replica until it is told to stop."""

    def __init__(
        self,
        identity: Identity,
        status: Status,
        shutdown: ShutdownEvent,
        connections: Connections,
        scheduler: Scheduler,
        observers: Observers,
        snapshotter: Snapshotter | None = None,
    ) -> None:
        self._identity = identity
        self._status = status
        self._shutdown = shutdown
        self._connections = connections
        self._observers = observers
        self._cache = Cache()
        self._reads = CachedReads(connections, self._cache)
        standby = Standby(identity, status, connections.call)
        self._store = ModelStore.of(identity, connections.call, snapshotter, standby)
        self._work = Work(identity.component, identity.names, identity.settings, self._store)
        self._setup = Setup(identity, self._work)
        self._receiver = Receiver(identity, status, shutdown, connections, self._store)
        self._committer = Committer(connections, shutdown, scheduler, status)
        self._quota = Quota(identity.names, identity.settings.dead_mib, connections.call)
        self._inbox = roots.inbox_stream(identity.names, identity.component.name)
        self._skipped: list[Delivery] = []
        self._sent: list[Handling] = []  # whose commits were sent and are not answered yet
        self.consumer = self._receiver.consumer

    def prepare(self, client: redis.Redis) -> None:
        """Make sure that the run, its groups, the model and the first messages exist."""
        self._status.token = self._status.token_seen = self._setup.prepare(client)
        if isinstance(self.consumer, EveryoneConsumer):
            self._work.missed = self._setup.find_positions(self.consumer, client)
        if self._store is not None:
            first = self._store.prepare(self._status.token, lambda: self._hosts(client))
            if first is not None:
                self._committer.commit(first)
        start = self._setup.start(self._connections)
        if start is not None and self._committer.commit(start[0]).outcome == OK:
            self._observers.sent(start[1].messages)
        self._receiver.recover()

    def _hosts(self, client: redis.Redis) -> set[str]:
        """Return the hosts on which replicas of this component live."""
        names, component = self._identity.names, self._identity.component.name
        return {each.host for each in heartbeats.find(client, names, component)}

    def abandon(self) -> None:
        """Forget what is unfinished after the connection was lost; it is delivered again."""
        self._connections.close()
        self._receiver.clear()
        self._cache.clear()
        self._skipped.clear()
        self._sent.clear()
        self._status.failing.clear()

    @property
    def ended(self) -> bool:
        """Whether the replica is to stop and no read is outstanding.

        What it has received and not begun is given back.
        """
        return self._shutdown.is_set() and not self._connections.reading

    def receive(self) -> Delivery | None:
        """Return the next message, or None if none came within the block time."""
        self._status.turn = time.monotonic()
        if self._status.token_seen != self._status.token:
            raise EmptiedServer("the server was emptied: the run starts again")
        delivery = self._receiver.next()
        if delivery is None:
            self._observers.idle()
        return delivery

    def handle(self, delivery: Delivery) -> None:
        """Handle one message, and send its commit; bring it to its end if no other one waits.

        Otherwise the answer to its commit is read after the next messages. Raises ConnectionLost,
        EmptiedServer or ReplyError if the server cannot be used, and ModelError if the model
        cannot: the message is left to a replica that has the right one.
        """
        self.consumer.advance(delivery)
        handling = Handling(delivery, Outcome(delivery))
        self._proceed(handling, None)
        seconds = (time.monotonic_ns() - handling.outcome.began_ns) / 1e9
        self._receiver.read_count.note(seconds, sum(map(len, delivery.fields)))
        if not self._goes_on(handling):
            self._settle()

    def _goes_on(self, last: Handling) -> bool:
        """Return whether the next message may be handled before the commits are answered.

        Not after a step, which is applied when its commit is; nor on a replica with a position of
        its own, which each commit requires and moves.
        """
        if not self._receiver.waiting or self._receiver.redelivery is None:
            return False
        if last.attempt is not None and last.attempt.changes_model:
            return False
        return not self._sent or _age_s(self._sent[0]) < GROUP_S

    def _settle(self) -> None:
        """Read the answers to the commits that were sent, and bring each message to its end.

        What was not applied is handled again alone, after all that was: it would follow the log to
        a step that this replica has not noted as its own, and apply it twice.
        """
        answered = [(each, self._connections.answer()) for each in self._sent]
        self._sent.clear()
        for handling, reply in sorted(answered, key=lambda pair: not _is_applied(pair[1])):
            self._proceed(handling, reply)

    def _proceed(self, handling: Handling, reply: Reply) -> None:
        """Bring a message to its commit or, with the reply to that, to its end."""
        delivery, outcome = handling.delivery, handling.outcome
        try:
            if reply is not None:
                self._finish(handling, reply)
            elif delivery.count > self._identity.settings.max_deliveries:
                raise MessageError(f"delivered {delivery.count - 1} times and never committed")
            else:
                self._begin(handling)
        except (ConnectionLost, ReplyError, EmptiedServer, ModelError, SnapshotError):
            raise
        except MessageError as error:
            self._withdraw(handling)
            self._give_up(handling, str(error), with_root=error.ends_root)
        except BaseException as error:  # SIGTERM sets a flag, so that SystemExit is the handler's
            self._withdraw(handling)
            self._retry_later(handling, error)
        finally:
            self._status.handling = None
        if outcome.outcome != outcomes.RETRIED:
            self._status.failing.pop(delivery.entry, None)
        if outcome.outcome:
            self._observers.handled(outcome)

    def _begin(self, handling: Handling) -> None:
        """Run the handlers of a message, and send the commit of what they want."""
        if (attempt := self._attempt(handling)) is not None:
            self._stage(handling)
            self._connections.send(handling.commit, self._receiver.next_read())
            self._sent.append(handling)
            # the next messages read what it writes; if it fails, so do the guards of those reads
            attempt.context.remember(self._cache)

    def _finish(self, handling: Handling, reply: Reply | None) -> None:
        """Note what became of a commit. If it is stale, run the handlers again on fresh state.

        If only the model has moved on, the finished parameter gradient is applied to the new
        weights and not computed again.

        reply: the answer to the commit; None to run the handlers again anyway.
        """
        committed = self._committer.decide(handling.commit, reply) if reply is not None else None
        while committed is None or not self._is_settled(handling, committed):
            if handling.attempt is None and self._attempt(handling) is None:
                return
            self._stage(handling)
            committed = self._committer.commit(handling.commit, self._receiver.next_read())

    def _attempt(self, handling: Handling) -> Attempt | None:
        """Run the handlers of a message; return None if none wants it."""
        delivery, outcome, torn = handling.delivery, handling.outcome, 0
        while True:  # handlers may have changed the arrays of the message before
            message = codec.decode(delivery.entry, delivery.fields, delivery.stream)
            outcome.message, hits = message, self._cache.hits
            self._work.open_roots = self._status.open_roots
            self._status.handling = time.monotonic()
            try:
                handling.attempt = self._work.attempt(message, self._reads, self._receiver.version)
                break
            except MessageError:
                if self._cache.hits == hits:
                    raise
                self._cache.clear()  # the handler may object to a value that is out of date
            except Stale:  # another replica has changed one value after another was read
                if (torn := torn + 1) > MOST_TORN_READS:
                    raise
                self._cache.clear()
            except ReplyError as error:  # the server refuses a read
                self._committer.wait(error)
        if handling.attempt is None:
            self._skip(delivery, outcome)
        return handling.attempt

    def _stage(self, handling: Handling) -> None:
        """Write into a new commit what the handlers of a message want."""
        delivery, attempt = handling.delivery, handling.attempt
        assert attempt is not None
        commit = handling.commit = Commit()
        self.consumer.guard(commit, delivery)
        if attempt.opens_root and self._receiver.redelivery is not None:
            commit.memory()
        handling.skipped, self._skipped = self._skipped, []
        for skipped in handling.skipped:
            self.consumer.mark(commit, skipped)
        handling.step = self._work.stage(attempt, commit)
        if attempt.began_ns and commit.sends and self._identity.settings.trace_times:
            since = self._status.clock.unix_ns(0)
            moments = (delivery.at_ns, attempt.began_ns, attempt.ended_ns, time.monotonic_ns())
            commit.times = handling_times.format_times(
                delivery.entry, *(since + moment for moment in moments)
            )

    def _is_settled(self, handling: Handling, committed: Committed) -> bool:
        """Note what became of a commit; return False if the message is to be committed again."""
        attempt, commit, outcome = handling.attempt, handling.commit, handling.outcome
        assert attempt is not None
        result, guard, entries = committed
        if result == OK:
            self._note(handling, entries)
            return True
        self._withdraw(handling)
        if result == GONE:
            outcome.outcome = outcomes.GONE
        elif result == FULL:
            self._hold(handling.delivery)
        elif self._is_of_guest(commit, guard):
            attempt.guest_left = self._members()
            return False
        elif _kind(commit, guard) == b"ONCE" and outcome.message is not None:
            ended = commit.guards[guard - 1][2].decode()
            handling.attempt = self._work.late(outcome.message, self._reads, ended)
            return False
        elif self.consumer.superseded(guard):
            raise ConnectionLost("another replica of the same name has read on")
        else:
            self._receiver.refresh_version()
            is_of_model = attempt.steps and guard == len(commit.guards)  # the last one is
            handling.attempt = (
                self._work.step_again(attempt, self._receiver.version) if is_of_model else None
            )
            return False
        return True

    def _note(self, handling: Handling, entries: Sequence[bytes]) -> None:
        """Note that a message was committed, and which entries its commit has added."""
        delivery, attempt, step = handling.delivery, handling.attempt, handling.step
        self.consumer.committed(delivery)
        self._status.commits += 1
        self._status.handled_bytes += sum(map(len, delivery.fields))
        self._work.committed(step, entries[-1].decode() if step else "")
        self._status.version = self._store.loaded_version if self._store else ""
        handling.outcome.outcome, handling.outcome.attempt = outcomes.COMMITTED, attempt

    def _withdraw(self, handling: Handling) -> None:
        """Take back what a commit that was not applied would have done besides."""
        self._cache.clear()
        self._skipped += handling.skipped
        handling.skipped = []

    def _hold(self, delivery: Delivery) -> None:
        """Put a message aside that opens a root, until the server's memory has room for it."""
        assert self._receiver.redelivery is not None
        self._receiver.redelivery.hold(delivery)

    def idle(self) -> None:
        """Do what is to be done while no message comes."""
        self.acknowledge_skipped()
        if self._store is not None:
            self._store.catch_up(self._receiver.version)
            self._status.version = self._store.loaded_version

    def finish(self) -> None:
        """Do what is to be done after the last message, while the server is still there."""
        self._settle()
        self.acknowledge_skipped()
        if self._store is not None:
            self._store.stop()

    # messages that no handler wants

    def _skip(self, delivery: Delivery, outcome: Outcome) -> None:
        """Leave a message that no handler wants to be acknowledged with the next commit."""
        outcome.outcome = outcomes.SKIPPED
        self._skipped.append(delivery)
        if len(self._skipped) >= MANY_SKIPPED:
            self.acknowledge_skipped()

    def acknowledge_skipped(self) -> None:
        """Acknowledge skipped messages now, if no commit is about to do it."""
        if self._skipped:
            commit = Commit()
            skipped, self._skipped = self._skipped, []
            for each in skipped:
                self.consumer.mark(commit, each)
            self._committer.commit(commit)

    # messages that cannot be handled

    def _retry_later(self, handling: Handling, error: BaseException) -> None:
        """Try a message again later after its handler raised; give it up at the delivery limit."""
        delivery, outcome = handling.delivery, handling.outcome
        line = traceback.format_exception_only(error)[-1].strip()  # also if str(error) raises
        reason = line.removeprefix(f"{type(error).__module__}.")
        log.error("handler failed", exc_info=error, entry=delivery.entry, times=delivery.count)
        redelivery = self._receiver.redelivery
        if redelivery is None or delivery.count >= self._identity.settings.max_deliveries:
            self._give_up(handling, reason, with_root=True)
            return
        pause_s = redelivery.retry_later(delivery)
        log.info("the handler is tried again", entry=delivery.entry, in_s=pause_s)
        self._status.failing[delivery.entry] = reason
        outcome.outcome, outcome.reason = outcomes.RETRIED, reason

    def _give_up(self, handling: Handling, reason: str, *, with_root: bool) -> None:
        """Make a dead letter of a message, and give its root up with it.

        The root goes on if the message came to an `everyone` replica, which only observes the work
        of others, or is itself the notice of a root that was given up. If it was given up
        meanwhile, the message is late; if it was joined, the message is handled again.

        with_root: whether the message ends its root. A stray reply does not, and is no dead letter
            if it is stray because the guest has given the root up.
        """
        delivery, outcome = handling.delivery, handling.outcome
        component = self._identity.component
        is_timer = outcome.message is not None and TIMER in outcome.message.fields
        is_notice = delivery.stream == self._inbox and not is_timer
        is_stray = not with_root
        with_root = with_root and not component.everyone and not is_notice
        names, guest, message = self._identity.names, delivery.guest(), outcome.message
        commit = Commit()
        self.consumer.guard(commit, delivery)
        if guest is not None and message is not None and is_stray:
            roots.require_open(commit, names, guest, message)
        elif guest is not None:
            commit.stored(names.guest(guest.name))
        ends = self._work.ends_of(message, with_root=with_root) if message is not None else []
        for what in ends:
            commit.never(names.ended(component.name), what)
        now = self._status.clock.time()
        dead_letter(
            commit,
            names,
            delivery,
            Verdict(reason, component.name, self._identity.consumer, now),
            members=self._members() if with_root else (),
            whole=self._quota.fits(delivery),
            guest=guest if with_root else None,
        )
        result = self._committer.commit(commit)
        if self._is_of_guest(commit, result.guard):
            self._end_root_of_guest(delivery, outcome)
        elif _kind(commit, result.guard) == b"ONCE":
            ended = commit.guards[result.guard - 1][2].decode()
            if message is None or ends == [ended]:
                self._skip(delivery, outcome)
                return
            late = ended == message.root_id  # of a join: what waits is forgotten, its sender told
            handling.attempt = self._work.late(message, self._reads, ended) if late else None
            self._finish(handling, None)
        elif result.outcome == OK:
            log.warning("dead letter", entry=delivery.entry, reason=reason)
            self.consumer.committed(delivery)
            outcome.outcome, outcome.reason = outcomes.DEAD, reason
        else:  # another replica was faster, so that this one met what that has written
            outcome.outcome = outcomes.GONE

    def _members(self) -> tuple[str, ...]:
        """Return the components that may remember a root."""
        info = self._identity.names.run_info().encode()
        fields = self._connections.call([b"HKEYS", info])
        return registry.members(self._identity.component.system, fields)

    def _is_of_guest(self, commit: Commit, guard: int) -> bool:
        """Return whether a guard, counted from 1, requires that a guest waits. 0 is none."""
        return commit.guarded(guard).startswith(self._identity.names.guest(""))

    def _end_root_of_guest(self, delivery: Delivery, outcome: Outcome) -> None:
        """Give up the root of a guest that is gone: no program would look for a dead letter."""
        names, name = self._identity.names, self._identity.component.name
        commit = Commit()
        self.consumer.guard(commit, delivery)
        roots.end_of_guest(commit, names, self._members(), name, delivery.root_id())
        self._committer.commit(commit)
        self.consumer.committed(delivery)
        outcome.outcome = outcomes.SKIPPED


def _kind(commit: Commit, guard: int) -> bytes:
    """Return what a guard, counted from 1, requires; an empty text for none."""
    return commit.guards[guard - 1][0] if guard else b""


def _is_applied(reply: Reply) -> bool:
    return isinstance(reply, list) and reply[0] == b"ok"


def _age_s(handling: Handling) -> float:
    """Return the seconds since a message was received by the loop."""
    return (time.monotonic_ns() - handling.outcome.began_ns) / 1e9
