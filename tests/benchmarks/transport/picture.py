"""Draws the contestants of a benchmark as bars: one look for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

INK, FAINT, OURS = "#22303c", "#9aa7b2", "#1f6f8b"


def draw(
    path: Path, title: str, names: Sequence[str], figures: Sequence[tuple[float, float, float]]
) -> None:
    """Medians with the lowest and highest as whiskers, on a logarithmic scale; ours in colour."""
    medians = [median for median, _, _ in figures]
    whiskers = (
        [median - lowest for median, lowest, _ in figures],
        [highest - median for median, _, highest in figures],
    )
    colors = [OURS if name.startswith("roomgrad") else FAINT for name in names]
    places = range(len(names), 0, -1)
    with plt.rc_context({"font.size": 10, "text.color": INK, "axes.edgecolor": FAINT}):
        figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1), layout="constrained")
        axes.barh(places, medians, xerr=whiskers, color=colors, ecolor=INK, height=0.62)
        axes.set_yticks(list(places), names)
        axes.set_xscale("log")
        axes.set_xlim(min(medians) * 0.7, max(high for _, _, high in figures) * 2.2)
        for place, (median, _, highest) in zip(places, figures, strict=True):
            text = f"  {median:,.0f}" if median >= 10 else f"  {median:.1f}"
            axes.text(highest, place, text, va="center", color=INK)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
        figure.savefig(path, dpi=110)
        plt.close(figure)
