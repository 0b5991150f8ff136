"""The guests of a run: which there are, and which roots they have open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from roomgrad import strict_json
from roomgrad.names import Names


@dataclass(frozen=True)
class GuestState:
    """A guest: a program that opens roots and is no component."""

    name: str
    host: str = ""
    pid: int = 0
    alive: bool = False
    """Whether its lease lasts; if not, its roots are about to be given up."""

    open_roots: int = 0
    """Roots that it opened, and of which components may remember something."""


def inspect(client: redis.Redis, names: Names) -> tuple[GuestState, ...]:
    """Return all guests of a run, by name."""
    about: dict[bytes, bytes] = client.hgetall(names.guests())  # type: ignore[assignment]
    found = []
    for key, value in sorted(about.items()):
        name = key.decode(errors="replace")
        alive: Any = client.exists(names.guest(name))
        count: Any = client.hlen(names.guest_roots(name))
        found.append(GuestState(name, *_process(value), alive=bool(alive), open_roots=count))
    return tuple(found)


def _process(value: bytes) -> tuple[str, int]:
    try:
        about = strict_json.loads(value)
        return str(about["host"]), int(about["pid"])
    except (ValueError, KeyError, TypeError):  # a foreign program's
        return "", 0


def open_roots(client: redis.Redis, names: Names) -> dict[str, str]:
    """Return the open roots of all guests, each with the guest's name.

    A guest may keep a root open for as long as it likes: no message of it need be under way.
    """
    known: Any = client.hkeys(names.guests())
    guests = [name.decode(errors="replace") for name in known]
    found: dict[str, str] = {}
    for guest in guests:
        roots: Any = client.hkeys(names.guest_roots(guest))
        found |= dict.fromkeys((root.decode(errors="replace") for root in roots), guest)
    return found
