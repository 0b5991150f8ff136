"""Both systems at full load for a while: nothing grows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT


def soaked(folder: Path, minutes: float, share: float, *, judged: bool = True) -> dict[str, Any]:
    """The report of a soak, as its script writes it; judged: nothing may have grown."""
    path = folder / "soak.json"
    flags = (f"--minutes={minutes}", f"--share={share}", f"--json={path}")
    environ = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    command = [sys.executable, "-m", "tests.soak", *flags]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0 or not judged, done.stdout[-5000:] + done.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["steps"] > 0
    assert found["restarts"] == 0
    return found


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_part_of_a_soak_does_its_work(tmp_path: Path) -> None:
    """Within seconds; everything still fills up, so nothing is said of what grows."""
    found = soaked(tmp_path, minutes=0.15, share=0.5, judged=False)
    names = {each["name"].split()[0] for each in found["trends"]}
    assert names == {
        "rss",
        "files",
        "threads",
        "used",
        "clients",
        "keys",
        "length",
        "bytes",
        "seconds",
        "log",
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_grows_within_five_minutes(tmp_path: Path) -> None:
    """Memory of every process and of the server, every key, logs: less than a tenth."""
    soaked(tmp_path, minutes=5, share=0.1)
