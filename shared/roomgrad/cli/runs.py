"""`roomgrad runs` and `roomgrad runs delete`: the runs of a server, and how they are deleted."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import redis as redis_py
import typer
from typer import Argument, Option

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.display import printable
from roomgrad.errors import SettingsError
from roomgrad.inspect import run_list
from roomgrad.inspect.run_list import RunState
from roomgrad.local.plan import hint
from roomgrad.local.session import running_server, serving_process
from roomgrad.names import Names
from roomgrad.ops.compaction import compact
from roomgrad.redis.cluster import switch_run
from roomgrad.runtime import runs as lifecycle
from roomgrad.state import run_directory, server_directory

COLUMNS = ("run", "?system", "replicas", "last message", "?keys", "memory", "?logs")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

runs = typer.Typer(add_completion=False)


@runs.callback(invoke_without_command=True)
def list_(context: typer.Context, redis: typed.Redis = "", as_json: typed.AsJson = False) -> None:
    """List the runs; `delete` is a command of its own."""
    if context.invoked_subcommand:
        return
    with _server(redis) as (client, embedded):
        found = run_list.inspect(client)
        used = _used(client)
    disk = _size(server_directory()) if embedded else 0
    if as_json:
        rows = [{**vars(each), "logs": _size(run_directory(each.run))} for each in found]
        output.print_json({"runs": rows, "memory": used, "disk": disk})
        return
    if found:
        output.print_table(COLUMNS, map(_row, found))
    on_disk = f", {output.format_size(disk)} on disk in {server_directory()}" if embedded else ""
    count = f"{len(found)} run{'' if len(found) == 1 else 's'}"
    memory = f"; the server uses {output.format_size(used)}{on_disk}" if used else ""
    output.say(f"{count}{memory}.")


@runs.command()
def delete(
    names: Annotated[
        list[str] | None, Argument(metavar="NAME...", help="Their names.", show_default=False)
    ] = None,
    stopped: Annotated[bool, Option("--stopped", help="All without a live replica.")] = False,
    older: Annotated[
        str, Option(metavar="7d", help="All stopped ones without a message for so long: 90m, 12h.")
    ] = "",
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
    redis: typed.Redis = "",
) -> None:
    """Delete runs for good: their keys on the server, and their logs on this machine."""
    if bool(names) == bool(stopped or older):
        raise SettingsError("which runs? Give their names, or --stopped, or --older 7d")
    if not yes and not sys.stdin.isatty():
        raise SettingsError(
            "roomgrad runs delete asks first, and no terminal can answer: add --yes"
        )
    oldest_s = _seconds(older) if older else 0.0
    with _server(redis) as (client, embedded):
        found = run_list.inspect(client)
        chosen = _named(found, names) if names else _stopped(found, oldest_s)
        if chosen and not yes:
            size = output.format_size(sum(each.bytes for each in chosen))
            listed = printable(", ".join(each.run for each in chosen))
            typer.confirm(f"Delete {listed} ({size}) for good?", abort=True)
        for each in chosen:
            _delete(client, each)
        if chosen and embedded:
            compact(client)
    output.say(f"{', '.join(each.run for each in chosen) or 'no run'} deleted.")


@contextmanager
def _server(redis: str) -> Iterator[tuple[Any, bool]]:
    """Yield a client of the server, and whether it is the embedded one of this machine.

    An embedded server that does not run is started for as long as this takes.
    """
    with running_server(redis) as (url, embedded), target.connected(url) as (client, _):
        yield client, embedded is not None


def _used(client: Any) -> int | None:
    """Return the bytes of memory that the server uses; None if it does not tell."""
    with contextlib.suppress(redis_py.ResponseError):
        return int(client.info("memory")["used_memory"])
    return None


def _named(found: Sequence[RunState], names: Sequence[str]) -> list[RunState]:
    by_name = {each.run: each for each in found}
    for name in names:
        if name not in by_name:
            raise SettingsError(f"there is no run {name!r}: {hint(name, list(by_name))}")
        if by_name[name].alive or serving_process(run_directory(name)):
            raise SettingsError(
                f"run {name} lives: stop it where it was started, or by "
                f"`roomgrad down --run {name}`"
            )
    return [by_name[name] for name in dict.fromkeys(names)]


def _stopped(found: Sequence[RunState], oldest_s: float) -> list[RunState]:
    return [
        each
        for each in found
        if not each.alive
        and not serving_process(run_directory(each.run))
        and (each.still_s is None or each.still_s >= oldest_s)
    ]


def _delete(client: Any, run: RunState) -> None:
    switch_run(client, run.run)
    lifecycle.delete(client, Names(run.run))
    shutil.rmtree(run_directory(run.run), ignore_errors=True)


def _row(each: RunState) -> tuple[object, ...]:
    moved = "" if each.still_s is None else f"{output.format_age(each.still_s)} ago"
    logs = output.format_size(_size(run_directory(each.run)))
    size = output.format_size(each.bytes)
    return each.run, each.system, each.alive, moved, each.keys, size, logs


def _size(directory: Path) -> int:
    return sum(each.stat().st_size for each in directory.rglob("*") if each.is_file())


def _seconds(text: str) -> float:
    """Return the seconds of a duration like 7d. Raises SettingsError."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if found is None:
        raise SettingsError(f"--older {text}: expected a duration like 90m, 12h, or 7d")
    return int(found[1]) * UNITS[found[2]]
