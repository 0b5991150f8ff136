"""The name of every key, channel, and group; `docs/keys.md` lists them with these docstrings.

`{run}` is a hash tag: all keys of one run live in one slot of a Redis Cluster, so that one
commit may touch any of them, and many runs spread over the cluster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from roomgrad.errors import ContractError

ERRORS = "errors"  # reports of dead letters and of published texts that are not messages
LOGGING = "_logging"  # LOG/KPI and other reports; no groups, trimmed by size

# Keys of the runtime on the same level as tables.
RESERVED = ("run", "taken", "sent", "dead", "here")

PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
TYPE = re.compile(r"[A-Za-z0-9_.-]{1,32}(/[A-Za-z0-9_.-]{1,32})?")  # as it is written in a key

GATEWAY = "gateway"  # the component through which swergio clients take part
_CLIENTS = f"@{GATEWAY}"


@lru_cache(maxsize=4096)
def encoded(name: str) -> str:
    """Return a room or run name as it is written in a key: plain, or else percent-encoded."""
    if name.startswith("@"):
        return "@" + encoded(name[1:])
    return name if PLAIN.fullmatch(name) else quote(name, safe="")


def room_of(channel: str) -> str:
    """Return the room of a channel."""
    return unquote(channel.partition("}:")[2])


def is_client_group(group: str) -> bool:
    """Return whether a group is the gateway's: bounded by its settings, and in no contract."""
    return _CLIENTS in group


@lru_cache(maxsize=4096)  # some ten names a message, always the same ones
def _joined(run: str, parts: tuple[str, ...]) -> str:
    return ":".join((f"{{{encoded(run)}}}", *parts))


@dataclass(frozen=True)
class Names:
    """The names of one run. The docstring of each method says what is stored under its name."""

    run: str

    def _key(self, *parts: str) -> str:
        return _joined(self.run, parts)

    # rooms
    def channel(self, room: str) -> str:
        """Channel: a notification of each message of a room."""
        return self._key(encoded(room))

    def stream(self, room: str, type_: str) -> str:
        """Stream: the messages of a room and a TYPE."""
        return self._key(encoded(room), type_)

    @staticmethod
    def inbox(component: str) -> str:
        """Room: notices to one component, in the stream `{run}:@NAME:LOG/ERROR`."""
        return f"@{component}"

    @staticmethod
    def client_group(client: str, number: int = 1) -> str:
        """Group: what swergio clients of this name have got; a second one has `NAME@gateway:2`."""
        return f"{client}{_CLIENTS}" + (f":{number}" if number > 1 else "")

    # what a component remembers
    def memory(self, component: str) -> str:
        """Hash: what a component remembers, by ROOT_ID or ID."""
        return self._key("memory", component)

    def model(self, component: str) -> str:
        """Hash: `version`, `step`, `weights`, and `optimizer` (safetensors)."""
        return self._key("model", component)

    def kept(self, component: str) -> str:
        """Hash: older weights by version, and `VERSION:open`, how many open records need them."""
        return self._key("model", component, "kept")

    def ledger(self, component: str) -> str:
        """Sorted set: roots whose gradient was applied, by step; the newest 100,000."""
        return self._key("ledger", component)

    def counters(self, component: str) -> str:
        """Hash: whole numbers, such as `sent`, `finished`, `dead`, `applied`, `distinct`."""
        return self._key("counters", component)

    def table(self, name: str) -> str:
        """Hash: a table for others to read, such as `losses`, `trajectories`, `gateway`."""
        if name in RESERVED or not PLAIN.fullmatch(name):
            raise ContractError(
                f"a table may not be named {name!r}: expected letters, digits, _ . - and none of "
                f"{', '.join(RESERVED)}"
            )
        return self._key(name)

    def log(self, name: str) -> str:
        """Stream: a log of a component; never trimmed."""
        return f"{self.table(name)}:log"

    # what the runtime keeps
    def run_info(self) -> str:
        """Hash: settings, what was started once, the token, `contract`, and `declares:NAME`."""
        return self._key("run")

    def done(self, group: str, room: str, type_: str) -> str:
        """Sorted set: entries that a group has committed, trimmed with their stream."""
        return self._key("done", group, encoded(room), type_)

    def position(self, component: str, replica: str) -> str:
        """Hash: how far a named `everyone` replica has read, per stream."""
        return self._key("position", component, encoded(replica))

    def alive(self, consumer: str) -> str:
        """String that expires: a replica's heartbeat, also published on a channel of this name."""
        return self._key("alive", consumer)

    def taken(self) -> str:
        """Sorted set: room, TYPE, and ID of published messages that were taken."""
        return self._key("taken")

    def sent(self) -> str:
        """Sorted set: tokens of what the gateway, and clients under Sentinel or on a cluster, have
        sent, so that none is sent twice.
        """
        return self._key("sent")

    def here(self) -> str:
        """No key: a commit asks for it on a cluster, where a slot that is moving has no answer."""
        return self._key("here")

    def later(self, component: str) -> str:
        """Sorted set: delayed messages of a component, by Unix ms of the server's clock."""
        return self._key("later", component)

    def later_bodies(self, component: str) -> str:
        """Hash: their content (MessagePack), and `count`, how many there ever were."""
        return self._key("later", component, "bodies")

    def dead(self) -> str:
        """Stream: dead letters, each with its `history`."""
        return self._key("dead")

    def restoring(self, token: str, number: int) -> str:
        """Any type: what `roomgrad restore` writes before it renames all keys at once; expires."""
        return self._key("restoring", token, str(number))

    def prefix(self) -> str:
        """Return the beginning of every key of the run."""
        return self._key("")

    def everything(self) -> str:
        """Return the pattern of all keys of the run, for `--fresh`."""
        return self._key("*").replace("[", r"\[").replace("?", r"\?")
