"""The checks of the models of a run: whether snapshots are taken, and what holds the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from roomgrad.errors import SnapshotError
from roomgrad.inspect.doctor.findings import Finding, problem, warning
from roomgrad.inspect.doctor.run import Run
from roomgrad.inspect.members import order
from roomgrad.snapshots import pointers
from roomgrad.snapshots.pointers import Snapshot

DURABLE = 3  # snapshots kept at most without an open root, beside checkpoints and the last 30 s
YOUNG_S = 30.0
MIB = 1024 * 1024


def snapshots(run: Run) -> Iterator[Finding]:
    """Report the replicas that take no snapshot, or whose snapshots other hosts cannot use."""
    for beat in run.beats():
        if beat.snapshots:
            found = f"process {beat.pid} on {beat.host}: {beat.snapshots}"
            expected = "snapshots that every replica can read, since the log grows until then"
            yield warning(
                beat.component, found, expected, "mend what it says; it goes on by itself"
            )


def held_logs(run: Run) -> Iterator[Finding]:
    """Report the forward passes that have awaited their gradient for so long that logs grow."""
    client: Any = run.client
    components = run.system.components if run.system else {each.component for each in run.beats()}
    for component in sorted(components, key=order):
        value = client.hget(run.names.model(component), pointers.FIELD)
        try:
            stored = pointers.from_json(value)
        except SnapshotError as error:
            yield problem(component, str(error), "pointers to snapshots", "roomgrad restore FILE")
            continue
        yield from _held(run, component, stored)


def _held(run: Run, component: str, stored: list[Snapshot]) -> Iterator[Finding]:
    now_s = run.snapshot.now_us / 1e6
    recent = [each for each in stored if not each.checkpoint]
    if sum(now_s - each.at > YOUNG_S for each in recent) <= DURABLE:
        return
    client: Any = run.client
    fields = client.hkeys(run.names.kept(component))
    steps = [int(step) for step in (each.partition(b"-")[0] for each in fields) if step.isdigit()]
    if not steps:
        return
    size = client.memory_usage(run.names.steps(component)) or 0
    found = (
        f"a forward pass at step {min(steps):,} awaits its gradient; the log since then, "
        f"{size / MIB:,.1f} MiB, and {len(recent)} snapshots are kept for it"
    )
    do = f"{run.roomgrad('memory ' + component)} shows it; a lost root ends by dead give-up --lost"
    yield warning(component, found, f"at most {DURABLE} durable snapshots", do)


CHECKS = (snapshots, held_logs)
