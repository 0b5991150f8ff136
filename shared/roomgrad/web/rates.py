"""Token buckets by network address.

Written here because starlette has none, and slowapi counts an IPv6 client by its full address, of
which one machine has 2^64.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_ADDRESSES = 10_000  # of which a bucket is kept; the one that was used longest ago is dropped


class Rates:
    """`per_s` tokens a second for each address, and at most `at_once` of them saved up.

    clock: seconds of a monotonic clock.
    """

    def __init__(
        self, per_s: float, at_once: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = 1 / per_s
        self._saved_s = at_once / per_s
        self._clock = clock
        self._used: OrderedDict[str, float] = OrderedDict()  # until when, at `per_s`

    def take(self, address: str) -> bool:
        """Take a token; return False if there is none."""
        network, now = _network(address), self._clock()
        full = now - self._saved_s
        used = max(self._used.get(network, full), full) + self._interval_s
        if used > now:
            return False
        self._used[network] = used
        self._used.move_to_end(network)
        if len(self._used) > MOST_ADDRESSES:
            self._used.popitem(last=False)
        return True

    def is_spent(self, address: str) -> bool:
        """Return whether `take` would return False."""
        used = self._used.get(_network(address))
        return used is not None and used + self._interval_s > self._clock()


def _network(address: str) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 address; other text as it is."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
