"""Draw what was learned: the learning curve, and shots before and after.

python -m roomgrad_trebuchet.picture measured.npz trebuchet.png
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Measured = Mapping[str, Array]

PIVOT_HEIGHT_M = 1.524
INK, FAINT, GROUND = "#22303c", "#9aa7b2", "#b9a88c"
LOSS, MISS = "#c2703d", "#1f6f8b"
STYLE: Any = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e6eaed",
}


def draw(measured: Measured, path: str | Path) -> None:
    """Write the picture.

    `measured` holds step, loss, miss of shape `(steps,)`, wind and target `(shots,)`, and the
    trajectories after, and before if they are known, `(shots, frames, 2)` in m from the pivot.
    """
    with plt.rc_context(STYLE):
        rows = [name for name in ("before", "after") if name in measured]
        panels: Any = [["curve", name] for name in rows]
        figure, axes = plt.subplot_mosaic(
            panels, figsize=(13, 5.6), width_ratios=(1.0, 1.35), layout="constrained"
        )
        _learning_curve(axes["curve"], measured)
        for name in rows:
            _shots(axes[name], measured, name)
        _share_limits([axes[name] for name in rows])
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _learning_curve(axes: Axes, measured: Measured) -> None:
    step = measured["step"]
    for values, color, label in (
        (measured["loss"], LOSS, "loss, m²"),
        (measured["miss"], MISS, "mean miss, m"),
    ):
        axes.plot(step, values, color=color, alpha=0.22, linewidth=0.8)
        end = f"{label}: {np.mean(values[-20:]):.2g} at the end"
        axes.plot(step, _smooth(values), color=color, linewidth=2.0, label=end)
    axes.legend(frameon=False, labelcolor="linecolor", prop={"weight": "bold"}, loc="upper right")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="y")
    axes.set_xlabel("optimizer step")
    axes.set_title("Learning to aim, through the rooms")


def _shots(axes: Axes, measured: Measured, name: str) -> None:
    target = measured["target"]
    colors = plt.get_cmap("viridis")(Normalize(15, 105)(target))
    axes.axhline(0, color=GROUND, linewidth=2.5, zorder=1)
    for path, aim, color in zip(measured[name], target, colors, strict=True):
        height = path[:, 1] + PIVOT_HEIGHT_M
        axes.plot(path[:, 0], height, color=color, linewidth=1.6, alpha=0.9, zorder=2)
        axes.plot(path[-1, 0], height[-1], "o", color=color, markersize=5, zorder=4)
        axes.plot([aim, aim], [0, -4], color=color, linewidth=2.5, zorder=3, clip_on=False)
        axes.plot(aim, -4, "^", color=color, markersize=7, zorder=3, clip_on=False)
    miss = np.mean(np.abs(measured[name][:, -1, 0] - target))
    axes.set_title(f"{name.capitalize()} training: these {len(target)} shots miss by {miss:.2g} m")
    axes.set_ylabel("height, m")
    axes.grid(axis="x")
    if name == "after":
        axes.set_xlabel("distance, m  (▲ target, ● landing, one colour per target)")


def _share_limits(panels: Sequence[Axes]) -> None:
    low = min(axes.get_xlim()[0] for axes in panels)
    high = max(axes.get_xlim()[1] for axes in panels)
    top = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_xlim(low, high)
        axes.set_ylim(-8, top)


def _smooth(values: Array, half_width: int = 12) -> Array:
    """Return a running geometric mean (a mean on a log axis), shorter at the ends."""
    logs = np.log(np.maximum(values, 1e-9))
    totals = np.concatenate([[0.0], np.cumsum(logs)])
    index = np.arange(len(logs))
    low, high = np.maximum(index - half_width, 0), np.minimum(index + half_width + 1, len(logs))
    means: Array = np.exp((totals[high] - totals[low]) / (high - low))
    return means


def main(source: str, path: str) -> None:
    """Draw what a file of `numpy.savez` holds."""
    with np.load(source, allow_pickle=False) as measured:
        draw(dict(measured), path)


if __name__ == "__main__":
    main(*sys.argv[1:3])
