"""`roomgrad doctor`: check a server and its runs, and say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import redis
import typer
from redis import ResponseError
from typer import Option

from roomgrad import variables
from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.inspect.doctor import cluster, runs, server
from roomgrad.inspect.doctor.findings import Finding
from roomgrad.inspect.doctor.run import Server
from roomgrad.inspect.keys import runs_on
from roomgrad.inspect.members import alike, family, spans
from roomgrad.names import Names
from roomgrad.redis.addresses import redis_cli
from roomgrad.redis.cluster import on_cluster, switch_run
from roomgrad.redis.server_address import ServerAddress

COLORS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    run: Annotated[str, Option(help="Name of the run; all on the server if empty.")] = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    with target.connected(redis) as (client, url):
        option = f" --redis {url}" if redis else ""
        found = examine(client, url, run or variables.get("run"), option)
    problems, warnings = _count(found, "problem"), _count(found, "warning")
    if as_json:
        counts = {"problems": problems, "warnings": warnings}
        findings = [_to_json(finding) for finding in found]
        output.print_json({"server": str(url), **counts, "findings": findings})
    else:
        for each in alike(found, lambda one: replace(one, about=family(one.about))):
            [about] = spans(finding.about for finding in each)
            _print(replace(each[0], about=about))
        output.say(_summary(found, problems, warnings))
    if problems:
        raise typer.Exit(1)


def examine(
    client: redis.Redis, url: ServerAddress, run: str = "", option: str = ""
) -> list[Finding]:
    """Return what is found on a server, and in one run or in all. Raises SettingsError.

    option: ` --redis ADDRESS`, if commands of roomgrad do not find the server without it.
    """
    asked = server.Server.ask(client, url)
    found = cluster.findings(client, url) if on_cluster(client) else server.findings(asked)
    try:
        names = [target.choose_run(client, run)] if run else [*map(Names, runs_on(client))]
    except ResponseError as error:
        return [*found, runs.refused(run, "runs", error, Server(asked.command))]
    for each in names:
        switch_run(client, each.run)
        command = redis_cli(url, each.run) if on_cluster(client) else asked.command
        found += runs.findings(client, each, Server(command, option))
    return found


def _level(finding: Finding) -> str:
    return finding.level.name.lower()


def _count(found: Sequence[Finding], level: str) -> int:
    return sum(_level(finding) == level for finding in found)


def _to_json(finding: Finding) -> dict[str, str]:
    return {
        "level": _level(finding),
        "run": finding.run,
        "about": finding.about,
        "found": finding.found,
        "expected": finding.expected,
        "do": finding.do,
    }


def _print(finding: Finding) -> None:
    level, where = _level(finding), f"{finding.run}: " if finding.run else ""
    needed = "" if level == "ok" else f"; expected {finding.expected}"
    output.say_marked(
        f"{level:<9}", COLORS[level], f"{where}{finding.about}: {finding.found}{needed}"
    )
    if needed:
        output.say(f"{'':9}{finding.do}", style="bold")


def _summary(found: Sequence[Finding], problems: int, warnings: int) -> str:
    if not problems + warnings:
        return "Nothing to do."
    text = f"{problems} problems, {warnings} warnings."
    if any("CONFIG SET" in finding.do for finding in found):
        text += " CONFIG SET lasts until the server restarts; write it into its file, too."
    return text
