"""A run: its settings, its groups, how it is created and deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import redis
import structlog

from roomgrad import schema, scripts
from roomgrad.commit import SCRIPT, Commit
from roomgrad.component import Component
from roomgrad.ensembles import ensembles
from roomgrad.errors import RunMismatch, ServerError
from roomgrad.messages import new_id
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.rooms import MessageType, System
from roomgrad.schema import Declaration
from roomgrad.snapshots.deletion import delete_all
from roomgrad.snapshots.owner import Owner

log = structlog.get_logger("roomgrad")


def groups(
    system: System, names: Names, forgotten: frozenset[str] = frozenset()
) -> Iterator[tuple[str, str, str]]:
    """Yield (room, TYPE, group) of every group that the contract declares, inboxes included."""
    for stream in system.streams:
        for consumer in stream.consumers:
            if consumer not in forgotten:
                yield *stream.key, consumer
    for component in system.components:
        if component not in forgotten:
            yield names.inbox(component), MessageType.LOG_ERROR.value, component


def forgotten(client: redis.Redis, names: Names) -> frozenset[str]:
    """Return the components whose groups were removed for good."""
    fields: list[bytes] = list(client.hkeys(names.run_info()))  # type: ignore[arg-type]
    prefix = "forgotten:"
    texts = (field.decode() for field in fields)
    return frozenset(text.removeprefix(prefix) for text in texts if text.startswith(prefix))


def check_gradients(client: redis.Redis, names: Names, component: Component) -> None:
    """Raise ContractError if a component of the run answers the same messages as this one."""
    gone = forgotten(client, names)
    declared = registry.declared_in(client, names)
    others = {name: each for name, each in declared.items() if name not in gone}
    systems = [component.system, *registry.joined_contracts(client, names)]
    own = {component.name: Declaration.of(component)}
    schema.check_gradients(registry.merge(systems), others | own)


def check_members(client: redis.Redis, names: Names, system: System) -> None:
    """Raise RunMismatch if the run was started with other sizes of the system's ensembles."""
    own = ensembles(system.components)
    stored: Any = client.hget(names.run_info(), "contract") if own else None
    before = ensembles(schema.contract_from_json(stored).components) if stored else {}
    for name in own.keys() & before.keys():
        if (now := len(own[name])) != (then := len(before[name])):
            raise RunMismatch(
                f"run {names.run!r} was started with {then} members of {name}, not {now}: continue "
                f"it with --members {then} or ROOMGRAD_MEMBERS={then}, name another run by --run, "
                f"or begin again with --fresh"
            )


def create_groups(client: redis.Redis, system: System, names: Names, own: str = "") -> int:
    """Create every group of the contract that is missing; return how many were.

    own: the component that asks. Groups that its user may not create are left to their components.
    """
    ensure_group = client.register_script(scripts.load("ensure_group"))
    wanted = list(groups(system, names, forgotten(client, names)))
    marks = [names.done(group, room, type_) for room, type_, group in wanted]
    refused = forbidden(client, names, [["ZSCORE", mark, "0-1"] for mark in marks])
    created = 0
    for number, (room, type_, group) in enumerate(wanted):
        if number not in refused or group == own:
            created += int(
                ensure_group(keys=[names.stream(room, type_), marks[number]], args=[group])
            )
    return created


def forbidden(
    client: redis.Redis, names: Names, commands: Sequence[Sequence[str]]
) -> frozenset[int]:
    """Return which of some commands, by number, this user may not run. The server logs none."""
    check = client.register_script(scripts.load("permissions"))
    numbers: list[int] = check(keys=[names.run_info()], args=[orjson.dumps(c) for c in commands])
    return frozenset(number - 1 for number in numbers)


def register(
    client: redis.Redis,
    names: Names,
    component: str,
    settings: Mapping[str, Any],
    declarations: Mapping[str, bytes] | None = None,
    before_fresh: str = "",
) -> bytes:
    """Store the settings of a component in a new run, or compare them with the run's.

    declarations: fields that describe the system and its components; the latest writer wins.
    before_fresh: that of the system.

    Returns the run's token. Raises RunMismatch with the setting that differs.
    """
    info, field = names.run_info(), f"settings:{component}"
    own = orjson.dumps(dict(settings), option=orjson.OPT_SORT_KEYS)
    declared = dict(declarations or {})
    fields = ["token", field, f"forgotten:{component}", *declared]
    known: list[Any] = client.hmget(info, fields)
    token, before, was_forgotten, *stored = known
    # A component that comes back writes nothing, since the server's memory may be full.
    if token is None or before is None or was_forgotten is not None:
        token, before = _create(client, names, component, own)
    compare(names, component, orjson.loads(before), settings, before_fresh)
    if stored != list(declared.values()):  # only after the comparison, which may refuse it
        client.hset(info, mapping=declared)  # type: ignore[arg-type]
    return bytes(token)


def _create(
    client: redis.Redis, names: Names, component: str, settings: bytes
) -> tuple[bytes, bytes]:
    """Store the settings unless there are some; return the run's token and its settings."""
    info, field = names.run_info(), f"settings:{component}"
    with client.pipeline(transaction=True) as pipeline:  # the server may be emptied at any time
        pipeline.hsetnx(info, "token", new_id())
        pipeline.hsetnx(info, field, settings)
        pipeline.hdel(info, f"forgotten:{component}")
        pipeline.hmget(info, "token", field)
        *_, (token, before) = pipeline.execute()
    return token, before


def compare(
    names: Names,
    component: str,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    before_fresh: str,
) -> None:
    """Raise RunMismatch if a run is continued with another setting than it was started with.

    A setting that only one side knows belongs to another release: its default is what was done
    before the setting existed.
    """
    now = orjson.loads(orjson.dumps(dict(now)))
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            raise RunMismatch(
                f"run {names.run!r} was started with {name} = {before[name]} of {component}, "
                f"not {now[name]}: continue it with that value, name another run by --run, or "
                f"begin again with --fresh{before_fresh and f' ({before_fresh})'}"
            )


def delete(client: redis.Redis, names: Names) -> int:
    """Delete every key of the run, and the snapshots of its models; return how many keys it had."""
    _delete_snapshots(client, names)
    keys = list(client.scan_iter(match=names.everything(), count=1000))
    for start in range(0, len(keys), 500):
        client.unlink(*keys[start : start + 500])
    return len(keys)


def _delete_snapshots(client: redis.Redis, names: Names) -> None:
    for owner in owners(client, names):
        for reason in delete_all(client.execute_command, owner):
            log.warning("a snapshot was not deleted", reason=reason)


def owners(client: redis.Redis, names: Names) -> list[Owner]:
    """Return the models of a run, each as the stores of its snapshots name it."""
    token: Any = client.hget(names.run_info(), "token") or b""
    found = sorted(registry.components_of(client, names))
    return [
        Owner(names, component, token.decode(errors="replace"))
        for component in found
        if client.exists(names.model(component))
    ]


def delete_model(client: redis.Redis, names: Names, component: str) -> list[str]:
    """Delete the model of a component that does not come back, with its log and snapshots.

    Returns what could not be deleted, each as a sentence.
    """
    left = []
    for owner in owners(client, names):
        if owner.component == component:
            left += delete_all(client.execute_command, owner)
    keys = (names.model, names.steps, names.kept, names.snapshot_lease)
    client.unlink(*(key(component) for key in keys))
    return left


def forget(
    client: redis.Redis,
    system: System | None,
    names: Names,
    component: str,
    more: Iterable[tuple[str, str]] = (),
) -> int:
    """Remove a component's groups for good, so that no history is kept for it any more.

    more: room and TYPE of streams on which it has groups beside those of the contract.

    Returns how many groups were removed.
    """
    declared = groups(system, names) if system else ()
    streams = {(room, type_) for room, type_, group in declared if group == component} | set(more)
    mark, commit = f"forgotten:{component}".encode(), Commit()
    commit.do(b"HDEL", names.run_info(), mark)  # after a deletion a script may write, also while
    commit.do(b"HSET", names.run_info(), mark, b"1")  # memory is full
    keys, arguments = commit.parts()
    outcome, *reason = client.register_script(SCRIPT)(keys, arguments)
    if outcome != b"ok":
        raise ServerError(f"the server refused: {b' '.join(reason).decode(errors='replace')}")
    removed = 0
    for room, type_ in sorted(streams):
        if client.exists(names.stream(room, type_)):
            removed += int(client.xgroup_destroy(names.stream(room, type_), component))
        client.delete(names.done(component, room, type_))
    return removed
