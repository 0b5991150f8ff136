"""Programs of the pages, started by the commands below them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from roomgrad.names import Names
from roomgrad.redis.server import connect, embedded_url
from tests.docs.pages import ROOT, blocks, programs
from tests.waiting import until

OURS = ("RUN", "REDIS_URL", "ROOMGRAD_RUN", "ROOMGRAD_REDIS_URL")  # a server is started
pytestmark = pytest.mark.timeout(180)


def environ(folder: Path) -> dict[str, str]:
    """Return an environment without a server, so that the embedded one is started."""
    return {
        **{name: value for name, value in os.environ.items() if name not in OURS},
        "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)]),
        "ROOMGRAD_STATE": str(folder / "state"),
    }


def test_a_shot_is_designed_through_the_trained_trebuchet(tmp_path: Path) -> None:
    """It lands within 5 cm of where it should, and the control model has not learned from it."""
    up = [sys.executable, "-m", "roomgrad", "up", "trebuchet", "--steps", "300"]
    program = [sys.executable, str(ROOT / "docs" / "examples" / "design.py")]
    run = partial(subprocess.run, cwd=tmp_path, env=environ(tmp_path), check=True, timeout=120)
    try:
        run(up)
        url = embedded_url(tmp_path / "state" / "server")
        assert url is not None
        with closing(connect(url)) as client:
            names = Names("trebuchet")
            key, counters = names.model("controlmodel"), names.counters("trainer")
            until(lambda: client.hget(counters, "finished") == b"300")
            before = client.hget(key, "version")
            printed = run(program, capture_output=True, text=True).stdout
            assert client.hget(key, "version") == before
        assert abs(float(re.search(r"lands at ([0-9.]+) m", printed)[1]) - 60) < 0.06
    finally:
        run([sys.executable, "-m", "roomgrad", "down"])


@pytest.mark.parametrize(("page", "program"), [("README.md", "cannon"), ("docs/torch.md", "aim")])
def test_a_program_runs_as_its_page_says(page: str, program: str, tmp_path: Path) -> None:
    """Line by line; the trainer learns through it until the program is interrupted."""
    file = f"{program}.py"
    (tmp_path / file).write_text(programs()[file])
    [block] = [each for each in blocks("sh") if each.page == page and file in each.text]
    typed = block.text.replace(".venv/bin/", f"{Path(sys.executable).parent}/").splitlines()
    counters, started = Names(program).counters("trainer"), []
    try:
        for line in typed:
            command = ["bash", "-c", f"exec {line}"]
            started.append(subprocess.Popen(command, cwd=tmp_path, env=environ(tmp_path)))
            if line != typed[-1]:
                assert started[-1].wait(120) == 0, line
        url = embedded_url(tmp_path / "state" / "server")
        assert url is not None
        with closing(connect(url)) as client:
            until(lambda: int(client.hget(counters, "finished") or 0) >= 20)
        started[-1].send_signal(signal.SIGINT)
        assert started[-1].wait(30) == 0
    finally:
        started[-1].kill()
        down = [sys.executable, "-m", "roomgrad", "down", "--run", program]
        subprocess.run(down, cwd=tmp_path, env=environ(tmp_path), check=False)
