"""A run without components, in which a commit touches everything that a commit can touch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import redis

from roomgrad.commit import SCRIPT, Commit
from roomgrad.names import Names

REQUESTS, REPLIES, REPORTS = "input:DATA/FORWARD", "output:DATA/FORWARD", "errors:LOG/ERROR"
KINDS = {
    REQUESTS: "stream",
    REPLIES: "stream",
    REPORTS: "stream",
    "@echo:LOG/ERROR": "stream",
    "dead": "stream",
    "records:log": "stream",
    "model:echo:steps": "stream",
    "model:echo:snapshot:new:0": "string",
    "model:echo:snapshot:old:0": "string",
    "done:echo:input:DATA/FORWARD": "zset",
    "ledger:echo": "zset",
    "later:echo": "zset",
    "sent": "zset",
    "later:echo:bodies": "hash",
    "memory:echo": "hash",
    "model:echo": "hash",
    "model:echo:kept": "hash",
    "counters:echo": "hash",
    "records": "hash",
}
STREAMS = [name for name, kind in KINDS.items() if kind == "stream" and name != REQUESTS]


def snapshot(client: redis.Redis, names: Names) -> dict[bytes, bytes | None]:
    """Every key of the run with all that it holds; pending messages and their counts included."""
    return {key: client.dump(key) for key in sorted(client.scan_iter(match=names.everything()))}


@dataclass
class CommitRun:
    """One message in the hands of a consumer, and records in every hash."""

    client: redis.Redis
    names: Names
    entries: list[str] = field(default_factory=list)

    def key(self, name: str) -> str:
        return f"{{{self.names.run}}}:{name}"

    def set(self) -> None:
        """Puts everything back to where the commit may begin."""
        client, heard = self.client, self.key(REQUESTS)
        keys = list(client.scan_iter(match=self.names.everything(), count=1000))
        if keys:
            client.unlink(*keys)
        self.entries = [client.xadd(heard, {"m": str(n)}).decode() for n in range(3)]
        client.xgroup_create(heard, "echo", "0")
        client.xreadgroup("echo", "me", {heard: ">"})
        for name in (REPLIES, "@echo:LOG/ERROR"):
            client.xgroup_create(self.key(name), "echo", "0", mkstream=True)
        client.hset(self.key("memory:echo"), mapping={"known": "old", "goes": "x"})
        client.hset(self.key("model:echo"), mapping={"version": "3-a", "step": 3})
        client.hset(self.key("model:echo:kept"), mapping={"2-b": "w2", "2-b:open": 1})
        client.set(self.key("model:echo:snapshot:new:0"), "n", ex=3600)
        client.set(self.key("model:echo:snapshot:old:0"), "o")
        client.hset(self.key("counters:echo"), mapping={"received": 1, "applied": 3, "distinct": 3})

    def commit(self) -> Commit:
        """Does one of each: all guards, all operations."""
        commit, key = Commit(), self.key
        heard, done = key(REQUESTS), key("done:echo:input:DATA/FORWARD")
        said, ring = key(REPLIES), key("output")
        fields = [b"ID", b"i", b"m", b"{}"]
        commit.pending(heard, done, "echo", self.entries[0])
        commit.same(key("memory:echo"), b"known", b"old")
        commit.same(key("memory:echo"), b"new", None)
        commit.same(key("model:echo"), b"version", b"3-a")
        commit.mark(heard, done, "echo", self.entries[1])
        commit.send(said, ring, b'{"ring":1,"entry":"', fields)
        commit.send(key(REPORTS), ring, b'{"ring":1,"entry":"', fields, 1000)
        commit.send(key("@echo:LOG/ERROR"), ring, b'{"ring":1,"entry":"', fields)
        later = (key("later:echo"), key("later:echo:bodies"), 3600.0)
        commit.delay(*later, said, ring, b'{"ring":1,"entry":"', fields)
        commit.do(b"HSET", key("memory:echo"), b"new", b"1")
        commit.do(b"HDEL", key("memory:echo"), b"goes")
        commit.do(b"HSET", key("records"), b"last", b"1")
        commit.do(b"XADD", key("records:log"), b"*", b"m", b"{}")
        commit.do(b"XADD", key("dead"), b"*", b"history", b"{}", b"m", b"")
        commit.do(b"HINCRBY", key("counters:echo"), b"received", b"1")
        commit.retain(key("model:echo:kept"), "3-a")
        commit.release(key("model:echo:kept"), "2-b")
        commit.do(b"HSET", key("model:echo"), b"version", b"4-c", b"step", b"4")
        commit.do(b"XADD", key("model:echo:steps"), b"*", b"version", b"4-c")
        commit.do(b"XTRIM", key("model:echo:steps"), b"MINID", b"1-0")
        commit.do(b"PERSIST", key("model:echo:snapshot:new:0"))
        commit.do(b"UNLINK", key("model:echo:snapshot:old:0"))
        commit.ledger(key("ledger:echo"), key("counters:echo"), "root", 4)
        commit.once(key("sent"), "token", 5.0)
        return commit

    def send(self, keys: list[Any], arguments: list[Any], by: redis.Redis | None = None) -> str:
        """What the script says: ok, gone, stale, refused or wrong with the reason, or the error."""
        try:
            reply: Any = (by or self.client).eval(SCRIPT, len(keys), *keys, *arguments)  # type: ignore[arg-type]
        except redis.ResponseError as error:
            return f"error {error}"
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in reply]
        return b" ".join(parts[:2]).decode(errors="replace")

    def try_it(self, by: redis.Redis | None = None) -> str:
        """Sends the whole commit."""
        return self.send(*self.commit().parts(), by)

    def snapshot(self) -> dict[bytes, bytes | None]:
        return snapshot(self.client, self.names)

    def assert_done(self) -> None:
        """Everything that the commit wants has happened, once."""
        client, key = self.client, self.key
        assert client.xpending(key(REQUESTS), "echo")["pending"] == 1
        assert client.zcard(key("done:echo:input:DATA/FORWARD")) == 2
        assert [client.xlen(key(name)) for name in STREAMS] == [1] * len(STREAMS)
        assert client.hgetall(key("memory:echo")) == {b"known": b"old", b"new": b"1"}
        assert client.hgetall(key("model:echo:kept")) == {b"3-a:open": b"1"}
        assert client.hgetall(key("model:echo")) == {b"version": b"4-c", b"step": b"4"}
        assert client.ttl(key("model:echo:snapshot:new:0")) == -1
        assert not client.exists(key("model:echo:snapshot:old:0"))
        counters = {b"received": b"2", b"applied": b"4", b"distinct": b"4"}
        assert client.hgetall(key("counters:echo")) == counters
        assert client.zscore(key("ledger:echo"), "root") == 4
        assert client.zrange(key("sent"), 0, -1, withscores=True) == [(b"token", 5.0)]
        assert client.zcard(key("later:echo")) == 1
        assert client.hlen(key("later:echo:bodies")) == 2
        assert client.hget(key("records"), "last") == b"1"
