"""Why a question has no answer: its root was given up, a handler raises, or a component is away."""

from __future__ import annotations

from typing import Any

import redis

from roomgrad import codec
from roomgrad.errors import DecodeError
from roomgrad.names import ERRORS, Names
from roomgrad.redis import heartbeats
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
    alive = [each for each in heartbeats.find(client, names) if each.component in system.components]
    if failing := [each for each in alive if each.error]:
        return f"{failing[0].component} raises {failing[0].error}, and tries again"
    if waiting := [each for each in alive if each.waits]:
        return f"{waiting[0].component} waits: {waiting[0].waits}"
    living = heartbeats.living(client, names)
    away = [each for each in _behind(client, names, system) if not living[each]]
    if away:
        start = f"`roomgrad doctor --run {names.run}` says how to start it"
        return f"messages wait for {', '.join(away)}, of which no replica is alive: {start}"
    if not alive:
        return f"are its components running? `roomgrad doctor --run {names.run}` tells"
    return (
        f"its components are alive: `roomgrad trace {root_id} --run {names.run}` shows where it is"
    )


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


def _behind(client: redis.Redis, names: Names, system: System) -> list[str]:
    """Return the components for which messages wait."""
    with client.pipeline(transaction=False) as pipeline:
        for stream in system.streams:
            pipeline.xinfo_groups(names.stream(*stream.key))
        answers: list[Any] = pipeline.execute(raise_on_error=False)
    groups = [group for each in answers if isinstance(each, list) for group in each]
    behind = {group["name"].decode() for group in groups if group["lag"] or group["pending"]}
    return [each for each in system.components if each in behind]
