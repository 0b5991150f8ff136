"""The page of guarantees: each promise names tests that exist."""

from __future__ import annotations

import ast
import re

from tests.docs.pages import ROOT, text

PAGE = "docs/guarantees.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_each_promise_names_a_test() -> None:
    """A row of the tables of promises without one would be a mere claim."""
    promises = text(PAGE).partition("## Limits")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| promise ")]
    assert len(rows) > 15
    assert [row for row in rows if not TEST.search(row)] == []


def test_each_test_that_is_named_exists() -> None:
    """A test that was renamed or deleted proves nothing any more."""
    for path, name in TEST.findall(text(PAGE)):
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_the_measured_tables_are_there() -> None:
    """Written by hand from what `make chaos` prints: no place is left empty."""
    assert "<!--" not in text(PAGE)
