"""`roomgrad down`: stop a run that is served on this machine."""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from roomgrad.cli import options as typed
from roomgrad.cli import output
from roomgrad.errors import SettingsError
from roomgrad.local import supervisor
from roomgrad.local.plan import default_run


def down(
    system: Annotated[
        str, Argument(help="The system or the swarm file; the only run that is up if empty.")
    ] = "",
    run: typed.Run = "",
) -> None:
    served = supervisor.served_runs()
    name = run or (default_run(system) if system else _only(served))
    if name and supervisor.down(name):
        output.say(f"{name} is down; its data is kept, and `roomgrad up` goes on with it.")
        return
    error = supervisor.last_error(name) if name else ""
    more = f" It had ended by itself: {error}" if error else ""
    more = more or "".join(f" {each} is: `roomgrad down --run {each}` stops it." for each in served)
    output.say(f"{name or 'no run'} is {'not ' if name else ''}up; nothing to stop.{more}")


def _only(served: list[str]) -> str:
    if len(served) > 1:
        raise SettingsError(f"{', '.join(served)} are up: name one, like `down {served[0]}`")
    return served[0] if served else ""
