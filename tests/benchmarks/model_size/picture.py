"""Draws step time over parameters: one process, rooms before, rooms now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from tests.benchmarks.transport.picture import FAINT, INK, OURS  # which chooses the backend

Rows = Sequence[dict[str, Any]]


def draw(path: Path, now: Rows, before: Rows) -> None:
    """Draw the rows of one replica, both axes logarithmic."""
    lines = (
        ("rooms, each step writes the state", before, "mean_ms", FAINT, "--"),
        ("rooms", now, "mean_ms", OURS, "-"),
        ("one process", now, "one_process_ms", INK, "-"),
    )
    with plt.rc_context({"font.size": 10, "text.color": INK, "axes.edgecolor": FAINT}):
        figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
        for label, rows, key, color, style in lines:
            ones = sorted(
                (each for each in rows if each["replicas"] == 1), key=lambda row: row["parameters"]
            )
            places = [each["parameters"] for each in ones]
            axes.plot(
                places, [each[key] for each in ones], style, color=color, marker="o", label=label
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("parameters")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        axes.set_title("Milliseconds of a step", loc="left", fontweight="bold", fontsize=11)
        figure.savefig(path, dpi=110)
        plt.close(figure)
