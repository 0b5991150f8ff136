"""The Redis ACL rules of each component: the least rights that its declaration needs.

A script has only the rights of its caller. A user may therefore run scripts on every key that it
may reach, and one selector per kind of access says what the script may do with each of them. The
rules contain no passwords, so they are safe to publish; `deploy/redis/make-secrets` adds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from roomgrad.names import ERRORS, GATEWAY, LOGGING, Names
from roomgrad.rooms import MessageType, System
from roomgrad.schema import Declaration

# Commands without a key. INFO names the server's version; SCAN returns names of keys, no values.
_CONNECTION = (
    "+hello +auth +ping +quit +reset +select +client|setname +client|setinfo +client|id +info +time"
    " +wait +waitaof +multi +exec +discard +scan +script|load +unsubscribe +sunsubscribe"
    " +cluster|slots +cluster|nodes"
)
_SCRIPTS = "+eval +evalsha +eval_ro +evalsha_ro"
_KEY_INFO = "+type +exists +memory|usage"
_SUBSCRIBE = f"{_KEY_INFO} +xread +xrange +xrevrange +xlen +xpending +xinfo|stream +xinfo|groups"
_READ = (
    f"{_SUBSCRIBE} +xadd +xtrim +xreadgroup +xack +xclaim +xinfo|consumers"
    " +xgroup|create +xgroup|setid +xgroup|delconsumer"
)
_APPEND = f"{_SUBSCRIBE} +xadd +xtrim"
_STORE = f"{_KEY_INFO} +@hash +@sortedset"
_HEARTBEAT = f"{_KEY_INFO} +set +get +del +pexpire"
_SNAPSHOT = f"{_KEY_INFO} +set +get +strlen +pttl +persist +unlink"
_GUEST = f"{_KEY_INFO} +xadd +xtrim +xread +xlen +xrange +xinfo|groups +xinfo|stream +pexpire +del"
_INSPECT = f"{_KEY_INFO} +hget +hmget +hgetall +hkeys +hvals +hlen +hexists +hscan +hstrlen"

StreamKey = tuple[str, str]  # room and TYPE


@dataclass
class Grants:
    """The keys and channels of one user, by kind of access."""

    reads: set[str] = field(default_factory=set)
    """Streams that it reads through a consumer group."""

    subscribes: set[str] = field(default_factory=set)
    """Streams that it reads without a group."""

    appends: set[str] = field(default_factory=set)
    """Streams to which it sends messages."""

    destroys: set[str] = field(default_factory=set)
    """Streams whose consumer groups it may destroy."""

    stores: set[str] = field(default_factory=set)
    """Hashes and sorted sets that it writes."""

    snapshots: set[str] = field(default_factory=set)
    """Pieces of snapshots of its model, and the lease of the replica that writes one."""

    inspects: set[str] = field(default_factory=set)
    """Hashes and heartbeats of other components."""

    guests: set[str] = field(default_factory=set)
    """Its own streams as a guest."""

    heartbeats: set[str] = field(default_factory=set)
    """Its own heartbeats, each with a channel of the same name."""

    publishes: set[str] = field(default_factory=set)
    """Channels on which it publishes."""

    listens: set[str] = field(default_factory=set)
    """Channels to which it subscribes."""

    def __or__(self, other: Grants) -> Grants:
        """Return the union of both."""
        return Grants(
            **{
                each.name: getattr(self, each.name) | getattr(other, each.name)
                for each in fields(self)
            }
        )

    def rules(self) -> str:
        """Return the ACL rules; equal grants give equal text."""
        keys = self.reads | self.subscribes | self.appends | self.stores
        keys |= self.snapshots | self.inspects | self.heartbeats | self.guests
        selectors = [
            _selector(_SCRIPTS, "~", keys),
            _selector(_READ, "~", self.reads),
            _selector(_SUBSCRIBE, "%R~", self.subscribes),
            _selector(_APPEND, "~", self.appends),
            _selector("+xgroup|destroy", "~", self.destroys),
            _selector(_STORE, "~", self.stores),
            _selector(_SNAPSHOT, "~", self.snapshots),
            _selector(_GUEST, "~", self.guests),
            _selector(f"{_INSPECT} +get +mget", "%R~", self.inspects),
            _selector(_HEARTBEAT, "~", self.heartbeats),
            _selector("+publish +spublish", "&", self.publishes | self.heartbeats),
            _selector("+subscribe +ssubscribe", "&", self.listens | self.heartbeats),
        ]
        return " ".join(["resetchannels -@all", _CONNECTION, *filter(None, selectors)])


def _selector(commands: str, mark: str, names: Iterable[str]) -> str:
    """Return one ACL selector, or an empty text without names."""
    patterns = " ".join(mark + _escaped(name) for name in sorted(names))
    return f"({patterns} {commands})" if patterns else ""


def _escaped(name: str) -> str:
    """Escape a name for a pattern in which only `*` is a wildcard."""
    return "".join(f"\\{each}" if each in "[]?\\" else each for each in name)


def of_component(
    system: System, name: str, declared: Declaration, names: Names, tables: Iterable[str] = ()
) -> Grants:
    """Return the grants of a component, whether the contract names it or it only listens.

    tables: those of all components of the run. A component with a model reads them to choose the
        best checkpoint by a metric.
    """
    handled = {(each.room, each.type) for each in declared.handlers}
    inbox = (names.inbox(name), MessageType.LOG_ERROR.value)
    sent = {reply for each in declared.handlers for reply in each.replies} | set(declared.sends)
    grants = Grants(listens={names.channel(room) for room, _ in (*handled, inbox)})
    if declared.everyone:
        grants.subscribes |= {names.stream(*key) for key in (*handled, inbox)}
        grants.stores.add(names.position(name, "") + "*")
        if name in system.components:  # the contract gives it a group for notices, never read
            _grant_group(grants, names, name, inbox)
    else:
        for key in (*handled, inbox):
            _grant_group(grants, names, name, key)
    _grant_sending(grants, names, system, sent)
    grants.appends.add(names.guest("*"))
    grants.publishes.add(names.guest("*"))
    grants.stores |= {names.guests(), names.guest_roots("*")}
    _grant_state(grants, names, name, declared)
    if declared.learns:
        grants.inspects |= {names.table(table) for table in tables} - grants.stores
    return grants


def of_client(
    system: System, sends: Iterable[StreamKey], answers: Iterable[StreamKey], names: Names
) -> Grants:
    """Return the grants of a program that asks a running system and is none of its components."""
    grants = Grants(stores={names.sent()})
    _grant_sending(grants, names, system, sends)
    grants.subscribes |= {names.stream(*key) for key in answers}
    return grants | of_guest(names)


def of_any_client(system: System, names: Names) -> Grants:
    """Return the grants of the user `guest`: of any program that trains or asks through rooms."""
    streams = {each.key for each in system.streams}
    notices = {(names.inbox(each), MessageType.LOG_ERROR.value) for each in system.components}
    return of_guest(names) | Grants(
        appends={names.stream(*key) for key in streams | notices},
        publishes={names.channel(room) for room, _ in streams | notices},
        subscribes={names.stream(ERRORS, MessageType.LOG_ERROR.value)},
        stores={names.sent()},
        inspects={names.run_info(), names.alive("*"), names.here()},
    )


def of_guest(names: Names) -> Grants:
    """Return what a program needs as a guest, beside the rooms that it uses."""
    return Grants(guests={names.guest("*")}, stores={names.guests(), names.guest_roots("*")})


def of_gateway(system: System, names: Names) -> Grants:
    """Return the grants of the gateway, whose clients may use any room and create new ones.

    It may reach every stream of the run, but no model, memory or table of a component.
    """
    everything = names.everything()
    own = of_component(system, GATEWAY, Declaration((), tables=(GATEWAY,)), names)
    done_marks = names.run_info().removesuffix("run") + "done:*"
    return own | Grants(
        reads={everything},
        destroys={everything},
        stores={done_marks},
        publishes={everything},
        listens={everything},
    )


def of_viewer(runs: Iterable[Names]) -> str:
    """Return the rules of a user that reads everything of some runs and writes nothing."""
    patterns = " ".join(f"%R~{pattern}" for pattern in sorted(each.everything() for each in runs))
    reads = "+@read -@dangerous +eval_ro +evalsha_ro"  # KEYS is dangerous: it blocks the server
    return f"resetchannels -@all {reads} {_CONNECTION} {patterns}"


def of_operator() -> str:
    """Return the rules of the user of redis-cli and roomgrad."""
    return "allchannels allkeys +@all"


def _grant_group(grants: Grants, names: Names, group: str, key: StreamKey) -> None:
    grants.reads.add(names.stream(*key))
    grants.stores.add(names.done(group, *key))
    grants.publishes.add(names.channel(key[0]))  # for messages published by hand, which it ingests


def _grant_sending(grants: Grants, names: Names, system: System, sent: Iterable[StreamKey]) -> None:
    notices = [(names.inbox(each), MessageType.LOG_ERROR.value) for each in system.components]
    logs = [(ERRORS, MessageType.LOG_ERROR.value), (LOGGING, MessageType.LOG_KPI.value)]
    streams = {*sent, *notices, *logs}
    grants.appends |= {names.stream(*key) for key in streams} | {names.dead()}
    grants.publishes |= {names.channel(room) for room, _ in streams}
    grants.inspects.add(names.here())  # a commit asks for it on a cluster


def _grant_state(grants: Grants, names: Names, name: str, declared: Declaration) -> None:
    grants.heartbeats.add(names.alive(f"{name}~*"))
    grants.inspects.add(names.alive("*"))
    grants.stores |= {names.run_info(), names.taken(), names.sent()}
    grants.stores |= {names.memory(name), names.counters(name), names.ended(name)}
    grants.stores |= {names.later(name), names.later_bodies(name)}
    if declared.learns:
        grants.stores |= {names.model(name), names.kept(name), names.ledger(name)}
        grants.appends.add(names.steps(name))
        grants.snapshots |= {names.snapshot_piece(name, "*", "*"), names.snapshot_lease(name)}
    else:
        grants.inspects.add(names.model(name))  # for its metrics, although it has no model
    grants.stores |= {names.table(table) for table in declared.tables}
    grants.appends |= {names.log(table) for table in declared.logs}
    grants.inspects |= {names.table(table) for table in declared.reads}
    grants.subscribes |= {names.log(table) for table in declared.reads}
