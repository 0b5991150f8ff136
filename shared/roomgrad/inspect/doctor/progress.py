"""The checks whether a run goes on, and if not, which component is why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from roomgrad.inspect import lost as losses
from roomgrad.inspect.doctor.findings import Finding, Level, ok, problem, warning
from roomgrad.inspect.doctor.run import DEFAULTS, LEASES, STILL_S, Run
from roomgrad.inspect.keys import entry_id
from roomgrad.inspect.lost import LostEntry, LostRoot
from roomgrad.inspect.members import order
from roomgrad.inspect.snapshot import ConsumerGroup

SHOWN = 3  # roots that a finding names


def standing(run: Run, about: str, found: str, expected: str, do: str) -> Finding:
    """Return what keeps messages waiting: a problem if nothing else goes on either."""
    if run.stands_still:
        found = f"{found}; nothing has moved for {_age(run.still_s)}"
        return Finding(Level.PROBLEM, about, found, expected, do)
    return Finding(Level.WARNING, about, found, expected, do)


def _age(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 1e9 else "as long as the server remembers"


def components(run: Run) -> Iterator[Finding]:
    """Check each component: alive, and handling what waits for it."""
    names = run.system.components if run.system else {group.name for group in run.groups}
    for component in sorted(set(names) - run.forgotten, key=order):
        behind = run.behind(component)
        waits = ", ".join(f"{each.behind} in {run.room(each.key)}" for each in behind)
        if not run.lives(component):
            if behind:
                do = run.start_or_forget(component)
                found = f"no replica is alive, and messages wait for it: {waits}"
                yield standing(run, component, found, "a heartbeat", do)
            else:
                yield ok(component, "no replica is alive, and nothing waits for it")
        elif behind and run.stands_still and not _explained(run, component):
            found = f"it is alive, and does not handle {waits}"
            yield standing(run, component, found, "a handler that runs", _read_log(component))
        else:
            yield ok(component, "alive")


def _explained(run: Run, component: str) -> bool:
    """Return whether a heartbeat says why messages wait; `loops` reports it."""
    return any(beat.error or beat.waits for beat in run.beats(component))


def _read_log(component: str) -> str:
    return f"read the log of {component}: it raises, waits, or does not run"


def loops(run: Run) -> Iterator[Finding]:
    """Report the replicas whose handler raises, that wait for a repair, or whose loop is stuck."""
    for beat in run.beats():
        if beat.error:
            found = f"its handler raises {beat.error}, and is tried again"
            expected = f"a handled message; after {DEFAULTS.max_deliveries} tries a dead letter"
            do = (
                f"read the log of {beat.component} (process {beat.pid} on {beat.host}), and mend it"
            )
            yield standing(run, beat.component, found, expected, do)
        if beat.waits:
            do = "mend what it says; it goes on by itself"
            yield standing(run, beat.component, f"it waits: {beat.waits}", "a server to use", do)
        if trouble := beat.trouble(run.snapshot.now_us / 1e6, DEFAULTS.handler_timeout_s):
            do = f"read its log, then kill {beat.pid} on {beat.host}: its message is redelivered"
            yield standing(run, beat.component, trouble, "a loop that turns", do)


def pending(run: Run) -> Iterator[Finding]:
    """Report pending messages of dead consumers, and the oldest pending message of all."""
    now_s = run.snapshot.now_us / 1e6
    oldest_s, oldest = now_s, None
    for group in run.groups:
        if not group.pending:
            continue
        client: Any = run.client
        idle = round(DEFAULTS.lease_s * LEASES * 1000)
        first = client.xpending_range(group.key, group.name, "-", "+", 1)
        yield from _abandoned(
            run, group, client.xpending_range(group.key, group.name, "-", "+", 100, idle=idle)
        )
        for entry in first:
            sent_s = entry_id(entry["message_id"].decode())[0] / 1000
            if sent_s < oldest_s:
                oldest_s, oldest = sent_s, group
    age_s = now_s - oldest_s
    if oldest is None or age_s <= DEFAULTS.handler_timeout_s:
        yield ok("oldest pending", "nothing is pending" if oldest is None else f"{age_s:.0f} s")
    elif not run.stands_still:  # else it is said of the component
        yield warning(
            "oldest pending",
            f"a message that {oldest.name} in {run.room(oldest.key)} was given {age_s:.0f} s ago "
            f"is still not committed",
            f"{DEFAULTS.handler_timeout_s:.0f} s at most",
            _read_log(oldest.name),
        )


def _abandoned(run: Run, group: ConsumerGroup, held: Any) -> Iterator[Finding]:
    counts = Counter(entry["consumer"].decode(errors="replace") for entry in held)
    level: Callable[..., Finding] = problem if run.lives(group.name) else warning
    taken = "no other replica has taken them" if run.lives(group.name) else "no replica is alive"
    for consumer, count in sorted(counts.items()):
        if consumer not in run.snapshot.heartbeats:
            yield level(
                group.name,
                f"{consumer} is dead and holds {count} messages of {run.room(group.key)} for more "
                f"than {LEASES} leases, and {taken}",
                f"redelivery to another replica after {DEFAULTS.lease_s:.0f} s",
                f"start one more: {run.start(group.name)}",
            )


def overdue(run: Run) -> Iterator[Finding]:
    """Report the delayed messages that should have been sent."""
    for component, (_, late) in sorted(run.snapshot.delayed.items()):
        if late:
            found = f"{late} delayed messages are overdue and were not sent"
            do = f"start it ({run.start(component)}); if it is alive, read its log"
            yield warning(component, found, "sent when they are due", do)


def lost(run: Run) -> Iterator[Finding]:
    """Report the open roots, and pending entries, whose message was deleted."""
    if not any(run.snapshot.open.values()) and not any(group.pending for group in run.groups):
        return
    found = losses.find(run.client, run.names, sorted(run.snapshot.open), STILL_S)
    for each in found.entries:
        yield _lost_entry(run, each)
    handled = {each.consumer for each in run.beats() if each.handling is not None}
    if found.roots and not any(each.held.consumer in handled for each in found.entries):
        yield _lost_roots(run, found.roots)


def _lost_entry(run: Run, lost: LostEntry) -> Finding:
    return warning(
        lost.group,
        f"entry {lost.entry} of {' '.join(lost.stream_key)} is pending for {lost.held.consumer}, "
        f"and was deleted from its stream, so that it is never delivered",
        "XDEL and XTRIM of entries that every group has handled",
        f"{run.server.cli} XACK '{run.names.stream(*lost.stream_key)}' {lost.group} {lost.entry}",
    )


def _lost_roots(run: Run, roots: tuple[LostRoot, ...]) -> Finding:
    alive = any(run.lives(each) for root in roots for each in root.remembered_by)
    level = problem if alive else warning
    names = ", ".join(f"{each.root_id} ({_last(each)})" for each in roots[:SHOWN])
    more = f" and {len(roots) - SHOWN} more" if len(roots) > SHOWN else ""
    by = ", ".join(sorted({each for root in roots for each in root.remembered_by}))
    count = "1 open root" if len(roots) == 1 else f"{len(roots)} open roots"
    return level(
        "lost",
        f"no message is under way of {count} remembered by {by}: {names}{more}; "
        f"it was deleted from its stream, by XDEL or XTRIM, or from a memory, by HDEL",
        "a message under way for each open root",
        f"{run.roomgrad('dead give-up --lost')}: its components forget them, and open the next",
    )


def _last(root: LostRoot) -> str:
    newest = root.newest
    return f"last seen in {' '.join(newest.stream_key)}" if newest else "no message is stored"


CHECKS = (components, loops, pending, overdue, lost)
