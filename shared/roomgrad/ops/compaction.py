"""Make the files of a server as small as its data."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import redis

WAIT_S = 60.0


def compact(client: redis.Redis) -> None:
    """Rewrite the append-only file, and wait until it is written, or for `WAIT_S`."""
    until = time.monotonic() + WAIT_S
    with contextlib.suppress(redis.ResponseError):  # one is being written already
        client.bgrewriteaof()
    while time.monotonic() < until:
        info: Any = client.info("persistence")
        if not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]):
            return
        time.sleep(0.05)
