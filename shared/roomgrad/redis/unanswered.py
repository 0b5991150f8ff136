"""Why a question has no answer: its root was given up, a handler raises, or a component is away."""

from __future__ import annotations

from typing import Any

import redis

from roomgrad import codec
from roomgrad.errors import DecodeError
from roomgrad.names import ERRORS, Names
from roomgrad.redis import heartbeats, whereabouts
from roomgrad.rooms import MessageType, System

NEWEST = 200  # reports in room `errors` that are searched


def reason(client: redis.Redis, names: Names, system: System, root_id: str) -> str:
    """Return why no answer came to a root, as one sentence with what to do."""
    try:
        return _reason(client, names, system, root_id)
    except redis.RedisError as error:
        return f"the server does not say why ({error})"


def _reason(client: redis.Redis, names: Names, system: System, root_id: str) -> str:
    if given_up := _report(client, names, root_id):
        return f"{given_up}; `roomgrad dead list --run {names.run}` shows it"
    alive = heartbeats.read(client, names)
    of_system = [each for each in alive.values() if each and each.component in system.components]
    if failing := [each for each in of_system if each.error]:
        return f"{failing[0].component} raises {failing[0].error}, and tries again"
    if waiting := [each for each in of_system if each.waits]:
        return f"{waiting[0].component} waits: {waiting[0].waits}"
    if place := whereabouts.find(client, names, system, root_id):
        return place.describe(alive, names.run)
    if not of_system:
        return f"are its components running? `roomgrad doctor --run {names.run}` tells"
    trace = f"`roomgrad trace {root_id} --run {names.run}` shows them"
    return f"its messages are handled, and lead no further: {trace}"


def _report(client: redis.Redis, names: Names, root_id: str) -> str:
    """Return the text of the newest report that gives up a message of a root, or an empty text."""
    key = names.stream(ERRORS, MessageType.LOG_ERROR.value)
    found: Any = client.xrevrange(key, count=NEWEST)
    for _, pairs in found:
        if pairs.get(b"ROOT_ID") == root_id.encode():
            try:
                return str(codec.parse_body(pairs.get(b"m", b"{}")).get("TEXT", ""))
            except DecodeError:
                return ""
    return ""
