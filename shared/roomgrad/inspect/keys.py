"""Which keys a server has, and which runs."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import redis

from roomgrad.redis.cluster import each_master

LOOKS = 1000  # SCANs of a thousand keys each: whoever shares the server may have very many


def scanned(client: redis.Redis, pattern: str, kind: str | None = None) -> list[str]:
    """The keys of a pattern; of a very large server, those that were found soon."""
    found: set[str] = set()
    cursor = 0
    for _ in range(LOOKS):
        answer: Any = client.scan(cursor, match=pattern, count=1000, _type=kind)
        cursor, keys = answer
        found |= {key.decode(errors="replace") for key in keys}
        if cursor == 0:
            break
    return sorted(found)


def runs_on(client: redis.Redis) -> list[str]:
    """The names of the runs on a server, or on all masters of a cluster."""
    found = {key for each in each_master(client) for key in scanned(each, "{*}:run", "hash")}
    return [unquote(key[1 : -len("}:run")]) for key in sorted(found)]


def pattern(text: str) -> str:
    """A text as SCAN looks for it."""
    return "".join(f"\\{each}" if each in "[]?*\\" else each for each in text)
