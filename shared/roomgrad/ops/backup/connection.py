"""A client that answers as the server does."""

from __future__ import annotations

import redis


def plain(client: redis.Redis) -> redis.Redis:
    """The same connections, and no answer made a dict, which would lose a name that comes twice."""
    found = redis.Redis(connection_pool=client.connection_pool)
    found.response_callbacks.clear()
    return found
