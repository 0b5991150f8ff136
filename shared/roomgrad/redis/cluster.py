"""Redis Cluster: which node serves a run, and where the masters are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, TryAgainError
from redis.retry import Retry
from redis.sentinel import SentinelManagedConnection

from roomgrad.commit import PUBLISH, SPUBLISH
from roomgrad.errors import NoServer
from roomgrad.names import Names
from roomgrad.redis.sentinels import ASK_S, Address, MasterPool, Silent, failure, listed, refusal
from roomgrad.redis.tls import VerifiedMasterConnection

SLOTS = 16384
DOWN = {"fail", "fail?", "noaddr", "handshake"}

# The slot has moved, is moving, or has no master; redis-py's MovedError is an AskError, too.
REDIRECTS = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
REDIRECT_ERRORS = (AskError, TryAgainError, ClusterDownError)


def slot_of(run: str) -> int:
    """Return the slot that holds all keys of a run."""
    return key_slot(Names(run).run_info().encode())


@dataclass(frozen=True)
class Shard:
    """What one node says of the master of some slots."""

    first: int
    last: int
    master: Address
    epoch: int
    """If two nodes claim the same slot, the one with the greater epoch serves it."""

    is_up: bool
    replicas: tuple[Address, ...]
    """Where its replicas are."""


class Cluster:
    """The nodes of a cluster, each of which knows all others, and the slot of one run.

    A failover reaches some nodes before others, so a node that reports an older config epoch than
    one already seen is ignored.
    """

    def __init__(self, run: str, addresses: list[Address], options: dict[str, Any]) -> None:
        """run: empty if any master will do. options: of a connection, with user and password."""
        self.name = run
        self.slot = slot_of(run) if run else None
        self.addresses = addresses
        self._order = list(addresses)
        self._epoch = 0
        self._options = options

    def of(self, run: str) -> Cluster:
        """Return the same cluster for another run."""
        return Cluster(run, list(self._order), self._options)

    def master(self) -> Address:
        """Return where the master of the run's slot is now. Raises NoServer if no node knows one.

        The node that answered last is asked first.
        """
        silent: Silent = {}
        outdated: list[Shard] = []
        down: Shard | None = None
        for address in list(self._order):
            try:
                found = self._shard(address)
            except (redis.RedisError, OSError) as error:
                silent[address] = error
                continue
            if found is None or not found.is_up:
                down = down or found
            elif found.epoch < self._epoch:
                outdated.append(found)
            else:
                return self._accept(address, found)
        if outdated:  # the cluster was created again
            newest = max(outdated, key=lambda each: each.epoch)
            self._epoch = newest.epoch
            return newest.master
        raise failure(self._trouble(silent, down), silent)

    def poll(self) -> Address | None:
        """Return where the master is by the node that answered last, in bounded time.

        Returns None if that node does not know; then another one is asked the next time.
        """
        first = self._order[0]
        with contextlib.suppress(redis.RedisError, OSError):
            found = self._shard(first)
            if found is not None and found.is_up and found.epoch >= self._epoch:
                return self._accept(first, found)
        self.mark_stale()
        return None

    def mark_stale(self) -> None:
        """Ask another node first the next time, since the last answer was wrong."""
        first, *others = self._order
        self._order = [*others, first]

    def discover_master(self, name: str) -> Address:
        """Return the master for redis-py's pool, to which an error counts as an outage."""
        try:
            return self.master()
        except NoServer as error:
            raise redis.ConnectionError(str(error)) from error

    def masters(self) -> list[Address]:
        """Return all masters that serve slots. Raises NoServer."""
        silent: Silent = {}
        for address in list(self._order):
            try:
                found = self._map(address)
            except (redis.RedisError, OSError) as error:
                silent[address] = error
                continue
            return list(dict.fromkeys(each.master for each in found if each.is_up))
        raise failure(self._trouble(silent, None), silent)

    def _accept(self, address: Address, found: Shard) -> Address:
        """Take over what a node reports. A replaced master learns it last, so it is asked last."""
        self._epoch = found.epoch
        others = [each for each in self._order if each not in (address, found.master)]
        ends = (address, found.master) if address != found.master else (address,)
        self._order = [*ends[:-1], *others, ends[-1]]
        return found.master

    def _shard(self, address: Address) -> Shard | None:
        found = self._map(address)
        if self.slot is None:
            return next((each for each in found if each.is_up), None)
        return next((each for each in found if each.first <= self.slot <= each.last), None)

    def _map(self, address: Address) -> list[Shard]:
        """Return what a node reports of all slots, and remember every node that it names."""
        slots, nodes = self._ask(address)
        states = dict(map(_node, nodes.splitlines()))
        found = [_shard(each, states, address) for each in slots]
        named = [each for shard in found for each in (shard.master, *shard.replicas)]
        kept = [*self.addresses, *named]
        known = dict.fromkeys([*(each for each in self._order if each in kept), *kept])
        self._order = list(known)
        return found

    def _ask(self, address: Address) -> tuple[list[Any], str]:
        """Ask a node: CLUSTER SLOTS for the addresses, CLUSTER NODES for the states."""
        pool = redis.ConnectionPool(
            host=address[0],
            port=address[1],
            protocol=2,
            socket_timeout=ASK_S,
            socket_connect_timeout=ASK_S,
            retry=Retry(NoBackoff(), 0),
            **self._options,
        )
        with redis.Redis.from_pool(pool) as node:
            slots: list[Any] = node.execute_command("CLUSTER", "SLOTS")
            nodes: bytes = node.execute_command("CLUSTER", "NODES")
        return slots, nodes.decode(errors="replace")

    def _trouble(self, silent: Silent, down: Shard | None) -> str:
        asked = listed(silent)
        if reason := refusal(silent, self.name):
            return f"the nodes of the cluster refuse {reason}"
        if "cluster support disabled" in asked:
            return f"this is not a cluster: name such a server as redis://HOST:PORT/0: {asked}"
        if down is not None:
            host, port = down.master
            return (
                f"slot {self.slot} of run {self.name!r} has no master now: {host}:{port} is down "
                f"and no replica of it is promoted yet, so try again in some seconds"
            )
        if len(silent) >= len(self._order):
            return f"no node of the cluster answers; tried: {asked}"
        what = f"slot {self.slot} of run {self.name!r}" if self.name else "not one slot"
        return (
            f"{what} is served by no node of the cluster: `redis-cli --cluster fix HOST:PORT` "
            f"gives it the slots that it lacks"
        )


class ClusterPool(MasterPool):
    """Connections of redis-py to the master that serves a run."""

    def __init__(self, shards: Cluster, **options: Any) -> None:
        self.shards = shards
        self._options = dict(options)
        kind = _SecureNode if options.pop("connection_class", None) else _Node
        super().__init__(shards, connection_class=kind, **options)

    def switch_run(self, run: str) -> None:
        """Serve another run from now on."""
        self.shards = self._resolver = self.shards.of(run)
        self.sentinel_manager = self.proxy.sentinel_manager = self.shards
        self.get_master_address()  # type: ignore[no-untyped-call]  # closes the idle ones

    def node(self, address: Address) -> redis.Redis:
        """Return a client of one node."""
        pool = redis.ConnectionPool(host=address[0], port=address[1], **self._options)
        return redis.Redis.from_pool(pool)


class _RedirectIsLoss:
    """A connection that counts as lost when its node no longer serves the slot."""

    connection_pool: Any
    disconnect: Any

    def read_response(self, *words: Any, **how: Any) -> Any:
        try:
            return super().read_response(*words, **how)  # type: ignore[misc]
        except REDIRECT_ERRORS as error:
            self.disconnect()
            self.connection_pool.sentinel_manager.mark_stale()
            reason = f"{error.status_code} {error}"
            raise redis.ConnectionError(
                f"this node does not serve the slot now: {reason}"
            ) from error


class _Node(_RedirectIsLoss, SentinelManagedConnection):
    pass


class _SecureNode(_RedirectIsLoss, VerifiedMasterConnection):
    pass


def on_cluster(client: redis.Redis) -> bool:
    """Return whether a client is connected to a cluster."""
    return isinstance(client.connection_pool, ClusterPool)


def publish_command(client: redis.Redis) -> bytes:
    """Return the command that publishes on a channel of this server."""
    return SPUBLISH if on_cluster(client) else PUBLISH


def switch_run(client: redis.Redis, run: str) -> None:
    """Let a client of a cluster serve another run from now on."""
    if isinstance(client.connection_pool, ClusterPool):
        client.connection_pool.switch_run(run)


def address_of(client: redis.Redis) -> Address:
    """Return the node that a client of a cluster is connected to."""
    pool = client.connection_pool
    if isinstance(pool, ClusterPool):
        return pool.shards.master()
    return pool.connection_kwargs["host"], pool.connection_kwargs["port"]


def each_master(client: redis.Redis) -> Iterator[redis.Redis]:
    """Yield clients of all masters; for a single server, the same client."""
    pool = client.connection_pool
    if not isinstance(pool, ClusterPool):
        yield client
        return
    for address in pool.shards.masters():
        with pool.node(address) as master:
            yield master


def _node(line: str) -> tuple[str, tuple[set[str], int]]:
    """Parse a line of CLUSTER NODES: the node's id, its flags and its epoch."""
    words = line.split(" ")
    return words[0], (set(words[2].split(",")), int(words[6]))


def _shard(said: list[Any], states: dict[str, tuple[set[str], int]], asked: Address) -> Shard:
    """Parse an item of CLUSTER SLOTS."""
    first, last, master, *replicas = said
    flags, epoch = states.get(master[2].decode(), (DOWN, 0))
    addresses = tuple(_address(each, asked) for each in replicas)
    return Shard(first, last, _address(master, asked), epoch, not flags & DOWN, addresses)


def _address(node: list[Any], asked: Address) -> Address:
    """Return where a node is; a node that does not know its own address is where it was asked."""
    host = (node[0] or b"").decode()
    return (host if host not in ("", "?") else asked[0]), int(node[1])
