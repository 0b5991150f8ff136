"""How often somebody may do something, by the address that they come from."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_ADDRESSES = 10_000  # that are remembered; who has not come for longest is forgotten


class Rates:
    """So many times a second on average, and so many at once.

    clock: seconds that only go forward.
    """

    def __init__(
        self, per_s: float, at_once: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = 1 / per_s
        self._ahead_s = at_once / per_s
        self._clock = clock
        self._used: OrderedDict[str, float] = OrderedDict()  # until when, at the average

    def take(self, address: str) -> bool:
        """Whether an address may do it once more; if so, it has."""
        who, now = _network(address), self._clock()
        until = max(self._used.get(who, now - self._ahead_s), now - self._ahead_s)
        until += self._interval_s
        if until > now:
            return False
        self._used[who] = until
        self._used.move_to_end(who)
        if len(self._used) > MOST_ADDRESSES:
            self._used.popitem(last=False)
        return True

    def is_spent(self, address: str) -> bool:
        """Whether an address has to wait."""
        until = self._used.get(_network(address))
        return until is not None and until + self._interval_s > self._clock()


def _network(address: str) -> str:
    """An address of IPv6 stands for all that one machine may take."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
