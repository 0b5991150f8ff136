"""What each component may do on the server, as a Redis ACL: the least that its declaration needs.

A script has no rights beyond its caller's, so a user may run scripts on all keys that it knows, and
what a script may do with each of them is said key by key: read these streams, add to those. A rule
without passwords stands in no danger of being published; see `deploy/redis/make-secrets`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from roomgrad.names import ERRORS, GATEWAY, LOGGING, Names
from roomgrad.rooms import MessageType, System
from roomgrad.schema import Declaration

# Without a key. INFO says which server it is; SCAN tells names of keys, never what is in them.
_CONNECTED = (
    "+hello +auth +ping +quit +reset +select +client|setname +client|setinfo +client|id +info +time"
    " +wait +waitaof +multi +exec +discard +scan +script|load +unsubscribe +sunsubscribe"
    " +cluster|slots +cluster|nodes"
)
_SCRIPTS = "+eval +evalsha +eval_ro +evalsha_ro"
_ABOUT = "+type +exists +memory|usage"
_READS_STREAM = f"{_ABOUT} +xread +xrange +xrevrange +xlen +xpending +xinfo|stream +xinfo|groups"
_TAKES = (
    f"{_READS_STREAM} +xadd +xtrim +xreadgroup +xack +xclaim +xinfo|consumers"
    " +xgroup|create +xgroup|setid +xgroup|delconsumer"
)
_ADDS = f"{_READS_STREAM} +xadd +xtrim"
_KEEPS = f"{_ABOUT} +@hash +@sortedset"
_BEATS = f"{_ABOUT} +set +get +del +pexpire"
_LOOKS = f"{_ABOUT} +hget +hmget +hgetall +hkeys +hvals +hlen +hexists +hscan +hstrlen"

StreamKey = tuple[str, str]  # room and TYPE


@dataclass
class Grants:
    """The keys and channels of one user, by what it does with them."""

    takes: set[str] = field(default_factory=set)
    """Streams whose messages it handles."""

    hears: set[str] = field(default_factory=set)
    """Streams that it only looks at."""

    adds: set[str] = field(default_factory=set)
    """Streams into which it sends."""

    ends: set[str] = field(default_factory=set)
    """Streams whose groups it may end."""

    keeps: set[str] = field(default_factory=set)
    """Hashes and sorted sets that it writes."""

    looks: set[str] = field(default_factory=set)
    """Hashes of others, and their heartbeats."""

    beats: set[str] = field(default_factory=set)
    """Its heartbeats, each with a channel of the same name."""

    rings: set[str] = field(default_factory=set)
    """Channels on which it publishes."""

    listens: set[str] = field(default_factory=set)
    """Channels to which it subscribes."""

    def __or__(self, other: Grants) -> Grants:
        """Both."""
        pairs = {
            each.name: (getattr(self, each.name), getattr(other, each.name))
            for each in fields(self)
        }
        return Grants(**{name: mine | its for name, (mine, its) in pairs.items()})

    def rules(self) -> str:
        """The rules of an ACL, the same text for the same grants."""
        known = self.takes | self.hears | self.adds | self.keeps | self.looks | self.beats
        selectors = [
            _selector(_SCRIPTS, "~", known),
            _selector(_TAKES, "~", self.takes),
            _selector(_READS_STREAM, "%R~", self.hears),
            _selector(_ADDS, "~", self.adds),
            _selector("+xgroup|destroy", "~", self.ends),
            _selector(_KEEPS, "~", self.keeps),
            _selector(f"{_LOOKS} +get +mget", "%R~", self.looks),
            _selector(_BEATS, "~", self.beats),
            _selector("+publish +spublish", "&", self.rings | self.beats),
            _selector("+subscribe +ssubscribe", "&", self.listens | self.beats),
        ]
        return " ".join(["resetchannels -@all", _CONNECTED, *filter(None, selectors)])


def _selector(commands: str, mark: str, names: Iterable[str]) -> str:
    """One set of rules that apply together; nothing where there is no name."""
    patterns = " ".join(mark + _escaped(name) for name in sorted(names))
    return f"({patterns} {commands})" if patterns else ""


def _escaped(name: str) -> str:
    """A name as a pattern, in which only `*` stands for others."""
    return "".join(f"\\{each}" if each in "[]?\\" else each for each in name)


# who does what


def of_component(system: System, name: str, declared: Declaration, names: Names) -> Grants:
    """What one component needs, be it of the contract or one that only looks on."""
    handled = {(each.room, each.type) for each in declared.handlers}
    inbox = (names.inbox(name), MessageType.LOG_ERROR.value)
    sent = {reply for each in declared.handlers for reply in each.replies} | set(declared.sends)
    grants = Grants(listens={names.channel(room) for room, _ in (*handled, inbox)})
    if declared.everyone:
        grants.hears |= {names.stream(*key) for key in (*handled, inbox)}
        grants.keeps.add(names.position(name, "") + "*")
        if name in system.components:  # then it has a group for notices, which nobody reads
            _take(grants, names, name, inbox)
    else:
        for key in (*handled, inbox):
            _take(grants, names, name, key)
    _send(grants, names, system, sent)
    _keep(grants, names, name, declared)
    return grants


def of_client(
    system: System, sends: Iterable[StreamKey], answers: Iterable[StreamKey], names: Names
) -> Grants:
    """What a program needs that asks a running system, and is none of its components."""
    grants = Grants(keeps={names.sent()})
    _send(grants, names, system, sends)
    grants.hears |= {names.stream(*key) for key in answers}
    return grants


def of_gateway(system: System, names: Names) -> Grants:
    """What the gateway needs: its clients may take part in any room, and bring rooms of their own.

    So it reaches each stream of the run, but no model, memory or table of anybody else.
    """
    everything = names.everything()
    own = of_component(system, GATEWAY, Declaration((), tables=(GATEWAY,)), names)
    marks = names.run_info().removesuffix("run") + "done:*"
    return own | Grants(
        takes={everything},
        ends={everything},
        keeps={marks},
        rings={everything},
        listens={everything},
    )


def of_viewer(runs: Iterable[Names]) -> str:
    """The rules of who sees all of some runs, and writes nothing."""
    patterns = " ".join(f"%R~{names.everything()}" for names in runs)
    reads = "+@read -@dangerous +eval_ro +evalsha_ro"  # KEYS would hold up everybody
    return f"resetchannels -@all {reads} {_CONNECTED} {patterns}"


def of_operator() -> str:
    """The rules of who types redis-cli and roomgrad."""
    return "allchannels allkeys +@all"


def _take(grants: Grants, names: Names, group: str, key: StreamKey) -> None:
    grants.takes.add(names.stream(*key))
    grants.keeps.add(names.done(group, *key))
    grants.rings.add(names.channel(key[0]))  # what was published there by hand is taken, too


def _send(grants: Grants, names: Names, system: System, sent: Iterable[StreamKey]) -> None:
    told = [(names.inbox(each), MessageType.LOG_ERROR.value) for each in system.components]
    logs = [(ERRORS, MessageType.LOG_ERROR.value), (LOGGING, MessageType.LOG_KPI.value)]
    places = {*sent, *told, *logs}
    grants.adds |= {names.stream(*key) for key in places} | {names.dead()}
    grants.rings |= {names.channel(room) for room, _ in places}
    grants.looks.add(names.here())  # a commit asks for it on a cluster


def _keep(grants: Grants, names: Names, name: str, declared: Declaration) -> None:
    grants.beats.add(names.alive(f"{name}~*"))
    grants.looks.add(names.alive("*"))
    grants.keeps |= {names.run_info(), names.taken(), names.sent()}
    grants.keeps |= {names.memory(name), names.counters(name)}
    grants.keeps |= {names.later(name), names.later_bodies(name)}
    if declared.learns:
        grants.keeps |= {names.model(name), names.kept(name), names.ledger(name)}
    else:
        grants.looks.add(names.model(name))  # for its metrics: there is none
    grants.keeps |= {names.table(table) for table in declared.tables}
    grants.adds |= {names.log(table) for table in declared.logs}
    grants.looks |= {names.table(table) for table in declared.reads}
    grants.hears |= {names.log(table) for table in declared.reads}
