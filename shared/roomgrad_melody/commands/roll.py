"""Melodies as text: a piano roll of 8 rows, one for each degree, and 32 columns."""

from __future__ import annotations

from roomgrad_melody.genome import BARS, SLOTS_PER_BAR, Genomes, degrees

NOTE, HELD, REST, BAR = "██", "▓▓", " ·", "│"


def roll(genome: Genomes) -> str:
    """Draw one `(128,)`, the highest degree on top; a held note is lighter than its start."""
    notes = degrees(genome).tolist()
    lines = []
    for degree in reversed(range(8)):
        cells = [_cell(notes, slot, degree) for slot in range(len(notes))]
        bars = [
            "".join(cells[bar * SLOTS_PER_BAR : (bar + 1) * SLOTS_PER_BAR]) for bar in range(BARS)
        ]
        lines.append(f"{degree + 1} {BAR}{BAR.join(bars)}{BAR}")
    return "\n".join(lines)


def _cell(notes: list[int], slot: int, degree: int) -> str:
    if notes[slot] != degree:
        return REST
    return HELD if slot and notes[slot - 1] == degree else NOTE
