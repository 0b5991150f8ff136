"""`roomgrad backup`: save a run to a file."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from typer import Argument

from roomgrad import variables
from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.local.session import running_server
from roomgrad.ops.backup.archive import Origin, Totals
from roomgrad.ops.backup.save import save


def backup(
    file: Annotated[str, Argument(help="The file to write.", metavar="FILE")],
    run: typed.AnyRun = "",
    force: typed.Force = False,
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    with running_server(redis) as (url, _), target.opened(run, url) as (client, names, _):
        saved = save(client, names, Path(file), force=force, snapshots=variables.get("snapshots"))
    origin, totals = saved.origin, saved.totals
    for warning in saved.warnings:
        output.warn(warning)
    if as_json:
        sizes = {"bytes": saved.bytes, "unpacked": saved.unpacked}
        times = {"moment_s": saved.snapshot_s, "seconds": saved.seconds}
        output.print_json({**to_json(origin.run, file, origin, totals), **sizes, **times})
        return
    output.say(
        f"Run {origin.run} is saved in {file}: {count(totals)}, {output.format_size(saved.bytes)}. "
        f"The snapshot took {1000 * saved.snapshot_s:,.1f} ms."
    )


def to_json(run: str, file: str, origin: Origin, totals: Totals) -> dict[str, Any]:
    """Return what a file contains, for JSON."""
    at = datetime.fromtimestamp(origin.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    where = {"run": run, "file": file, "at": at}
    return {**where, "server": origin.server, "roomgrad": origin.roomgrad, **asdict(totals)}


def count(totals: Totals) -> str:
    """Return how much a file contains."""
    return f"{totals.keys:,} keys with {totals.items:,} items"
