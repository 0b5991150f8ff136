"""The checks of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from roomgrad import systems
from roomgrad.inspect import snapshot
from roomgrad.inspect.doctor.findings import Finding, ok, problem, warning
from roomgrad.inspect.keys import parse_stream_key, scan_keys
from roomgrad.inspect.snapshot import ConsumerGroup, RunSnapshot
from roomgrad.names import ERRORS, Names, is_client_group
from roomgrad.redis import registry
from roomgrad.redis.cluster import on_cluster
from roomgrad.rooms import System
from roomgrad.runtime import runs
from roomgrad.settings import RuntimeSettings

DEFAULTS = RuntimeSettings()
LEASES = 3  # after so many leases another replica should have redelivered a message
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
EXISTS|KEY TYPE|KEY TIME MULTI EXEC MEMORY|USAGE|KEY
"""
NOTIFICATIONS = "PUBLISH|ROOM|x SUBSCRIBE|ROOM"
SHARDED = "SPUBLISH|ROOM|x SSUBSCRIBE|ROOM CLUSTER|SLOTS CLUSTER|NODES"


@dataclass(frozen=True)
class Run:
    """A run that is checked."""

    client: redis.Redis
    names: Names
    command: str
    """How to run a command on its server: `redis-cli -u ...`."""

    system: System | None
    snapshot: RunSnapshot

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.names.run

    @property
    def groups(self) -> list[ConsumerGroup]:
        """The groups of components. The gateway checks those of its clients itself."""
        return [group for group in self.snapshot.groups if not is_client_group(group.name)]

    def lives(self, component: str) -> bool:
        """Return whether any replica of a component is alive."""
        return self.snapshot.replicas(component) > 0

    def room(self, key: str) -> str:
        """Return the room and TYPE of a stream as text."""
        return " ".join(parse_stream_key(self.names, key))

    def start(self, component: str) -> str:
        """Return how to start a replica of a component."""
        module = systems.module_of(component, self.system.name if self.system else "")
        if module is None:
            return f"by its own command, with --run {self.name}"
        return f"python -m {module} --run {self.name}"

    @property
    def start_any(self) -> str:
        """How to start all components."""
        if self.system and self.system.name in systems.installed():
            return f"roomgrad up {self.system.name} --run {self.name}"
        return f"by its own command, with --run {self.name}"


def inspect(client: redis.Redis, names: Names, command: str) -> Run:
    """Read what the checks need. Raises ResponseError if the user lacks a right."""
    system = registry.system_of_run(client, names)
    components = registry.components_of(client, names)
    if system is None:
        keys = set(scan_keys(client, names.everything(), "stream")) - {names.dead()}
    else:
        keys = {names.stream(room, type_) for room, type_, _ in runs.groups(system, names)}
        components |= set(system.components)
    taken = snapshot.take(client, names, sorted(keys), components, detailed=True)
    return Run(client, names, command, system, taken)


def permissions(run: Run) -> Iterator[Finding]:
    """Check that the user may run all commands that components need."""
    stand_in = {"KEY": run.names.run_info(), "ROOM": run.names.channel(ERRORS)}
    asked = f"{COMMANDS} {SHARDED if on_cluster(run.client) else NOTIFICATIONS}".split()
    lines = [[stand_in.get(word, word) for word in line.split("|")] for line in asked]
    forbidden = runs.forbidden(run.client, run.names, lines)
    if not forbidden:
        yield ok("permissions", f"all of {len(lines)} commands", run.name)
        return
    names = [lines[number][0].lower() for number in sorted(forbidden)]
    notifying = [name for name in names if name.endswith(("publish", "subscribe"))]
    rights = [f"+{name}" for name in names if name not in notifying]
    if notifying:
        both = ("spublish", "ssubscribe") if on_cluster(run.client) else ("publish", "subscribe")
        rights += [*(f"+{name}" for name in both), f"'&{{{run.name}}}:*'"]
    yield problem(
        "permissions",
        f"this user may not run {', '.join(names)} on keys and rooms of the run",
        "all that components need",
        f"{run.command} ACL SETUSER NAME {' '.join(rights)}; and '~{{{run.name}}}:*' if it lacks "
        f"the keys",
        run.name,
    )


def types(run: Run) -> Iterator[Finding]:
    """Report the keys of the run that hold another Redis type than they should."""
    for key in run.snapshot.wrong_types:
        do = f"{run.command} RENAME '{key}' '{key}:other'"
        yield problem("key", f"{key} is of another type", "what names.py says", do, run.name)


def missing_groups(run: Run) -> Iterator[Finding]:
    """Report the groups of the contract that do not exist."""
    if run.system is None:
        found = "the run stores none and no installed system has its components"
        yield ok("contract", f"{found}, so its groups cannot be checked", run.name)
        return
    existing = {(group.key, group.name) for group in run.groups}
    forgotten = runs.forgotten(run.client, run.names)
    missing = [
        f"{component} in {room} {type_}"
        for room, type_, component in runs.groups(run.system, run.names, forgotten)
        if (run.names.stream(room, type_), component) not in existing
    ]
    if missing:
        yield warning(
            "groups",
            f"missing: {', '.join(missing)}; until they exist, no history is trimmed",
            f"those of system {run.system.name}",
            f"start any component: {run.start_any}",
            run.name,
        )
    else:
        yield ok("groups", f"those of system {run.system.name}", run.name)


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
                f"{run.command} XGROUP DESTROY '{group.key}' {group.name}",
                run.name,
            )


def unserved(run: Run) -> Iterator[Finding]:
    """Report the components without a live replica."""
    waiting: dict[str, list[str]] = defaultdict(list)
    for group in run.groups:
        if run.system and group.name not in run.system.components:
            continue
        waits = waiting[group.name]
        if group.behind:
            waits.append(f"{group.behind} in {run.room(group.key)}")
    for component, waits in sorted(waiting.items()):
        if run.lives(component):
            yield ok(component, "alive", run.name)
        elif waits:
            yield warning(
                component,
                f"no replica is alive, and messages wait for it: {', '.join(waits)}",
                "a heartbeat",
                f"start it ({run.start(component)}), or roomgrad forget {component} --run "
                f"{run.name} if it will not come back",
                run.name,
            )
        else:
            yield ok(component, "no replica is alive, and nothing waits for it", run.name)


def loops(run: Run) -> Iterator[Finding]:
    """Report the replicas that send heartbeats although their loop is stuck."""
    for beat in run.snapshot.heartbeats.values():
        trouble = (
            beat.trouble(run.snapshot.now_us / 1e6, DEFAULTS.handler_timeout_s) if beat else ""
        )
        if beat and trouble:
            do = f"read its log, then kill {beat.pid} on {beat.host}: its message is redelivered"
            yield warning(beat.component, trouble, "a loop that turns", do, run.name)


def pending(run: Run) -> Iterator[Finding]:
    """Report pending messages of dead consumers, and the oldest pending message of all."""
    now_s = run.snapshot.now_us / 1e6
    oldest_s, where = now_s, ""
    for group in run.groups:
        if not group.pending:
            continue
        lease_ms = round(DEFAULTS.lease_s * LEASES * 1000)
        first: Any = run.client.xpending_range(group.key, group.name, "-", "+", 1)
        held: Any = run.client.xpending_range(group.key, group.name, "-", "+", 100, idle=lease_ms)
        yield from _abandoned(run, group, held)
        for entry in first:
            sent_s = int(entry["message_id"].partition(b"-")[0]) / 1000
            if sent_s < oldest_s:
                oldest_s, where = sent_s, f"{group.name} in {run.room(group.key)}"
    age_s = now_s - oldest_s
    if age_s > DEFAULTS.handler_timeout_s:
        yield warning(
            "oldest pending",
            f"a message that {where} was given {age_s:.0f} s ago is still not committed",
            f"{DEFAULTS.handler_timeout_s:.0f} s at most",
            f"read the log of {where.partition(' ')[0]}: it raises, waits, or does not run",
            run.name,
        )
    else:
        yield ok("oldest pending", f"{age_s:.0f} s" if where else "nothing is pending", run.name)


def _abandoned(run: Run, group: ConsumerGroup, held: Any) -> Iterator[Finding]:
    counts: dict[str, int] = defaultdict(int)
    for entry in held:
        counts[entry["consumer"].decode(errors="replace")] += 1
    for consumer, count in sorted(counts.items()):
        if consumer in run.snapshot.heartbeats:
            continue
        others = run.lives(group.name)
        level = problem if others else warning
        taken = "and no other replica has taken them" if others else "and no replica is alive"
        yield level(
            group.name,
            f"{consumer} is dead and holds {count} messages of {run.room(group.key)} for more "
            f"than {LEASES} leases, {taken}",
            f"redelivery to another replica after {DEFAULTS.lease_s:.0f} s",
            f"start one more: {run.start(group.name)}",
            run.name,
        )


def dead_letters(run: Run) -> Iterator[Finding]:
    """Report the number of dead letters."""
    if count := run.snapshot.dead_letters:
        do = f"roomgrad dead list --run {run.name}"
        yield warning("dead letters", str(count), "none", do, run.name)
    else:
        yield ok("dead letters", "none", run.name)


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
                f"start more of it ({run.start(slowest.name)}), or roomgrad forget "
                f"{slowest.name} --run {run.name} if it will not come back",
                run.name,
            )


def overdue(run: Run) -> Iterator[Finding]:
    """Report the delayed messages that should have been sent."""
    for component, (_, late) in sorted(run.snapshot.delayed.items()):
        if late:
            do = f"start it ({run.start(component)}); if it is alive, read its log"
            found = f"{late} delayed messages are overdue and were not sent"
            yield warning(component, found, "sent when they are due", do, run.name)


def stuck(run: Run) -> Iterator[Finding]:
    """Report memory of open roots while no message of any root is under way."""
    delayed = any(count for count, _ in run.snapshot.delayed.values())
    if delayed or any(group.behind for group in run.snapshot.groups):
        return
    for component, count in sorted(run.snapshot.open.items()):
        if count:
            yield warning(
                component,
                f"it remembers {count} open roots, but no message is under way that would "
                f"continue them",
                "a message for each, or no memory",
                f"roomgrad dead list --run {run.name} may say why; then begin again with --fresh, "
                f"or {run.command} HGETALL '{run.names.memory(component)}'",
                run.name,
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
    """Return what all checks find in a run. A question that is not allowed is a finding, too."""
    try:
        run = inspect(client, names, command)
    except redis.ResponseError as error:
        return [refused(names.run, "run", error, command)]
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += check(run)
        except redis.ResponseError as error:
            found.append(refused(names.run, check.__name__, error, command))
    return found


def refused(run: str, about: str, error: Exception, command: str) -> Finding:
    """Return the finding that the server did not answer a question."""
    keys = f"'~{{{run}}}:*'" if run else "allkeys"
    return warning(
        about,
        f"cannot be checked ({error})",
        "an answer",
        f"{command} ACL SETUSER NAME +@read +@scripting {keys}; or connect as another user by "
        f"--redis",
        run,
    )
