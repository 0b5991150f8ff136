"""The result as a table."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

WIDE = 130  # columns where the output is no terminal
FIGURES = {
    "chain, ms": ("chain_ms", ".2f"),
    "one process, ms": ("one_process_ms", ".2f"),
    "its median, ms": ("one_process_median_ms", ".2f"),
    "rooms, ms": ("mean_ms", ".2f"),
    "median, ms": ("median_ms", ".2f"),
    "worst step, of the mean": ("worst_of_mean", ".2f"),
    "of one process": ("times", ".2f"),
    "beyond one process, chains": ("beyond_chains", ".2f"),
    "beyond one process, %": ("beyond_percent", ".0f"),
    "% that 1.2 chains leave": ("percent_after_chains", ".0f"),
    "of the fewest replicas": ("of_fewest_replicas", ".2f"),
    "snapshots": ("snapshots", ".0f"),
    "append-only file, B a step": ("written_b", ",.0f"),
    "  commits of the learner": ("learner_b", ",.0f"),
    "  its model": ("model_b", ",.0f"),
    "  snapshots": ("snapshot_b", ",.0f"),
    "snapshot store, B a step": ("store_b", ",.0f"),
    "Redis, peak MB": ("redis_peak_mb", ",.0f"),
    "learner, peak MB": ("learner_peak_mb", ",.0f"),
    "  of 3 values a parameter": ("learner_peak_of_state", ",.1f"),
    "take-over, s": ("take_over_s", ".1f"),
    "load": ("load", ".1f"),
}


def show(result: dict[str, Any]) -> None:
    """Print a column for each size and number of replicas."""
    table = Table("", title="A step, by the number of parameters")
    for row in result["rows"]:
        replicas = "1 replica" if row["replicas"] == 1 else f"{row['replicas']} replicas"
        table.add_column(f"{row['parameters']:,}\n{replicas}", justify="right")
    for name, (key, layout) in FIGURES.items():
        table.add_row(
            name, *(format(row[key], layout) if key in row else "" for row in result["rows"])
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDE).print(table)
    print(f"{result['threads']} thread(s) of torch each, {result['cores']} cores")
