"""The tree of errors, and what a component author imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import roomgrad
from roomgrad import errors

ROOT = Path(__file__).parents[2]

MEASURE = """
import sys, roomgrad
for name in roomgrad.__all__:
    if name not in ("AsyncClient", "Client", "Run", "serve", "up"):  # which need more
        getattr(roomgrad, name)
print(*(m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "roomgrad"))
"""


def test_every_error_of_the_sdk_is_in_the_tree_and_says_when_it_is_raised() -> None:
    assert errors.__doc__ is not None
    for name, found in vars(errors).items():
        if isinstance(found, type) and issubclass(found, Exception):
            assert issubclass(found, errors.RoomgradError)
            assert name in errors.__doc__
            assert (found.__doc__ or "").startswith(("Raised when ", "The base of every error"))


@pytest.mark.parametrize("folder", ["shared", "services"])
def test_no_error_of_ours_is_outside_the_tree(folder: str) -> None:
    """A package that derives an error of its own derives it from the tree."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and path.name != "errors.py":
                bases = {ast.unparse(base) for base in node.bases}
                named = {name for name in bases if name.endswith(("Error", "Exception"))}
                assert not named or named & set(vars(errors)), f"{path}: {node.name}"


def test_the_names_of_a_component_author_load_the_core_alone() -> None:
    """At most 2,800 lines, and neither the runtime nor redis-py."""
    words = [sys.executable, "-c", MEASURE]
    files = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert sum(len(Path(file).read_text().splitlines()) for file in files) <= 2800
    assert not [file for file in files if "roomgrad/runtime/" in file or "roomgrad/redis/" in file]


def test_each_public_name_exists() -> None:
    for name in roomgrad.__all__:
        assert getattr(roomgrad, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = roomgrad.nothing
