"""Each promise of the pages names tests that exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.pages import ROOT, text

PAGES = ("docs/guarantees.md", "docs/security.md")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
TABLE = re.compile(r"^\| promise \|.* tests \|\n\|[-|]+\|\n((?:\|.*\n)+)", re.MULTILINE)
GUARDS = re.compile(r"\(guards\.md#[\w-]+\)")
PROPERTY = re.compile(r"`([A-Z_]+)`")


def _rows(page: str) -> list[str]:
    return [row for table in TABLE.findall(text(page)) for row in table.splitlines()]


@pytest.mark.parametrize("page", PAGES)
def test_each_promise_names_a_test(page: str) -> None:
    """A promise without a test would be a mere claim."""
    rows = _rows(page)
    assert len(rows) > 15
    assert [row for row in rows if not TEST.search(row)] == []


def test_each_promise_names_its_guards_property_and_cost() -> None:
    """The guards stand with their revert tests; a dash is for what the model leaves out."""
    modelled = "".join(path.read_text() for path in (ROOT / "tests/model").glob("*.pml"))
    rows = [row.strip("| \n").split(" | ") for row in _rows("docs/guarantees.md")]
    for promise, guards, properties, cost, _ in rows:
        assert GUARDS.search(guards), promise
        named = PROPERTY.findall(properties)
        assert named or properties == "–", promise
        assert all(f"#define {name} " in modelled for name in named), promise
        assert cost, promise


@pytest.mark.parametrize("page", PAGES)
def test_each_named_test_exists(page: str) -> None:
    """A test that was renamed or deleted proves nothing."""
    for path, name in TEST.findall(text(page)):
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_the_measured_tables_are_complete() -> None:
    """They are copied by hand from what `make chaos` prints."""
    assert "<!--" not in text("docs/guarantees.md")
