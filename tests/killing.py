"""The death of a server's process, which takes back nothing that the server has acknowledged."""

from __future__ import annotations

import contextlib

import redis

from roomgrad.local.embedded import EmbeddedServer
from tests.waiting import until

PATIENCE_S = 10.0  # for a server that a test has slowed down or stopped


def kill_server(server: EmbeddedServer) -> None:
    """kill -9, once all that was written is in the server's append-only file.

    With `appendfsync everysec` a server puts off writing for up to 2 s while an fsync is under way,
    and acknowledges meanwhile: on a busy disk it would lose that.
    """
    with (
        contextlib.suppress(redis.RedisError),  # it answers nothing, so it acknowledges nothing
        redis.Redis.from_url(server.url, socket_timeout=PATIENCE_S, retry=None) as client,
    ):
        until(lambda: not client.info("persistence").get("aof_buffer_length"))
    server.kill()
