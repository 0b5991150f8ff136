"""Shards: who knows which node of a Redis Cluster serves a run, and its masters."""

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
from roomgrad.redis.sentinels import ASK_S, Address, MasterPool
from roomgrad.redis.tls import VerifiedMasterConnection

SLOTS = 16384
DOWN = {"fail", "fail?", "noaddr", "handshake"}

# A slot is somewhere else by now, or on its way, or the cluster is not whole; MOVED is an ASK, too.
ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
ELSEWHERE_ERRORS = (AskError, TryAgainError, ClusterDownError)


def slot_of(run: str) -> int:
    """The slot in which all keys of a run live."""
    return key_slot(Names(run).run_info().encode())


@dataclass(frozen=True)
class Shard:
    """What one node says of the master of some slots."""

    first: int
    last: int
    place: Address
    epoch: int
    """Of two nodes that say they serve a slot, the one of the greater epoch does."""

    is_up: bool
    others: tuple[Address, ...]
    """Where its replicas are."""


class Cluster:
    """The nodes of a cluster, any of which knows them all, and the slot of one run.

    A failover and a move reach some nodes before others: who names a master of an older epoch
    than was heard of before is not believed.
    """

    def __init__(self, run: str, places: list[Address], options: dict[str, Any]) -> None:
        """run: any master will do if empty. options: of a connection, with user and password."""
        self.name = run
        self.slot = slot_of(run) if run else None
        self.places = places
        self._order = list(places)
        self._epoch = 0
        self._options = options

    def of(self, run: str) -> Cluster:
        """The same cluster for another run."""
        return Cluster(run, list(self._order), self._options)

    def master(self) -> Address:
        """Where the master of the run's slot is now. Raises NoServer when nobody knows one.

        The node that answered last is asked first.
        """
        silent: list[str] = []
        outdated: list[Shard] = []
        down: Shard | None = None
        for place in list(self._order):
            try:
                found = self._shard(place)
            except (redis.RedisError, OSError) as error:
                silent.append(f"{place[0]}:{place[1]} ({error})")
                continue
            if found is None or not found.is_up:
                down = down or found
            elif found.epoch < self._epoch:
                outdated.append(found)
            else:
                return self._believe(place, found)
        if outdated:  # the cluster was made anew
            newest = max(outdated, key=lambda each: each.epoch)
            self._epoch = newest.epoch
            return newest.place
        raise NoServer(self._trouble(silent, down))

    def poll(self) -> Address | None:
        """Where the master is as the node says that answered last, asked in bounded time.

        None if it does not know; then another one is asked the next time.
        """
        first = self._order[0]
        with contextlib.suppress(redis.RedisError, OSError):
            found = self._shard(first)
            if found is not None and found.is_up and found.epoch >= self._epoch:
                return self._believe(first, found)
        self.mark_stale()
        return None

    def mark_stale(self) -> None:
        """What was answered last was wrong: another one is asked first the next time."""
        first, *others = self._order
        self._order = [*others, first]

    def discover_master(self, name: str) -> Address:
        """The same as redis-py's connection pool asks for it: its errors count as an outage."""
        try:
            return self.master()
        except NoServer as error:
            raise redis.ConnectionError(str(error)) from error

    def masters(self) -> list[Address]:
        """All masters that serve slots. Raises NoServer."""
        silent: list[str] = []
        for place in list(self._order):
            try:
                found = self._map(place)
            except (redis.RedisError, OSError) as error:
                silent.append(f"{place[0]}:{place[1]} ({error})")
                continue
            return list(dict.fromkeys(each.place for each in found if each.is_up))
        raise NoServer(self._trouble(silent, None))

    def _believe(self, place: Address, found: Shard) -> Address:
        """A master that was replaced is the last to know it, so that it is asked last."""
        self._epoch = found.epoch
        others = [each for each in self._order if each not in (place, found.place)]
        ends = (place, found.place) if place != found.place else (place,)
        self._order = [*ends[:-1], *others, ends[-1]]
        return found.place

    def _shard(self, place: Address) -> Shard | None:
        found = self._map(place)
        if self.slot is None:
            return next((each for each in found if each.is_up), None)
        return next((each for each in found if each.first <= self.slot <= each.last), None)

    def _map(self, place: Address) -> list[Shard]:
        """What a node says of all slots; whoever it names is known from then on."""
        slots, nodes = self._ask(place)
        about = dict(map(_node, nodes.splitlines()))
        found = [_shard(each, about, place) for each in slots]
        named = [each for shard in found for each in (shard.place, *shard.others)]
        kept = [*self.places, *named]
        known = dict.fromkeys([*(each for each in self._order if each in kept), *kept])
        self._order = list(known)
        return found

    def _ask(self, place: Address) -> tuple[list[Any], str]:
        """CLUSTER SLOTS says where nodes are reached, CLUSTER NODES how they are."""
        pool = redis.ConnectionPool(
            host=place[0],
            port=place[1],
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

    def _trouble(self, silent: list[str], down: Shard | None) -> str:
        asked = ", ".join(silent)
        if "cluster support disabled" in asked:
            return f"this is no cluster, name such a server as redis://HOST:PORT/0: {asked}"
        if down is not None:
            host, port = down.place
            return (
                f"slot {self.slot} of run {self.name!r} has no master now: {host}:{port} is down "
                f"and no replica of it is promoted yet, so try again in some seconds"
            )
        if len(silent) >= len(self._order):
            return f"no node of the cluster answers: asked were {asked}"
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

    def go_to(self, run: str) -> None:
        """Serves another run from now on."""
        self.shards = self._resolver = self.shards.of(run)
        self.sentinel_manager = self.proxy.sentinel_manager = self.shards
        self.get_master_address()  # type: ignore[no-untyped-call]  # hangs up the idle ones

    def beside(self, place: Address) -> redis.Redis:
        """A client of one node."""
        pool = redis.ConnectionPool(host=place[0], port=place[1], **self._options)
        return redis.Redis.from_pool(pool)


class _Elsewhere:
    """A connection that counts as lost when its node does not serve the slot any more."""

    connection_pool: Any
    disconnect: Any

    def read_response(self, *words: Any, **how: Any) -> Any:
        try:
            return super().read_response(*words, **how)  # type: ignore[misc]
        except ELSEWHERE_ERRORS as error:
            self.disconnect()
            self.connection_pool.sentinel_manager.mark_stale()
            reason = f"{error.status_code} {error}"
            raise redis.ConnectionError(f"its slot is not served here now: {reason}") from error


class _Node(_Elsewhere, SentinelManagedConnection):
    pass


class _SecureNode(_Elsewhere, VerifiedMasterConnection):
    pass


def on_cluster(client: redis.Redis) -> bool:
    """Whether a client is one of a cluster."""
    return isinstance(client.connection_pool, ClusterPool)


def publish_command(client: redis.Redis) -> bytes:
    """The command by which this server rings."""
    return SPUBLISH if on_cluster(client) else PUBLISH


def go_to(client: redis.Redis, run: str) -> None:
    """On a cluster: this client serves another run from now on."""
    if isinstance(client.connection_pool, ClusterPool):
        client.connection_pool.go_to(run)


def address_of(client: redis.Redis) -> Address:
    """The node at which a client of a cluster is."""
    pool = client.connection_pool
    if isinstance(pool, ClusterPool):
        return pool.shards.master()
    return pool.connection_kwargs["host"], pool.connection_kwargs["port"]


def each_master(client: redis.Redis) -> Iterator[redis.Redis]:
    """Clients of all masters, for who looks for runs; of a server alone, the same client."""
    pool = client.connection_pool
    if not isinstance(pool, ClusterPool):
        yield client
        return
    for place in pool.shards.masters():
        with pool.beside(place) as master:
            yield master


def _node(line: str) -> tuple[str, tuple[set[str], int]]:
    """A line of CLUSTER NODES: the node's id, its flags and its epoch."""
    words = line.split(" ")
    return words[0], (set(words[2].split(",")), int(words[6]))


def _shard(said: list[Any], about: dict[str, tuple[set[str], int]], asked: Address) -> Shard:
    """An item of CLUSTER SLOTS."""
    first, last, master, *replicas = said
    flags, epoch = about.get(master[2].decode(), (DOWN, 0))
    others = tuple(_place(each, asked) for each in replicas)
    return Shard(first, last, _place(master, asked), epoch, not flags & DOWN, others)


def _place(node: list[Any], asked: Address) -> Address:
    """Where a node is; one that does not know its own address is where it was asked."""
    host = (node[0] or b"").decode()
    return (host if host not in ("", "?") else asked[0]), int(node[1])
