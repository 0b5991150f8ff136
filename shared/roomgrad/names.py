"""All names of keys, channels and groups, in one module.

`{run}` is a hash tag: all keys of one run are in one slot of a Redis Cluster, so that one commit
may touch any of them, and many runs spread over the cluster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from roomgrad.errors import ContractError, SettingsError, format_value

ERRORS = "errors"  # reports of dead letters and of published texts that are not messages
LOGGING = "_logging"  # LOG/KPI and other reports; no groups, trimmed by size

# Keys of the runtime on the same level as tables.
RESERVED = ("run", "taken", "sent", "dead", "here", "guests")

PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
TYPE = re.compile(r"[A-Za-z0-9_.-]{1,32}(/[A-Za-z0-9_.-]{1,32})?")  # as it is written in a key

GATEWAY = "gateway"  # the component through which swergio clients take part
_CLIENTS = f"@{GATEWAY}"


@lru_cache(maxsize=4096)
def encoded(name: str) -> str:
    """Return a room or run name as in a key: plain names unchanged, others percent-encoded."""
    if name.startswith("@"):
        return "@" + encoded(name[1:])
    return name if PLAIN.fullmatch(name) else quote(name, safe="")


def room_of(channel: str) -> str:
    """Return the room of a channel."""
    return unquote(channel.partition("}:")[2])


def is_client_group(group: str) -> bool:
    """Return whether a group is the gateway's: limited by its settings, and in no contract."""
    return _CLIENTS in group


@lru_cache(maxsize=4096)  # some ten names per message, mostly the same
def _joined(run: str, parts: tuple[str, ...]) -> str:
    return ":".join((f"{{{encoded(run)}}}", *parts))


LONGEST_RUN = 200  # characters of a run's name, of any script


@dataclass(frozen=True)
class Names:
    """The names of one run. Raises SettingsError for a name that no run can have."""

    run: str

    def __post_init__(self) -> None:
        if len(self.run) > LONGEST_RUN or re.search("[\ud800-\udfff]", self.run):
            raise SettingsError(
                f"run {format_value(self.run)}: expected a name of at most {LONGEST_RUN} "
                f"characters in UTF-8, got {len(self.run)}"
            )

    def _key(self, *parts: str) -> str:
        return _joined(self.run, parts)

    # rooms
    def channel(self, room: str) -> str:
        """The channel on which each message of a room is announced by a small header."""
        return self._key(encoded(room))

    def stream(self, room: str, type_: str) -> str:
        """Stream: the messages of one room and one TYPE."""
        return self._key(encoded(room), type_)

    @staticmethod
    def inbox(component: str) -> str:
        """The room for messages with TO."""
        return f"@{component}"

    @staticmethod
    def client_group(client: str, number: int = 1) -> str:
        """The group by which the gateway reads for its clients of one name, or for one of them."""
        return f"{client}{_CLIENTS}" + (f":{number}" if number > 1 else "")

    # what a component stores
    def memory(self, component: str) -> str:
        """Hash: one field per open root or message."""
        return self._key("memory", component)

    def model(self, component: str) -> str:
        """Hash: version and step of the model, pointers to its snapshots, policy of checkpoints."""
        return self._key("model", component)

    def steps(self, component: str) -> str:
        """Stream: a record of each step of the model, since the oldest snapshot that is kept."""
        return self._key("model", component, "steps")

    def snapshot_lease(self, component: str) -> str:
        """String that expires: the replica that takes a snapshot of the model."""
        return self._key("model", component, "snapshotter")

    def kept(self, component: str) -> str:
        """Hash: by version of the model, how many open roots still need it."""
        return self._key("model", component, "kept")

    def snapshot_piece(self, component: str, token: str, number: int | str) -> str:
        """String: a piece of a snapshot of the model, of 16 MiB at most; it expires until the model
        points to the snapshot.
        """
        return self._key("model", component, "snapshot", token, str(number))

    def ledger(self, component: str) -> str:
        """Sorted set: the roots whose gradient was applied, by step; the newest 100,000."""
        return self._key("ledger", component)

    def ended(self, component: str) -> str:
        """Sorted set: the newest 100,000 roots that were given up, of a component that gathers
        messages: it drops what comes of them later.
        """
        return self._key("ended", component)

    def counters(self, component: str) -> str:
        """Hash: whole numbers that a component counts."""
        return self._key("counters", component)

    def table(self, name: str) -> str:
        """Hash: anything else that a component shows to others (losses, trajectories)."""
        if name in RESERVED or not PLAIN.fullmatch(name):
            raise ContractError(
                f"a table may not be named {name!r}: expected letters, digits, _ . - and none of "
                f"{', '.join(RESERVED)}"
            )
        return self._key(name)

    def log(self, name: str) -> str:
        """Stream: what a component records for good, entry by entry; never trimmed."""
        return f"{self.table(name)}:log"

    # what the runtime stores
    def run_info(self) -> str:
        """Hash: settings of the run, contract, parts of it that joined, token, and starts."""
        return self._key("run")

    def done(self, group: str, room: str, type_: str) -> str:
        """Sorted set: the entries that a group committed, trimmed with their stream."""
        return self._key("done", group, encoded(room), type_)

    def position(self, component: str, replica: str) -> str:
        """Hash: how far a named `everyone` replica has read, per stream."""
        return self._key("position", component, encoded(replica))

    def alive(self, consumer: str) -> str:
        """String that expires: the heartbeat of one replica."""
        return self._key("alive", consumer)

    def taken(self) -> str:
        """Sorted set: room, TYPE and ID of messages that were published by hand and stored."""
        return self._key("taken")

    def sent(self) -> str:
        """Sorted set: tokens of what clients have sent under Sentinel or in a cluster, so that a
        failover does not make them send it twice.
        """
        return self._key("sent")

    def here(self) -> str:
        """Never stored: in a cluster, a read of it tells that its slot is moving."""
        return self._key("here")

    def guests(self) -> str:
        """Hash: the guests of the run, each until all its roots are done or given up."""
        return self._key("guests")

    def guest(self, name: str) -> str:
        """Stream: the answers to a guest that it has not read. It expires with the guest's lease,
        and messages for the guest end its root then.
        """
        return self._key(f"@guest~{name}")

    def guest_roots(self, name: str) -> str:
        """Hash: the open roots of a guest, and the room of each."""
        return self._key(f"@guest~{name}", "roots")

    def later(self, component: str) -> str:
        """Sorted set: delayed messages of a component, by Unix ms of the server's clock."""
        return self._key("later", component)

    def later_bodies(self, component: str) -> str:
        """Hash: the delayed messages, and `count`, how many there ever were."""
        return self._key("later", component, "bodies")

    def dead(self) -> str:
        """Stream: the dead letters, each with reason and history."""
        return self._key("dead")

    def restoring(self, token: str, number: int) -> str:
        """Any type: a key that `roomgrad restore` has not renamed to its place yet; it expires."""
        return self._key("restoring", token, str(number))

    def prefix(self) -> str:
        """Return the beginning of every key of the run."""
        return self._key("")

    def everything(self) -> str:
        """Return the pattern of all keys of the run, for `--fresh`."""
        return self._key("*").replace("[", r"\[").replace("?", r"\?")
