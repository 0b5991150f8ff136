"""Read streams without a consumer group, from an entry on."""

from __future__ import annotations

from typing import Any

import redis

START = "0-0"  # the position before the first entry
MOST = 200  # entries of one read


def newest_entry(client: redis.Redis, key: str) -> str:
    """Return the ID of the newest entry of a stream; "0-0" if it is empty."""
    found: Any = client.xrevrange(key, count=1)
    return found[0][0].decode() if found else START


def read_after(
    client: redis.Redis, positions: dict[str, str], block_s: float
) -> list[tuple[str, str, dict[bytes, bytes]]]:
    """Return the entries after some positions as (key, entry ID, fields); advance the positions.

    positions: the last entry that was read of each stream, by its key.
    block_s: how long to wait if there is none.
    """
    block_ms = max(1, round(block_s * 1000))
    answer: Any = client.xread(dict(positions), count=MOST, block=block_ms)  # type: ignore[arg-type]
    found = [
        (key.decode(), entry.decode(), fields)
        for key, entries in answer or ()
        for entry, fields in entries
    ]
    positions.update({key: entry for key, entry, _ in found})
    return found
