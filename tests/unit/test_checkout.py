"""A checkout on Windows, where git is usually installed with core.autocrlf=true."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_text_of_a_checkout_on_windows_has_lf(tmp_path: Path) -> None:
    """Scripts with CRLF end with "no such file or directory" in a container."""
    command = ["git", "clone", "--quiet", "--config", "core.autocrlf=true", ROOT, tmp_path / "it"]
    subprocess.run(command, check=True, timeout=120)
    listed = subprocess.run(
        ["git", "ls-files", "--eol"],
        cwd=tmp_path / "it",
        check=True,
        capture_output=True,
        text=True,
    )
    ends = {line.split()[1] for line in listed.stdout.splitlines()}
    assert ends <= {"w/lf", "w/-text", "w/none"}


def test_a_new_system_has_the_same_rule() -> None:
    template = ROOT / "shared/roomgrad/cli/templates/project/.gitattributes.txt"
    assert template.read_bytes() == (ROOT / ".gitattributes").read_bytes()
