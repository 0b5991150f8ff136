"""What `roomgrad backup` and `restore` do and say."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roomgrad.cli import tables, target
from roomgrad.local.session import served
from roomgrad.ops.backup.archive import Origin, Totals
from roomgrad.ops.backup.restore import opened
from roomgrad.ops.backup.restore import restore as put
from roomgrad.ops.backup.save import save


def backup(file: str, run: str, redis_url: str, *, as_json: bool) -> None:
    """Write a run into a file. The embedded server is started for it where it does not run."""
    with served(redis_url) as (url, _), target.reached(url) as (client, _):
        saved = save(client, target.chosen(client, run), Path(file))
    if as_json:
        more = {"bytes": saved.bytes, "unpacked": saved.unpacked}
        times = {"moment_s": saved.snapshot_s, "seconds": saved.seconds}
        tables.say_json(
            {**_object(saved.origin.run, file, saved.origin, saved.totals), **more, **times}
        )
        return
    print(
        f"Run {saved.origin.run} is in {file}: {_counted(saved.totals)}, "
        f"{tables.size(saved.bytes)}. Its moment took {1000 * saved.snapshot_s:,.1f} ms."
    )


def restore(file: str, run: str, redis_url: str, *, fresh: bool, as_json: bool) -> None:
    """Put the run of a file onto a server."""
    run = run or os.environ.get("RUN", "")
    with (
        opened(Path(file)) as source,
        served(redis_url) as (url, _),
        target.reached(url) as (client, _),
    ):
        restored = put(client, source, file, run, fresh=fresh)
    if as_json:
        found = _object(restored.run, file, restored.origin, restored.totals)
        tables.say_json({**found, "backup_of": restored.origin.run, "seconds": restored.seconds})
        return
    print(
        f"Run {restored.run} stands as {restored.origin.run} did on {_when(restored.origin)} "
        f"({restored.origin.server}): {_counted(restored.totals)}. Its components go on when they "
        f"are started."
    )


def _object(run: str, file: str, origin: Origin, totals: Totals) -> dict[str, Any]:
    at = datetime.fromtimestamp(origin.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {
        "run": run,
        "file": file,
        "at": at,
        "server": origin.server,
        "roomgrad": origin.roomgrad,
        **asdict(totals),
    }


def _when(origin: Origin) -> str:
    return f"{datetime.fromtimestamp(origin.at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _counted(totals: Totals) -> str:
    return f"{totals.keys:,} keys with {totals.items:,} items"
