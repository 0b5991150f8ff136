"""A run without components, whose scripts are called one by one."""

from __future__ import annotations

import secrets
from typing import Any

import redis

from roomgrad import scripts
from roomgrad.names import Names

GROUP, ME = "echo", "me"


class Scripts:
    """A run on a server, whose scripts are called."""

    def __init__(self, client: redis.Redis) -> None:
        self.client, self.names = client, Names(f"test-{secrets.token_hex(6)}")
        self.stream = self.names.stream("input", "DATA/FORWARD")
        self.done = self.names.done(GROUP, "input", "DATA/FORWARD")
        self.run = self.names.run_info()
        self.dead, self.taken = self.names.dead(), f"{{{self.names.run}}}:taken"
        self.later, self.bodies = self.names.later(GROUP), self.names.later_bodies(GROUP)

    def call(self, name: str, keys: list[str], *arguments: Any, by: Any = None) -> Any:
        client = by or self.client
        return client.eval(scripts.load(name), len(keys), *keys, *map(str, arguments))

    def add(self, *entries: str, stream: str = "") -> list[str]:
        """Add entries at these IDs."""
        key = stream or self.stream
        return [self.client.xadd(key, {"m": "{}"}, id=each).decode() for each in entries]

    def group(self, name: str = GROUP, at: str = "0") -> None:
        self.client.xgroup_create(self.stream, name, at, mkstream=True)

    def read(self, consumer: str = ME, count: int | None = None, group: str = GROUP) -> None:
        self.client.xreadgroup(group, consumer, {self.stream: ">"}, count=count)

    def left(self) -> list[str]:
        return [entry.decode() for entry, _ in self.client.xrange(self.stream)]

    def trim(self, keep: int, *groups: str, most: int = 2**30) -> int:
        marks = [self.names.done(each, "input", "DATA/FORWARD") for each in groups]
        return int(self.call("trim", [self.stream, self.run, *marks], keep, most, *groups))

    def heartbeat(self, lease_ms: int = 0, tidy: int = 0, **more: Any) -> list[Any]:
        alive = self.names.alive(ME)
        memory = more.pop("memory", self.names.memory(GROUP))
        keys = [alive, self.run, self.later, memory, self.stream]
        words = ["{}", more.pop("lives_ms", 60_000), GROUP, lease_ms, ME, self.names.alive("")]
        words += [tidy, 1, more.pop("publish", "PUBLISH")]
        return list(self.call("heartbeat", keys, *words, **more))

    def found(self, beat: list[Any]) -> list[str]:
        return [entry.decode() for _, entry in beat[8:]]

    def consumers(self) -> set[bytes]:
        return {each["name"] for each in self.client.xinfo_consumers(self.stream, GROUP)}

    def ingest(self, *fields: str, limit: str = "", by: Any = None, database: int = 0) -> Any:
        keys = [self.taken, self.stream, self.run]
        channel = self.names.channel("input")
        words = ["input DATA/FORWARD i", "PUBLISH", channel, "{", limit, database]
        return self.call("ingest", keys, *words, *(fields or ("m", "{}")), by=by)

    def delay(self, name: str, due: int = 1, *, body: Any = None, limit: str = "") -> None:
        """Stage a delayed message, as a commit does."""
        whole = [self.stream, self.names.channel("input"), "{", limit, "m", name]
        pack = "redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2]) "
        pack += (
            f"redis.call('HSET', KEYS[2], ARGV[2], cmsgpack.pack({body or '{unpack(ARGV, 3)}'}))"
        )
        self.client.eval(pack, 2, self.later, self.bodies, str(due), name, *whole)

    def deliver(self, count: int = 100, by: Any = None) -> list[Any]:
        keys = [self.later, self.bodies, self.stream]
        return list(self.call("delayed", keys, "PUBLISH", count, by=by))

    def said(self) -> list[bytes]:
        return [fields[b"m"] for _, fields in self.client.xrange(self.stream)]

    def requeue(self, letter: str, *others: str, by: Any = None) -> list[bytes]:
        marks = [self.names.done(each, "input", "DATA/FORWARD") for each in others]
        words = [letter, GROUP, "PUBLISH", self.names.channel("input"), '{"entry":"']
        return list(self.call("requeue", [self.dead, self.stream, *marks], *words, by=by))

    def letter(self, *, none: bool = False, **fields: str) -> str:
        """Add a dead letter of these fields, or of none."""
        message = {} if none else fields or {"m": "{}"}
        return self.client.xadd(self.dead, {"history": "{}", **message}).decode()  # type: ignore[dict-item]

    def user(self, *rules: str) -> redis.Redis:
        name = f"user-{secrets.token_hex(4)}"
        every = ["reset", "on", ">secret", "+@all", "allkeys", "allchannels"]
        self.client.execute_command("ACL", "SETUSER", name, *every, *rules)
        where = self.client.connection_pool.connection_kwargs
        return redis.Redis(
            host=where.get("host", ""), port=where.get("port", 0), username=name, password="secret"
        )
