"""What is looked at in a run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import redis

from roomgrad import systems
from roomgrad.inspect.doctor.findings import Finding, ok, problem, warning
from roomgrad.inspect.snapshot import Look, look, place
from roomgrad.names import ERRORS, Names
from roomgrad.redis.cluster import on_cluster
from roomgrad.runtime import heartbeats, runs
from roomgrad.settings import RuntimeSettings

DEFAULTS = RuntimeSettings()
LEASES = 3  # how long somebody else may take to take a message over
MUCH = 2  # times the limit of history: it is trimmed now and then only
MIB = 1024 * 1024

# What the runtime, its scripts and the commands send; KEY and ROOM stand for names of the run.
COMMANDS = """
EVAL|x|1|KEY EVALSHA|x|1|KEY SCRIPT|LOAD|x XADD|KEY|*|m|x XACK|KEY|g|1-0 XDEL|KEY|1-0 XLEN|KEY
XREADGROUP|GROUP|g|c|STREAMS|KEY|> XREAD|STREAMS|KEY|0 XCLAIM|KEY|g|c|0|1-0 XPENDING|KEY|g
XGROUP|CREATE|KEY|g|0 XINFO|GROUPS|KEY XTRIM|KEY|MAXLEN|1 XRANGE|KEY|-|+
HGET|KEY|f HMGET|KEY|f HGETALL|KEY HSET|KEY|f|x HSETNX|KEY|f|x HDEL|KEY|f HKEYS|KEY
HINCRBY|KEY|f|1 HEXISTS|KEY|f ZADD|KEY|0|m ZSCORE|KEY|m ZRANGE|KEY|0|0 ZREM|KEY|m
ZRANGEBYSCORE|KEY|0|1 ZREMRANGEBYRANK|KEY|0|0 ZREMRANGEBYSCORE|KEY|0|1 SET|KEY|x DEL|KEY
EXISTS|KEY TYPE|KEY TIME MULTI EXEC MEMORY|USAGE|KEY
"""
RINGS = "PUBLISH|ROOM|x SUBSCRIBE|ROOM"
SHARDED = "SPUBLISH|ROOM|x SSUBSCRIBE|ROOM CLUSTER|SLOTS CLUSTER|NODES"


def permissions(look: Look) -> Iterator[Finding]:
    """Components that are this user need them all."""
    stand_in = {"KEY": look.names.run_info(), "ROOM": look.names.channel(ERRORS)}
    asked = f"{COMMANDS} {SHARDED if on_cluster(look.client) else RINGS}".split()
    lines = [[stand_in.get(word, word) for word in line.split("|")] for line in asked]
    forbidden = runs.forbidden(look.client, look.names, lines)
    if not forbidden:
        yield ok("permissions", f"all of {len(lines)} commands", look.run)
        return
    names = [lines[number][0].lower() for number in sorted(forbidden)]
    ringing = [name for name in names if name.endswith(("publish", "subscribe"))]
    rights = [f"+{name}" for name in names if name not in ringing]
    if ringing:
        both = ("spublish", "ssubscribe") if on_cluster(look.client) else ("publish", "subscribe")
        rights += [*(f"+{name}" for name in both), f"'&{{{look.run}}}:*'"]
    yield problem(
        "permissions",
        f"this user may not run {', '.join(names)} on keys and rooms of the run",
        "all that components need",
        f"{look.command} ACL SETUSER NAME {' '.join(rights)}; and '~{{{look.run}}}:*' if it lacks "
        f"the keys",
        look.run,
    )


def types(look: Look) -> Iterator[Finding]:
    """A key of another type under a name of the run."""
    for key in look.wrong:
        do = f"{look.command} RENAME '{key}' '{key}:other'"
        yield problem("key", f"{key} is of another type", "what names.py says", do, look.run)


def missing_groups(look: Look) -> Iterator[Finding]:
    """Groups of the contract that are not there."""
    if look.system is None:
        found = "no contract here knows its components, so that its groups cannot be judged"
        yield ok("contract", found, look.run)
        return
    there = {(group.key, group.name) for group in look.groups}
    gone = runs.forgotten(look.client, look.names)
    missing = [
        f"{component} in {room} {type_}"
        for room, type_, component in runs.groups(look.system, look.names, gone)
        if (look.names.stream(room, type_), component) not in there
    ]
    if missing:
        yield warning(
            "groups",
            f"missing: {', '.join(missing)}; until they are back, no history is trimmed",
            f"those of system {look.system.name}",
            f"start any component: roomgrad up {look.system.name} --run {look.run}",
            look.run,
        )
    else:
        yield ok("groups", f"those of system {look.system.name}", look.run)


def unknown_groups(look: Look) -> Iterator[Finding]:
    """Groups that no contract knows: nobody trims for them, and nobody else serves them."""
    if look.system is None:
        return
    known = {(look.names.stream(r, t), c) for r, t, c in runs.groups(look.system, look.names)}
    for group in look.groups:
        if (group.key, group.name) not in known:
            yield warning(
                "groups",
                f"{group.name} in {place(look.names, group.key)} is no group of the contract; "
                f"{group.behind} messages wait for it, and history is trimmed all the same",
                f"groups of system {look.system.name}",
                f"{look.command} XGROUP DESTROY '{group.key}' {group.name}",
                look.run,
            )


def unserved(look: Look) -> Iterator[Finding]:
    """Components of which no replica lives."""
    behind: dict[str, list[str]] = defaultdict(list)
    for group in look.groups:
        if look.system and group.name not in look.system.components:
            continue
        waits = behind[group.name]
        if group.behind:
            waits.append(f"{group.behind} in {place(look.names, group.key)}")
    for component, waits in sorted(behind.items()):
        if look.lives(component):
            yield ok(component, "lives", look.run)
        elif waits:
            yield warning(
                component,
                f"no replica lives, and messages wait for it: {', '.join(waits)}",
                "a heartbeat",
                f"start it ({_start(look, component)}), or roomgrad forget {component} --run "
                f"{look.run} if it will not come back",
                look.run,
            )
        else:
            yield ok(component, "no replica lives, and nothing waits for it", look.run)


def _start(look: Look, component: str) -> str:
    module = systems.module_of(component)
    return f"python -m {module} --run {look.run}" if module else f"run {look.run}"


def loops(look: Look) -> Iterator[Finding]:
    """Replicas whose heart beats, but whose loop stands still."""
    for beat in heartbeats.find(look.client, look.names):
        trouble = beat.trouble(time.time(), DEFAULTS.handler_timeout_s)
        if trouble:
            do = f"read its log, then kill {beat.pid} on {beat.host}: its message is taken over"
            yield warning(beat.component, trouble, "a loop that turns", do, look.run)


def pending(look: Look) -> Iterator[Finding]:
    """What dead consumers hold, and what is the oldest of all."""
    oldest, where = look.now, ""
    for group in look.groups:
        if not group.pending:
            continue
        lease_ms = round(DEFAULTS.lease_s * LEASES * 1000)
        first: Any = look.client.xpending_range(group.key, group.name, "-", "+", 1)
        held: Any = look.client.xpending_range(group.key, group.name, "-", "+", 100, idle=lease_ms)
        yield from _abandoned(look, group.name, group.key, held)
        for entry in first:
            sent = int(entry["message_id"].partition(b"-")[0]) / 1000
            if sent < oldest:
                oldest, where = sent, f"{group.name} in {place(look.names, group.key)}"
    age_s = look.now - oldest
    if age_s > DEFAULTS.handler_timeout_s:
        yield warning(
            "oldest pending",
            f"a message that {where} was given {age_s:.0f} s ago is still not committed",
            f"{DEFAULTS.handler_timeout_s:.0f} s at most",
            f"read the log of {where.partition(' ')[0]}: it raises, waits, or does not run",
            look.run,
        )
    else:
        yield ok("oldest pending", f"{age_s:.0f} s" if where else "nothing is pending", look.run)


def _abandoned(look: Look, component: str, key: str, held: Any) -> Iterator[Finding]:
    by: dict[str, int] = defaultdict(int)
    for entry in held:
        by[entry["consumer"].decode(errors="replace")] += 1
    for consumer, count in sorted(by.items()):
        if consumer in look.living:
            continue
        taken = "and nobody has taken them over" if look.lives(component) else "and nobody can"
        level = problem if look.lives(component) else warning
        yield level(
            component,
            f"{consumer} is dead and holds {count} messages of {place(look.names, key)} for more "
            f"than {LEASES} leases, {taken}",
            f"that another replica takes them over after {DEFAULTS.lease_s:.0f} s",
            f"start one more: {_start(look, component)}",
            look.run,
        )


def dead_letters(look: Look) -> Iterator[Finding]:
    """What was given up."""
    if look.dead:
        do = f"roomgrad dead list --run {look.run}"
        yield warning("dead letters", str(look.dead), "none", do, look.run)
    else:
        yield ok("dead letters", "none", look.run)


def history(look: Look) -> Iterator[Finding]:
    """Streams that some group keeps from being trimmed."""
    known = set(look.system.components) if look.system else None
    for stream in look.streams:
        too_many = stream.length > MUCH * DEFAULTS.history_entries
        too_large = stream.bytes > MUCH * DEFAULTS.history_mib * MIB
        owing = [g for g in stream.groups if g.behind and (known is None or g.name in known)]
        if owing and (too_many or too_large):
            slowest = max(owing, key=lambda group: group.behind)
            yield warning(
                "history",
                f"{place(look.names, stream.key)} holds {stream.length:,} messages, "
                f"{stream.bytes / MIB:.0f} MiB; {slowest.name} still owes {slowest.behind:,}",
                f"about {DEFAULTS.history_entries:,} messages, {DEFAULTS.history_mib:.0f} MiB",
                f"start more of it ({_start(look, slowest.name)}), or roomgrad forget "
                f"{slowest.name} --run {look.run} if it will not come back",
                look.run,
            )


def overdue(look: Look) -> Iterator[Finding]:
    """Messages for later whose time has come."""
    for component, (_, late) in sorted(look.later.items()):
        if late:
            do = f"start it ({_start(look, component)}); if it lives, its log says what is wrong"
            found = f"{late} messages for later are overdue: nobody has sent them"
            yield warning(component, found, "sent when they are due", do, look.run)


def stuck(look: Look) -> Iterator[Finding]:
    """Memory of open roots, while no message of any root is under way."""
    groups = [group for stream in look.streams for group in stream.groups]
    moves = any(group.behind for group in groups) or any(n for n, _ in look.later.values())
    for component, count in sorted(look.open.items()):
        if count and not moves:
            yield warning(
                component,
                f"it remembers {count} open roots, but no message is under way that would go on "
                f"with them",
                "a message for each, or no memory",
                f"roomgrad dead list --run {look.run} may say why; then begin again with --fresh, "
                f"or {look.command} HGETALL '{look.names.memory(component)}'",
                look.run,
            )


CHECKS = (
    permissions,
    types,
    missing_groups,
    unknown_groups,
    unserved,
    loops,
    pending,
    dead_letters,
    history,
    overdue,
    stuck,
)


def findings(client: redis.Redis, names: Names, command: str) -> list[Finding]:
    """What all checks have found in a run. What may not be asked is a finding, too."""
    try:
        seen = look(client, names, command)
    except redis.ResponseError as error:
        return [unasked(names.run, "run", error, command)]
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += check(seen)
        except redis.ResponseError as error:
            found.append(unasked(names.run, check.__name__, error, command))
    return found


def unasked(run: str, about: str, error: Exception, command: str) -> Finding:
    """What the server does not answer cannot be judged."""
    keys = f"'~{{{run}}}:*'" if run else "allkeys"
    return warning(
        about,
        f"cannot be asked ({error})",
        "an answer",
        f"{command} ACL SETUSER NAME +@read +@scripting {keys}; or ask as another user by --redis",
        run,
    )
