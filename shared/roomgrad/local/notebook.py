"""A run as HTML, for notebooks: its components, and its loss as a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from roomgrad.display import format_number
from roomgrad.inspect.series import Point, curve
from roomgrad.redis.heartbeats import Heartbeat

WIDTH, HEIGHT = 480, 150
LEFT, RIGHT, TOP, BOTTOM = 60, 10, 12, 20  # margins of the drawing, for its numbers


class Replicas(NamedTuple):
    """The replicas of a component."""

    component: str
    wanted: int
    alive: int
    trouble: str
    """Why a handler raised, or what a replica waits for."""

    @classmethod
    def of(cls, wanted: Mapping[str, int], found: Iterable[Heartbeat]) -> list[Replicas]:
        """Return the replicas of each component of a plan, by the heartbeats that exist."""
        beats = list(found)
        return [
            cls(
                component,
                count,
                sum(each.component == component for each in beats),
                next((e.error or e.waits for e in beats if e.component == component), ""),
            )
            for component, count in wanted.items()
        ]


def to_html(run: str, state: str, components: Sequence[Replicas], losses: Sequence[Point]) -> str:
    """Return a run as HTML: a table of its components, and the curve of its loss."""
    rows = "".join(map(_row, components))
    return (
        f"<div><b>{escape(run)}</b>: {escape(state)}"
        f"<table><tr><th>component</th><th>replicas</th><th>state</th></tr>{rows}</table>"
        f"{to_svg(losses)}</div>"
    )


def _row(each: Replicas) -> str:
    state = "replaced" if not each.wanted else each.trouble or ("alive" if each.alive else "away")
    cells = (each.component, f"{each.alive} of {each.wanted}", state)
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def to_svg(losses: Sequence[Point]) -> str:
    """Return the curve of a loss and its trend, with a logarithmic axis if all are positive.

    losses: step and loss of each step. Empty if fewer than two are numbers.
    """
    known = [[step, loss] for step, loss in losses if math.isfinite(loss)]
    if len(known) < 2:
        return ""
    drawn = curve(known)
    points = [*drawn["points"], *drawn["trend"]]
    logarithmic = all(loss > 0 for _, loss in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    first, last = known[0][0], known[-1][0]

    def place(point: Point) -> str:
        x = _between(point[0], first, last)
        y = _between(
            *(map(math.log, (point[1], low, high)) if logarithmic else (point[1], low, high))
        )
        return (
            f"{LEFT + x * (WIDTH - LEFT - RIGHT):.1f},"
            f"{HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM):.1f}"
        )

    lines = "".join(
        f'<polyline fill="none" stroke="{color}" stroke-width="{width}" '
        f'points="{" ".join(map(place, drawn[name]))}"/>'
        for name, color, width in (("points", "#9ab", 1), ("trend", "#06c", 2))
    )
    texts = (
        _text(LEFT - 6, TOP + 4, "end", format_number(high))
        + _text(LEFT - 6, HEIGHT - BOTTOM, "end", format_number(low))
        + _text(LEFT, HEIGHT - 4, "start", f"step {first:.0f}")
        + _text(WIDTH - RIGHT, HEIGHT - 4, "end", f"step {last:.0f}")
    )
    about = "loss, logarithmic" if logarithmic else "loss"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" role="img" aria-label="{about}">{lines}{texts}'
        f"{_text(WIDTH - RIGHT, TOP, 'end', about)}</svg>"
    )


def _between(value: float, low: float, high: float) -> float:
    """Return where a value lies between two others, from 0 to 1."""
    return (value - low) / (high - low) if high > low else 0.5


def _text(x: float, y: float, anchor: str, text: str) -> str:
    style = 'font-size="10" font-family="sans-serif" fill="currentColor"'
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {style}>{escape(text)}</text>'
