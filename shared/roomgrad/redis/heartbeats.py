"""Heartbeats: which replicas live, and whether the loop of each makes progress."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis

from roomgrad.clock import server_time
from roomgrad.ensembles import is_member
from roomgrad.names import Names

LONGEST_TURN_S = 10.0
STOPPED = b"stopped"  # field of a model's hash: why its replicas ended, until a snapshot is newer


@dataclass(frozen=True)
class Heartbeat:
    """The last heartbeat of one replica; times are Unix times by the server's clock."""

    component: str
    replica: str
    host: str
    pid: int
    turn: float
    """When its loop last started an iteration."""
    handling: float | None
    """Since when a handler runs, or None."""

    consumer: str = ""
    """Its name in its consumer groups."""

    started: float = 0.0
    version: str = ""
    """The version of the weights that it has loaded."""

    error: str = ""
    """Why its handler raised on a message that is tried again, or an empty text."""

    waits: str = ""
    """What it waits for that an operator has to mend, like room in the server's memory."""

    snapshots: str = ""
    """Why other replicas cannot use its snapshots, or why it takes none."""

    def trouble(self, now: float, handler_timeout_s: float) -> str:
        """Return what is wrong with the replica, or an empty text.

        now: Unix time in seconds by the server's clock.
        """
        who = f"{self.component} (process {self.pid} on {self.host})"
        if self.handling is not None:
            busy_s = now - self.handling
            return (
                f"{who} has been in one handler for {busy_s:.0f} s, allowed are "
                f"{handler_timeout_s:.0f} s"
                if busy_s > handler_timeout_s
                else ""
            )
        still_s = now - self.turn
        if still_s > LONGEST_TURN_S:
            return (
                f"the loop of {who} has not advanced for {still_s:.0f} s, allowed are "
                f"{LONGEST_TURN_S:.0f} s"
            )
        return ""


def find(client: redis.Redis, names: Names, component: str = "*") -> list[Heartbeat]:
    """Return the heartbeats that exist now."""
    return [each for each in read(client, names, component).values() if each is not None]


def living(client: redis.Redis, names: Names) -> Counter[str]:
    """Return how many replicas of each component have a heartbeat."""
    return Counter(consumer.partition("~")[0] for consumer in read(client, names))


def read(client: redis.Redis, names: Names, component: str = "*") -> dict[str, Heartbeat | None]:
    """Return the heartbeats of live replicas by consumer.

    None stands for a foreign client's heartbeat that lacks component, host, process or turn.
    """
    keys = list(client.scan_iter(match=pattern(names, component), count=1000))
    values = client.mget(keys) if keys else []
    prefix = names.alive("")
    consumers = [key.decode(errors="replace").removeprefix(prefix) for key in keys]
    pairs = zip(consumers, values, strict=True)
    return {consumer: parse(value, consumer) for consumer, value in pairs if value is not None}


def pattern(names: Names, component: str) -> str:
    """Return the pattern of the keys of a component's heartbeats; "*" in its name is for any."""
    return re.sub(r"([\[\]?])", r"\\\1", names.alive(component)) + "~*"


def on_host(
    client: redis.Redis, names: Names, component: str, host: str, handler_timeout_s: float
) -> tuple[str, str]:
    """Return what is wrong with a component on a host and what it waits for, or empty texts.

    component: an ensemble stands for those of its members that live on the host.
    """
    served = (each for each in find(client, names, f"{component}*") if each.host == host)
    here = [e for e in served if e.component == component or is_member(e.component, component)]
    if not here:
        stopped: Any = client.hget(names.model(component), STOPPED.decode())
        why = stopped.decode(errors="replace") if stopped else "it does not run here"
        return f"no heartbeat of {component} on {host} in run {names.run}: {why}", ""
    now = server_time(client)
    troubles = (each.trouble(now, handler_timeout_s) for each in here)
    return next(filter(None, troubles), ""), next(filter(None, (each.waits for each in here)), "")


def parse(value: bytes | str, consumer: str = "") -> Heartbeat | None:
    """Parse a heartbeat; return None for one of a foreign client that says less."""
    try:
        fields = json.loads(value)
        handling = fields.get("handling")
        return Heartbeat(
            component=fields["component"],
            replica=fields.get("replica", ""),
            host=fields["host"],
            pid=int(fields["pid"]),
            turn=float(fields["turn"]),
            handling=None if handling is None else float(handling),
            consumer=consumer,
            started=float(fields.get("started", 0.0)),
            version=str(fields.get("version", "")),
            error=str(fields.get("error", "")),
            waits=str(fields.get("waits", "")),
            snapshots=str(fields.get("snapshots", "")),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
