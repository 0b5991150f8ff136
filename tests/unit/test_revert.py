"""The table of `make revert` fits the code: no guard is renamed or moved without its entry."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.revert.guards import ROOT, Guard, load

GUARDS = load()


@cache
def functions(path: str) -> set[str]:
    """Return the names of a file's test functions."""
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_guard_is_where_its_entry_says() -> None:
    """Exactly once, so that the patch takes it away and nothing else."""
    wrong = []
    for guard in GUARDS:
        try:
            assert guard.removed() != (ROOT / guard.file).read_text(), guard.name
        except ValueError as error:
            wrong.append(str(error))
    assert wrong == []


def test_each_guard_has_tests_that_exist() -> None:
    """The runner says which of them cannot be found with their parameters."""
    named = [(each.name, test.partition("[")[0]) for each in GUARDS for test in each.tests]
    assert {name for name, _ in named} == {each.name for each in GUARDS}
    missing = [
        test for _, test in named if test.split("::")[1] not in functions(test.split("::")[0])
    ]
    assert missing == []


def test_a_changed_source_says_which_entry_to_renew() -> None:
    guard = Guard("a name", "p", "Makefile", "no such text", "", ("t",), "w")
    with pytest.raises(ValueError, match="a name: its old text occurs 0 times in Makefile"):
        guard.removed()
