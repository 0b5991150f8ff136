"""What a process says while it has no server: each kind of reason once."""

from __future__ import annotations

import hiredis
import redis

from roomgrad.errors import NoServer

LOST = "lost"  # the kind of a connection that was closed, refused, or is silent


class Outage:
    """The reasons told of one outage.

    The first one is often only that the connection was closed. What an operator can mend, like an
    expired certificate or a changed password, shows at a later attempt and must be told, too.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._told)

    def is_news(self, error: BaseException) -> bool:
        """Return whether no reason of this kind was told; it counts as told from now on."""
        kind = _kind(error)
        is_news = kind not in self._told
        self._told.add(kind)
        return is_news

    def end(self) -> None:
        """Forget what was told: the next outage is another one."""
        self._told.clear()


def _kind(error: BaseException) -> str:
    if isinstance(error, hiredis.ReplyError):
        return str(error).partition(" ")[0]  # LOADING, WRONGPASS, ...
    plain = type(error) in (NoServer, redis.ConnectionError, redis.TimeoutError)
    return LOST if plain or isinstance(error, OSError) else type(error).__name__
