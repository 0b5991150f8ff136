"""The checks of a run: its permissions, keys, groups, history, and whether it goes on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

import redis

from roomgrad.inspect.doctor import models, progress
from roomgrad.inspect.doctor.findings import Finding, Level, ok, problem, warning
from roomgrad.inspect.doctor.run import DEFAULTS, Run, Server, read
from roomgrad.names import ERRORS, Names
from roomgrad.redis import users
from roomgrad.redis.cluster import on_cluster
from roomgrad.runtime import runs

MUCH = 2  # times the limit of history, which is trimmed only now and then
MIB = 1024 * 1024

# The commands of the runtime, its scripts and the CLI. KEY and ROOM stand for names of the run.
COMMANDS = """
EVAL|x|1|KEY EVALSHA|x|1|KEY SCRIPT|LOAD|x XADD|KEY|*|m|x XACK|KEY|g|1-0 XDEL|KEY|1-0 XLEN|KEY
XREADGROUP|GROUP|g|c|STREAMS|KEY|> XREAD|STREAMS|KEY|0 XCLAIM|KEY|g|c|0|1-0 XPENDING|KEY|g
XGROUP|CREATE|KEY|g|0 XINFO|GROUPS|KEY XTRIM|KEY|MAXLEN|1 XRANGE|KEY|-|+
HGET|KEY|f HMGET|KEY|f HGETALL|KEY HSET|KEY|f|x HSETNX|KEY|f|x HDEL|KEY|f HKEYS|KEY
HINCRBY|KEY|f|1 HEXISTS|KEY|f ZADD|KEY|0|m ZSCORE|KEY|m ZRANGE|KEY|0|0 ZREM|KEY|m
ZRANGEBYSCORE|KEY|0|1 ZREMRANGEBYRANK|KEY|0|0 ZREMRANGEBYSCORE|KEY|0|1 SET|KEY|x DEL|KEY
EXISTS|KEY TYPE|KEY TIME MULTI EXEC MEMORY|USAGE|KEY GET|KEY STRLEN|KEY PERSIST|KEY UNLINK|KEY
"""
NOTIFICATIONS = "PUBLISH|ROOM|x SUBSCRIBE|ROOM"
SHARDED = "SPUBLISH|ROOM|x SSUBSCRIBE|ROOM CLUSTER|SLOTS CLUSTER|NODES"


def permissions(run: Run) -> Iterator[Finding]:
    """Check that the user may run all commands that components need."""
    stand_in = {"KEY": run.names.run_info(), "ROOM": run.names.channel(ERRORS)}
    asked = f"{COMMANDS} {SHARDED if on_cluster(run.client) else NOTIFICATIONS}".split()
    lines = [[stand_in.get(word, word) for word in line.split("|")] for line in asked]
    forbidden = runs.forbidden(run.client, run.names, lines)
    if not forbidden:
        yield ok("permissions", f"all of {len(lines)} commands")
        return
    names = [lines[number][0].lower() for number in sorted(forbidden)]
    notifying = [name for name in names if name.endswith(("publish", "subscribe"))]
    rights = [f"+{name}" for name in names if name not in notifying]
    if notifying:
        both = ("spublish", "ssubscribe") if on_cluster(run.client) else ("publish", "subscribe")
        rights += [*(f"+{name}" for name in both), f"'&{{{run.names.run}}}:*'"]
    yield problem(
        "permissions",
        f"this user may not run {', '.join(names)} on keys and rooms of the run",
        "all that components need",
        f"{run.server.cli} ACL SETUSER NAME {' '.join(rights)}; and '~{{{run.names.run}}}:*' if it "
        f"lacks the keys",
    )


def others(run: Run) -> Iterator[Finding]:
    """Check that the users of components may reach those that have joined since."""
    components = run.system.components if run.system else ()
    if unreachable := users.unreachable(run.client, run.names, components):
        yield problem(
            "users",
            f"{unreachable}, so that no root is given up",
            "rules made after all components had joined",
            f"{run.roomgrad('acl')} prints them: add the passwords and load them by ACL LOAD",
        )


def types(run: Run) -> Iterator[Finding]:
    """Report the keys of the run that hold another Redis type than they should."""
    for key in run.snapshot.wrong_types:
        do = f"{run.server.cli} RENAME '{key}' '{key}:other'"
        yield problem("key", f"{key} is of another type", "what names.py says", do)


def missing_groups(run: Run) -> Iterator[Finding]:
    """Report the groups of the contract that do not exist."""
    if run.system is None:
        found = "the run stores none and no installed system has its components"
        yield ok("contract", f"{found}, so its groups cannot be checked")
        return
    existing = {(group.key, group.name) for group in run.groups}
    missing = [
        f"{component} in {room} {type_}"
        for room, type_, component in runs.groups(run.system, run.names, run.forgotten)
        if (run.names.stream(room, type_), component) not in existing
    ]
    if missing:
        yield warning(
            "groups",
            f"missing: {', '.join(missing)}; until they exist, no history is trimmed",
            f"those of system {run.system.name}",
            f"start any component: {run.start_any}",
        )
    else:
        yield ok("groups", f"those of system {run.system.name}")


def unknown_groups(run: Run) -> Iterator[Finding]:
    """Report groups that are not in the contract: history is trimmed without regard to them."""
    if run.system is None:
        return
    known = {(run.names.stream(r, t), c) for r, t, c in runs.groups(run.system, run.names)}
    for group in run.groups:
        if (group.key, group.name) not in known:
            yield warning(
                "groups",
                f"{group.name} in {run.room(group.key)} is no group of the contract; "
                f"{group.behind} messages wait for it, and history is trimmed all the same",
                f"groups of system {run.system.name}",
                f"{run.server.cli} XGROUP DESTROY '{group.key}' {shlex.quote(group.name)}",
            )


def dead_letters(run: Run) -> Iterator[Finding]:
    """Report the number of dead letters."""
    if count := run.snapshot.dead_letters:
        yield warning("dead letters", str(count), "none", run.roomgrad("dead list"))
    else:
        yield ok("dead letters", "none")


def history(run: Run) -> Iterator[Finding]:
    """Report the streams that cannot be trimmed because of a slow group."""
    known = set(run.system.components) if run.system else None
    for stream in run.snapshot.streams:
        too_many = stream.length > MUCH * DEFAULTS.history_entries
        too_large = stream.bytes > MUCH * DEFAULTS.history_mib * MIB
        owing = [g for g in stream.groups if g.behind and (known is None or g.name in known)]
        if owing and (too_many or too_large):
            slowest = max(owing, key=lambda group: group.behind)
            yield warning(
                "history",
                f"{run.room(stream.key)} holds {stream.length:,} messages, "
                f"{stream.bytes / MIB:.0f} MiB; {slowest.name} still owes {slowest.behind:,}",
                f"about {DEFAULTS.history_entries:,} messages, {DEFAULTS.history_mib:.0f} MiB",
                run.start_or_forget(slowest.name),
            )


CHECKS = (
    permissions,
    others,
    types,
    missing_groups,
    unknown_groups,
    *progress.CHECKS,
    *models.CHECKS,
    dead_letters,
    history,
)


def findings(client: redis.Redis, names: Names, server: Server) -> list[Finding]:
    """Return what all checks find in a run. A question that is not allowed is a finding, too."""
    try:
        run = read(client, names, server)
    except redis.ResponseError as error:
        return [refused(names.run, "run", error, server)]
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += [replace(each, run=names.run) for each in check(run)]
        except redis.ResponseError as error:
            found.append(refused(names.run, check.__name__, error, server))
    return found


def refused(run: str, about: str, error: Exception, server: Server) -> Finding:
    """Return the finding that the server did not answer a question."""
    keys = f"'~{{{run}}}:*'" if run else "allkeys"
    do = f"{server.cli} ACL SETUSER NAME +@read +@scripting {keys}; or connect as another user"
    return Finding(Level.WARNING, about, f"cannot be checked ({error})", "an answer", do, run)
