"""The newest roots of a run, and its newest dead letters."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import redis

from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.inspect.entries import MessageHeader, newest_headers
from roomgrad.inspect.scripts import ReadScript
from roomgrad.inspect.snapshot import RunSnapshot
from roomgrad.names import ERRORS, LOGGING, Names

MESSAGES = 6  # newest messages of each stream that are read
ROOTS = 10
LETTERS = 20


def newest_messages(client: redis.Redis, now: RunSnapshot) -> list[MessageHeader]:
    """Return the headers of the newest messages of each stream. Arrays are not read."""
    script = ReadScript(client, "headers")
    return [
        each
        for flow in now.streams
        if flow.added and flow.room not in (ERRORS, LOGGING) and not flow.room.startswith("@")
        for each in newest_headers(script, flow.key, flow.stream_key, MESSAGES)
    ]


def newest_roots(messages: Iterable[MessageHeader]) -> list[dict[str, Any]]:
    """Return the roots of the newest messages, newest first."""
    newest: dict[str, MessageHeader] = {}
    for each in sorted(messages, key=lambda each: each.order):
        if each.root_id:
            newest[each.root_id] = each
    found = sorted(newest.values(), key=lambda each: each.order, reverse=True)[:ROOTS]
    return [
        {
            "root": each.root_id,
            "at_ms": each.order[0],
            "room": each.stream_key[0],
            "type": each.stream_key[1],
        }
        for each in found
    ]


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
