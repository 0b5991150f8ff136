"""`roomgrad restore`: put a saved run onto a server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from roomgrad import variables
from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.cli.backup import count, to_json
from roomgrad.flags import load
from roomgrad.local.session import running_server
from roomgrad.ops.backup import restore as backups
from roomgrad.settings import RuntimeSettings


def restore(
    file: Annotated[str, Argument(help="A file that backup wrote.", metavar="FILE")],
    run: Annotated[str, Option(help="Name of the run; its former name if empty.")] = "",
    redis: typed.Redis = "",
    fresh: typed.Fresh = False,
    as_json: typed.AsJson = False,
) -> None:
    run = run or variables.get("run")
    settings = load(RuntimeSettings, [])  # where snapshots of models are stored
    with (
        backups.opened(Path(file)) as source,
        running_server(redis) as (url, _),
        target.connected(url) as (client, _),
    ):
        restored = backups.restore(client, source, file, run, fresh=fresh, settings=settings)
    origin, totals = restored.origin, restored.totals
    if as_json:
        more = {"backup_of": origin.run, "seconds": restored.seconds}
        output.print_json({**to_json(restored.run, file, origin, totals), **more})
        return
    at = datetime.fromtimestamp(origin.at_ms / 1000, UTC)
    output.say(
        f"Run {restored.run} is restored to the state of {origin.run} on {at:%Y-%m-%d %H:%M:%S} "
        f"UTC ({origin.server}): {count(totals)}. Start its components to continue."
    )
