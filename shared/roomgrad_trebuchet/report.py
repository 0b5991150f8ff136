"""The report of a training: a table of shots, a summary, and commands to go on with."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from roomgrad import exact_json
from roomgrad.cli import output
from roomgrad.cli.hints import program, run_option
from roomgrad.local.session import password_file
from roomgrad.names import Names
from roomgrad.redis.addresses import redis_cli, subscribe_command
from roomgrad.redis.server_address import AnyAddress
from roomgrad_trebuchet.contract import INPUT, TRAINER, TREBUCHET


@dataclass(frozen=True)
class Report:
    """The figures of one training."""

    run: str
    steps: int
    applied_steps: int
    seconds: float
    steps_per_second: float
    mean_miss_m: float
    median_miss_m: float
    lost: int
    duplicates: int
    mean_staleness: float
    open: int
    dead: int
    weights_sha256: str
    seed: int
    preset: str
    replicas: dict[str, int]
    server: str
    first_loss_s: float
    restarts: int
    shots: list[dict[str, Any]] = field(default_factory=list)
    logs: str = ""
    url: AnyAddress = ""

    def json(self) -> str:
        """Return the figures as one line of JSON."""
        figures = asdict(self)
        for name in ("shots", "logs", "url"):
            del figures[name]
        return exact_json.dumps(figures, nulls=True).decode()


def show(console: Console, report: Report, picture: str) -> None:
    """Print the report for a person."""
    console.print()
    console.print(_table(report))
    console.print()
    mean, median = f"Mean miss {report.mean_miss_m:.2f} m", f"median {report.median_miss_m:.2f} m"
    output.say_marked(mean, "bold", f" ({median}) over 1,000 held-out pairs.")
    if report.dead:
        output.say(f"{report.dead} batches became dead letters.", style="bold red")
    output.say(*_summary(report, picture), "")
    output.say(*where_to_look(report.run, report.url, up=False))


def where_to_look(run: str, url: AnyAddress, *, up: bool) -> list[str]:
    """Return commands for a run; if it is not up, the first one starts it again."""
    cli = redis_cli(url, run, password_file())
    me, names = program(), Names(run)
    option = run_option(run, TREBUCHET.name)
    first = [] if up else [f"  {me} up trebuchet{option}   # serves it in the background; then:"]
    return [
        "Where to look next:",
        *first,
        f"  {me} shoot --wind 3 --target 60{option}",
        f"  {cli} {subscribe_command(url)} '{names.channel(INPUT.name)}'",
        f"  {cli} HGETALL '{names.counters(TRAINER)}'",
        f"  {me} down trebuchet{option}",
    ]


def _table(report: Report) -> Table:
    table = Table(title="Held-out shots", title_justify="left", title_style="bold", box=None)
    for name in ("wind m/s", "target m", "angle °", "weight kg", "distance m", "miss m"):
        table.add_column(name, justify="right")
    for shot in report.shots:
        names = ("wind", "target", "angle_deg", "weight_kg", "distance_m", "miss_m")
        table.add_row(*(f"{shot[name]:.2f}" for name in names))
    return table


def _pace(report: Report) -> str:
    if not report.steps_per_second:
        return f"{report.applied_steps} steps were applied before, nothing was left"
    return (
        f"{report.applied_steps} steps applied, {report.steps_per_second:.0f} a second, "
        f"first loss after {report.first_loss_s:.1f} s"
    )


def _summary(report: Report, picture: str) -> list[str]:
    lines = [
        f"{_pace(report)}; {report.lost} lost, {report.duplicates} applied twice.",
        f"Weights {report.weights_sha256[:16]}, seed {report.seed}, {report.server}.",
    ]
    if report.mean_staleness:
        lines.append(f"Gradients were {report.mean_staleness:.1f} steps old on average.")
    if report.restarts:
        lines.append(f"Components were restarted {report.restarts} times.")
    if picture:
        lines.append(f"Picture: {picture}")
    lines.append(f"Logs: {os.path.relpath(report.logs)}")
    return lines
