"""All that a run has in Redis, to look for what must not be there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from roomgrad.names import Names

READ: dict[bytes, Callable[[Any, bytes], Any]] = {
    b"string": lambda client, key: client.get(key),
    b"hash": lambda client, key: client.hgetall(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1),
    b"stream": lambda client, key: client.xrange(key),
}


def contents(client: redis.Redis, names: Names) -> dict[bytes, Any]:
    """Return what each key of a run has."""
    keys = client.scan_iter(match=names.everything(), count=1000)
    kinds: dict[bytes, Any] = {key: client.type(key) for key in keys}
    return {key: READ[kind](client, key) for key, kind in kinds.items() if kind != b"none"}


def holders(client: redis.Redis, names: Names, secret: str) -> list[bytes]:
    """Return the keys that have a secret in their name or in what they store."""
    found = contents(client, names)
    assert found, f"run {names.run} has no key"
    text = secret.encode()
    return [key for key, value in found.items() if text in key or secret in repr(value)]
