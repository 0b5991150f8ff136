"""Draws step time over parameters, in steps of one process: rooms before, rooms now.

Each is a ratio of one run, since other runs had another load.
"""

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
        ("rooms, each step writes the state", before, FAINT, "--"),
        ("rooms", now, OURS, "-"),
    )
    with plt.rc_context({"font.size": 10, "text.color": INK, "axes.edgecolor": FAINT}):
        figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
        for label, rows, color, style in lines:
            ones = sorted(
                (each for each in rows if each["replicas"] == 1), key=lambda row: row["parameters"]
            )
            places = [each["parameters"] for each in ones]
            times = [each["times"] for each in ones]
            axes.plot(places, times, style, color=color, marker="o", label=label)
        axes.axhline(1.0, color=INK, label="one process")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("parameters")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        axes.set_title(
            "A step, in steps of one process", loc="left", fontweight="bold", fontsize=11
        )
        figure.savefig(path, dpi=110)
        plt.close(figure)
