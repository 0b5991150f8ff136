"""The notebooks of the docs run, and show what is stored in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.example_run import same_shape
from tests.docs.pages import NOTEBOOKS, ROOT

pytestmark = pytest.mark.timeout(300)  # each starts a system


def shown(path: Path) -> Iterator[tuple[list[str], str]]:
    """Yield the kinds of each output of a notebook, and its text."""
    notebook: dict[str, Any] = json.loads(path.read_text())
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            texts = output.get("data", {"text/plain": output.get("text", "")})
            yield (
                [output["output_type"], output.get("name", ""), *sorted(texts)],
                "".join(texts["text/plain"]).rstrip(),
            )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_it_did_when_it_was_stored(path: Path, tmp_path: Path) -> None:
    """But for numbers; `python -m tests.docs.notebooks` stores it again."""
    executed = tmp_path / path.name
    words = [sys.executable, "-m", "tests.docs.notebooks", str(path), str(executed)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = list(shown(path)), list(shown(executed))
    assert [kinds for kinds, _ in after] == [kinds for kinds, _ in before]
    for (_, stored), (_, text) in zip(before, after, strict=True):
        assert same_shape(stored, text), f"stored is\n{stored}\nbut it is\n{text}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_of_a_notebook_is_formatted(path: Path) -> None:
    for words in (["format", "--check", "--quiet"], ["check", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, str(path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
