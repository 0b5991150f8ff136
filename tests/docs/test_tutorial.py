"""The tutorial, as a newcomer goes through it: every command, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from roomgrad.cli.new import system_files
from tests.docs.pages import blocks
from tests.environment import empty_environment

PAGE = "docs/tutorial.md"
WORLD = {"world": (Path(__file__).parents[2] / "services/world/handlers.py").read_text()}

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize(
    ("page", "files", "count"),
    [
        (PAGE, system_files("home") | WORLD, 3),
        ("docs/torch.md", system_files("words", torch=True), 1),
    ],
)
def test_the_code_of_a_page_is_what_the_command_makes(
    page: str, files: dict[str, str], count: int
) -> None:
    made = [unindented(text) for text in files.values()]
    shown = [block for block in blocks("py") if block.page == page]
    assert len(shown) == count
    for block in shown:
        assert any(unindented(block.text) in text for text in made), f"{block} is in no file"


def unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def test_each_command_of_the_tutorial_works(tmp_path: Path) -> None:
    """One after the other, in one shell, and none complains."""
    programs = empty_environment(tmp_path / "environment")
    environ = {
        **{name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "RUN")},
        "PATH": f"{programs}:{os.environ['PATH']}",
        "ROOMGRAD_STATE": str(tmp_path / "state"),
    }
    script = "\n".join(block.text for block in blocks("bash") if block.page == PAGE)
    folder = tmp_path / "folder"
    folder.mkdir()
    done = subprocess.run(
        ["bash", "-e", "-m", "-c", script],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "Hello greeter, this is world",
        "2 passed",
        "home is up",
        "passed all checks",
        "finished after",
        "home is down",
    ):
        assert words in done.stdout, done.stdout
    ps = re.split(r"component +state", done.stdout)[-1].partition("home is down")[0]
    assert ps.count("\nhouse ") == 2, "two replicas live"
