"""A run: its settings, its groups, its beginning and its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import redis
import structlog

from roomgrad import scripts
from roomgrad.errors import RunMismatch
from roomgrad.messages import new_id
from roomgrad.names import Names
from roomgrad.rooms import MessageType, System

log = structlog.get_logger("roomgrad")


def groups(
    system: System, names: Names, forgotten: frozenset[str] = frozenset()
) -> Iterator[tuple[str, str, str]]:
    """(room, TYPE, group) for every group that the contract declares, inboxes included."""
    for stream in system.streams:
        for consumer in stream.consumers:
            if consumer not in forgotten:
                yield *stream.key, consumer
    for component in system.components:
        if component not in forgotten:
            yield names.inbox(component), MessageType.LOG_ERROR.value, component


def forgotten(client: redis.Redis, names: Names) -> frozenset[str]:
    """The components whose groups were removed for good."""
    fields: list[bytes] = list(client.hkeys(names.run_info()))  # type: ignore[arg-type]
    prefix = "forgotten:"
    texts = (field.decode() for field in fields)
    return frozenset(text.removeprefix(prefix) for text in texts if text.startswith(prefix))


def create_groups(client: redis.Redis, system: System, names: Names, mine: str = "") -> int:
    """Creates every group of the contract that is missing; answers how many were.

    mine: the component that asks. Where it may not make the groups of others, they make them.
    """
    restore = client.register_script(scripts.load("ensure_group"))
    wanted = list(groups(system, names, forgotten(client, names)))
    marks = [names.done(group, room, type_) for room, type_, group in wanted]
    refused = forbidden(client, names, [["ZSCORE", mark, "0-1"] for mark in marks])
    made = 0
    for number, (room, type_, group) in enumerate(wanted):
        if number not in refused or group == mine:
            made += int(restore(keys=[names.stream(room, type_), marks[number]], args=[group]))
    return made


def forbidden(
    client: redis.Redis, names: Names, commands: Sequence[Sequence[str]]
) -> frozenset[int]:
    """Which of some commands, by number, this user may not run; nothing of it is logged."""
    check = client.register_script(scripts.load("permissions"))
    numbers: list[int] = check(keys=[names.run_info()], args=[orjson.dumps(c) for c in commands])
    return frozenset(number - 1 for number in numbers)


def register(
    client: redis.Redis,
    names: Names,
    component: str,
    settings: Mapping[str, Any],
    said: Mapping[str, bytes] | None = None,
) -> bytes:
    """Writes the settings of a component into a new run, or compares them with the run's.

    said: fields by which others see what the system is; the newest version of a component is
    believed.

    Returns the run's token. Raises RunMismatch with the setting that differs.
    """
    info, field = names.run_info(), f"settings:{component}"
    mine = orjson.dumps(dict(settings), option=orjson.OPT_SORT_KEYS)
    with client.pipeline(transaction=True) as together:  # the server may be emptied at any time
        together.hsetnx(info, "token", new_id())
        together.hsetnx(info, field, mine)
        together.hdel(info, f"forgotten:{component}")
        together.hmget(info, "token", field)
        *_, (token, before) = together.execute()
    compare(names, component, orjson.loads(before), settings)
    if said:  # who is refused has nothing to say
        client.hset(info, mapping=dict(said))  # type: ignore[arg-type]
    return bytes(token)


def compare(
    names: Names, component: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Raises RunMismatch when a run is continued with another setting than it was started with.

    What only one side knows is a setting that another release has: its default is what was done
    before there was one.
    """
    now = orjson.loads(orjson.dumps(dict(now)))
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            raise RunMismatch(
                f"run {names.run!r} was started with {name} = {before[name]} of {component}, "
                f"not {now[name]}: continue it with that value, name another run by --run, or "
                f"begin again with --fresh"
            )


def delete(client: redis.Redis, names: Names) -> int:
    """Deletes every key of the run; answers how many there were."""
    keys = list(client.scan_iter(match=names.everything(), count=1000))
    for start in range(0, len(keys), 500):
        client.unlink(*keys[start : start + 500])
    return len(keys)


def forget(client: redis.Redis, system: System, names: Names, component: str) -> int:
    """Removes a component's groups for good, so that history need not wait for it any more."""
    client.hset(names.run_info(), f"forgotten:{component}", "1")
    removed = 0
    for room, type_, group in groups(system, names):
        if group == component:
            if client.exists(names.stream(room, type_)):
                removed += int(client.xgroup_destroy(names.stream(room, type_), group))
            client.delete(names.done(group, room, type_))
    return removed
