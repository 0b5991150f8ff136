"""What a load costs, by a formula, and how far the formula is right.

    python -m tests.benchmarks.scale [--seconds 10] [--runs 1,2,4,8,16] [--idle 100,1000] [--json]

Constants are measured each by itself: CPU times of the server and of components, bytes,
connections. Then real replicas make loads at which no constant was measured, and what is used is
divided by what the formula says. CPU times are counted, not seconds, so that other work on the
machine does little harm.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.scale import formula
from tests.benchmarks.scale.constants import SETTLING_S, measured
from tests.benchmarks.scale.formula import HISTORY, Constants, Load
from tests.benchmarks.scale.outlook import million_steps, most_replicas, outlook
from tests.benchmarks.scale.stage import staged

FILLING_S = 120.0
FORESEEN = (1, 10, 100, 1000)  # runs


def runs(constants: Constants, count: int, seconds: float) -> dict[str, Any]:
    """So many runs side by side, each as fast as it can."""
    with staged() as stage:
        empty = stage.memory()
        stage.enter("pairs", count)
        ends = time.monotonic() + FILLING_S
        while stage.look()["messages"] < 2.6 * HISTORY * count and time.monotonic() < ends:
            time.sleep(0.2)
        used = stage.window(seconds)
        load = Load(2 * count, used["messages"] / used["at"], streams=2 * count)
        return row(f"{count} runs", constants, load, used, stage.memory() - empty)


def idle(constants: Constants, count: int, seconds: float) -> dict[str, Any]:
    """So many replicas that wait."""
    with staged() as stage:
        empty = stage.memory()
        stage.enter("idle", count)
        time.sleep(SETTLING_S)
        used = stage.window(seconds)
        return row(f"{count:,} idle", constants, Load(count), used, stage.memory() - empty)


def row(
    name: str, constants: Constants, load: Load, used: dict[str, float], memory: float
) -> dict[str, Any]:
    """What was used, and that divided by what was said before."""
    said = {
        "server": formula.server_cpu(constants, load),
        "clients": formula.client_cpu(constants, load),
        "memory": formula.memory(constants, load),
    }
    found = {
        "server": used["server_s"] / used["at"],
        "clients": used["client_s"] / used["at"],
        "memory": memory,
    }
    ratios = {f"{key}_ratio": found[key] / said[key] for key in said}
    return {"load": name, "messages_s": load.messages_s, **found, **ratios}


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",") if each]


def main() -> None:
    """Prints the constants, and a line for each load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--runs", type=numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--idle", type=numbers, default=[100, 300, 1000])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    constants = measured(asked.seconds)
    rows = [runs(constants, count, asked.seconds) for count in asked.runs]
    rows += [idle(constants, count, asked.seconds) for count in asked.idle]
    if asked.json:
        print(json.dumps({"constants": asdict(constants), "loads": rows}))
        return
    show(Console(), constants, rows)


def show(console: Console, constants: Constants, rows: list[dict[str, Any]]) -> None:
    """The tables: what was measured, how far it fits, and what follows from it."""
    table = Table("", "", title="constants: CPU in us, sizes in bytes")
    for name, value in asdict(constants).items():
        table.add_row(name, f"{value:,.1f}")
    console.print(table)
    table = Table("", "messages/s", "server", "ratio", "clients", "ratio", "MB", "ratio")
    for each in rows:
        cores = [
            f"{each[key]:.2f}" for key in ("server", "server_ratio", "clients", "clients_ratio")
        ]
        size = [f"{each['memory'] / 1e6:.1f}", f"{each['memory_ratio']:.2f}"]
        table.add_row(each["load"], f"{each['messages_s']:,.0f}", *cores, *size)
    console.print(table)
    show_outlook(console, constants)


def show_outlook(console: Console, constants: Constants) -> None:
    """Loads that do not fit this machine."""
    heads = ("runs", "steps/s each", "hearts", "connections", "GB", "components", "MB/s", "servers")
    table = Table(*heads, title="runs of the trebuchet on one server")
    for each in (outlook(constants, count) for count in FORESEEN):
        numbers = [f"{each.steps_s:.2f}", f"{each.hearts:.3f}", f"{each.connections:,.0f}"]
        numbers += [f"{each.memory / 1e9:.2f}", f"{each.components:.2f}"]
        numbers += [f"{each.written / 1e6:.1f}", f"{each.servers:,}"]
        table.add_row(f"{each.runs:,}", *numbers)
    console.print(table)
    for name, value in most_replicas(constants).items():
        console.print(f"{name} are full at {value:,.0f} idle replicas")
    for name, value in million_steps(constants).items():
        console.print(f"1,000,000 steps: {name} {value:,.2f}")


if __name__ == "__main__":
    main()
