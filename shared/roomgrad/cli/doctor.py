"""`roomgrad doctor`: looks at a server and its runs, and says what to do."""

from __future__ import annotations

import json
import os

import redis
import typer
from rich.console import Console
from rich.text import Text

from roomgrad.cli import target
from roomgrad.inspect.doctor import cluster, runs, server
from roomgrad.inspect.doctor.findings import Finding, Level
from roomgrad.inspect.format import printable
from roomgrad.inspect.keys import runs_on
from roomgrad.names import Names
from roomgrad.redis.addresses import redis_cli, without_password
from roomgrad.redis.cluster import go_to, on_cluster

COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


def run(run: str, redis_url: str, *, as_json: bool) -> None:
    """Look, and report. Exit code 1 where something is a problem."""
    with target.reached(redis_url) as (client, url):
        found = examined(client, url, run or os.environ.get("RUN", ""))
    if as_json:
        print(json.dumps(report(found, url)))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for finding in found:
            console.print(_line(finding))
        console.print(Text(_sum(found)))
    if any(finding.level is Level.PROBLEM for finding in found):
        raise typer.Exit(1)


def examined(client: redis.Redis, url: str, run: str = "") -> list[Finding]:
    """What was found on the server, and in one run or in all. Raises SettingsError."""
    asked = server.Server.ask(client, url)
    found = cluster.findings(client, url) if on_cluster(client) else server.findings(asked)
    try:
        names = [target.chosen(client, run)] if run else [Names(name) for name in runs_on(client)]
    except redis.ResponseError as error:
        return [*found, runs.unasked(run, "runs", error, asked.command)]
    for each in names:
        go_to(client, each.run)
        command = redis_cli(url, each.run) if on_cluster(client) else asked.command
        found += runs.findings(client, each, command)
    return found


def report(found: list[Finding], url: str) -> dict[str, object]:
    """All of it as one object."""
    return {
        "server": without_password(url),
        "problems": _count(found, Level.PROBLEM),
        "warnings": _count(found, Level.WARNING),
        "findings": [
            {
                "level": finding.level.name.lower(),
                "run": finding.run,
                "about": finding.about,
                "found": finding.found,
                "expected": finding.expected,
                "do": finding.do,
            }
            for finding in found
        ],
    }


def _line(finding: Finding) -> Text:
    where = f"{finding.run}: " if finding.run else ""
    text = Text()
    text.append(f"{finding.level.name.lower():<9}", COLOURS[finding.level])
    text.append(printable(f"{where}{finding.about}: {finding.found}"))
    if finding.level is not Level.OK:
        text.append(printable(f"; expected {finding.expected}"))
        text.append(f"\n{'':9}{printable(finding.do)}", "bold")
    return text


def _sum(found: list[Finding]) -> str:
    problems, warnings = _count(found, Level.PROBLEM), _count(found, Level.WARNING)
    if not problems + warnings:
        return "Nothing to be done."
    said = f"{problems} problems, {warnings} warnings."
    if any("CONFIG SET" in finding.do for finding in found):
        said += " What CONFIG SET changes lasts until the server restarts; its file keeps it."
    return said


def _count(found: list[Finding], level: Level) -> int:
    return sum(finding.level is level for finding in found)
