"""What commands print: nothing that controls a terminal, and whole cells at any width."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from roomgrad.cli import output
from roomgrad.display import printable

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\nfake line"
SEEN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\nfake line"


def drawn(table: output.Table, width: int) -> list[str]:
    """The lines of a table on a terminal of some width."""
    console = Console(file=io.StringIO(), width=width, markup=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_controls_are_shown_as_in_a_literal_and_names_as_they_are() -> None:
    assert printable(EVIL) == SEEN
    name = "مدل\u200cها 模型 é 👩\u200d🔬"
    assert printable(name) == name


def test_a_line_stays_one_line_and_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(f"run {EVIL}", "[bold]run[/] :smile:", "")
    assert capsys.readouterr().out == f"run {SEEN}\n[bold]run[/] :smile:\n\n"
    output.warn(EVIL)
    assert capsys.readouterr().err == f"roomgrad: {SEEN}\n"


def test_json_has_the_same_value_without_controls(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({EVIL: "é"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {EVIL: "é"}
    assert printed.isascii() is False
    assert not {"\x1b", "\x9b", "\u202e"} & set(printed)


ENTRY = "1795964123019-0"
COLUMNS = ("entry", "?when", "component", "<reason")
ROWS = [(ENTRY, "2026-11-29 14:00:00", "controlmodel", "it has no field DATA, and no other one")]


LOGS = """
import sys, structlog
from roomgrad import log
log.setup("info", sys.argv[1])
lines = structlog.get_logger()
lines.info(sys.argv[2], run=sys.argv[2])
try:
    raise ValueError(sys.argv[2])
except ValueError:
    lines.exception("it failed")
"""


@pytest.mark.parametrize("format", ["pretty", "json"])
def test_log_lines_have_no_controls(format: str) -> None:
    """A name in them may come from any program that reaches the server."""
    words = [sys.executable, "-c", LOGS, format, EVIL]
    logged = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(logged)
    assert "fake line" in logged.splitlines()[0]


@pytest.mark.parametrize("width", [160, 80, 60, 30, 12])
def test_no_cell_is_shortened_or_broken_within_a_word(width: int) -> None:
    lines = drawn(output.table(COLUMNS, ROWS), width)
    words = {word for line in lines for word in line.split()}
    if width >= len(ENTRY):
        assert ENTRY in words
    assert not any("…" in word or ("controlm" in word and word != "controlmodel") for word in words)


def test_a_narrow_terminal_lacks_columns_and_says_which() -> None:
    lines = drawn(output.table(COLUMNS, ROWS), 60)
    assert lines[0].split() == ["entry", "component", "reason"]
    assert lines[-1] == "A wider terminal also shows: when."
    assert drawn(output.table(COLUMNS, ROWS), 160)[0].split() == [
        "entry", "when", "component", "reason",
    ]  # fmt: skip


def test_numbers_are_aligned_right_and_wide_letters_count_twice() -> None:
    rows = [("模型", 12, "~3"), ("a", 1234, "")]
    assert drawn(output.table(("name", "count", "about"), rows), 80) == [
        "name  count  about",
        "模型     12     ~3",
        "a     1,234",
    ]
