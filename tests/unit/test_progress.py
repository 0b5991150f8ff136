"""How far something is, where no terminal is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from roomgrad.cli import progress


def lines_of(total: int) -> list[str]:
    """What is printed while something is done from its beginning to its end."""
    console = Console(file=io.StringIO(), force_terminal=False, width=100)
    with progress.progress(console, "step", total, "waiting") as show:
        for done in range(total + 1):
            show(done, "loss 1.5")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_lines_say_the_percentage_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """About ten of them, the first and the last among them."""
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    found = lines_of(1000)
    assert [int(line.split("%")[0].split()[-1]) for line in found] == list(range(0, 101, 10))
    assert found[-1] == "step   1000 of 1000  100 %   loss 1.5"


def test_quick_work_says_little() -> None:
    """What is done in less than two seconds needs no line in between."""
    assert len(lines_of(1000)) == 2
