"""The newest roots of a run, and its newest dead letters."""

from __future__ import annotations

from itertools import islice
from typing import Any

import redis

from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.inspect.entries import FIELDS, HEAD_BYTES
from roomgrad.inspect.scripts import ReadScript
from roomgrad.inspect.snapshot import RunSnapshot
from roomgrad.names import ERRORS, LOGGING, Names

MESSAGES = 6  # newest messages of each stream that are read
ROOTS = 10
LETTERS = 20


def newest_roots(client: redis.Redis, now: RunSnapshot) -> list[dict[str, Any]]:
    """Return the roots with the newest messages, newest first. Arrays are not read."""
    read = ReadScript(client, "headers")
    found: dict[str, dict[str, Any]] = {}
    for flow in now.streams:
        if not flow.added or flow.room in (ERRORS, LOGGING) or flow.room.startswith("@"):
            continue
        for entry, fields, _ in read([flow.key], ["+", MESSAGES, HEAD_BYTES, *FIELDS]):
            pairs = dict(zip(fields[::2], fields[1::2], strict=False))
            root = pairs.get(b"ROOT_ID", b"").decode(errors="replace")[:128]
            at_ms = int(entry.partition(b"-")[0])
            if root and at_ms >= found.get(root, {"at_ms": -1})["at_ms"]:
                about = {"root": root, "at_ms": at_ms, "room": flow.room, "type": flow.type}
                found[root] = about
    return sorted(found.values(), key=lambda each: each["at_ms"], reverse=True)[:ROOTS]


def newest_letters(client: redis.Redis, names: Names) -> list[dict[str, Any]]:
    """Return the newest dead letters with their reasons, newest first."""
    return [
        {
            "entry": letter.entry,
            "when": letter.when,
            "component": letter.component,
            "place": " ".join(letter.stream_key).strip(),
            "reason": letter.reason,
            "root": letter.message_field(b"ROOT_ID"),
        }
        for letter in islice(DeadLetters(client, names).newest_first(), LETTERS)
    ]
