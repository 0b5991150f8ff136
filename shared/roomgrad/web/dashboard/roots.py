"""The newest roots of a run, and its dead letters."""

from __future__ import annotations

from itertools import islice
from typing import Any

import redis

from roomgrad.inspect.dead_letters import Letters
from roomgrad.inspect.entries import FIELDS, HEAD_BYTES
from roomgrad.inspect.scripts import ReadScript
from roomgrad.inspect.streams import Flows
from roomgrad.names import ERRORS, LOGGING, Names

EACH = 6  # newest messages of each stream that are looked at
SHOWN = 10
LETTERS = 20


class Newest:
    """Looks at the newest messages of each stream, without their arrays."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def roots(self, client: redis.Redis, now: Flows) -> list[dict[str, Any]]:
        """The roots of which something was sent last, the newest first."""
        read = ReadScript(client, "headers")
        found: dict[str, dict[str, Any]] = {}
        for flow in now.flows:
            if not flow.added or flow.room in (ERRORS, LOGGING) or flow.room.startswith("@"):
                continue
            for entry, fields, _ in read([flow.key], ["+", EACH, HEAD_BYTES, *FIELDS]):
                pairs = dict(zip(fields[::2], fields[1::2], strict=False))
                root = pairs.get(b"ROOT_ID", b"").decode(errors="replace")[:128]
                at_ms = int(entry.partition(b"-")[0])
                if root and at_ms >= found.get(root, {"at_ms": -1})["at_ms"]:
                    found[root] = {
                        "root": root,
                        "at_ms": at_ms,
                        "room": flow.room,
                        "type": flow.type,
                    }
        newest = sorted(found.values(), key=lambda each: each["at_ms"], reverse=True)
        return newest[:SHOWN]

    def letters(self, client: redis.Redis) -> list[dict[str, Any]]:
        """What was given up last, and why."""
        newest = islice(Letters(client, self._names).newest_first(), LETTERS)
        return [
            {
                "entry": letter.entry,
                "when": letter.when,
                "component": letter.component,
                "place": " ".join(letter.place).strip(),
                "reason": letter.reason,
                "root": letter.own(b"ROOT_ID"),
            }
            for letter in newest
        ]
