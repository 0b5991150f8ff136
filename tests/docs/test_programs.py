"""Programs of the pages, started by the commands below them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from roomgrad.names import Names
from roomgrad.redis.server import connect, embedded_url
from tests.docs.pages import ROOT, blocks, programs
from tests.waiting import until

OURS = ("RUN", "REDIS_URL", "ROOMGRAD_RUN", "ROOMGRAD_REDIS_URL")  # a server is started
pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize(("page", "program"), [("README.md", "cannon"), ("docs/torch.md", "aim")])
def test_a_program_runs_as_its_page_says(page: str, program: str, tmp_path: Path) -> None:
    """Line by line; the trainer learns through it until the program is interrupted."""
    file = f"{program}.py"
    (tmp_path / file).write_text(programs()[file])
    [block] = [each for each in blocks("sh") if each.page == page and file in each.text]
    typed = block.text.replace(".venv/bin/", f"{Path(sys.executable).parent}/").splitlines()
    environ = {
        **{name: value for name, value in os.environ.items() if name not in OURS},
        "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)]),
        "ROOMGRAD_STATE": str(tmp_path / "state"),
    }
    counters, started = Names(program).counters("trainer"), []
    try:
        for line in typed:
            command = ["bash", "-c", f"exec {line}"]
            started.append(subprocess.Popen(command, cwd=tmp_path, env=environ))
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
        subprocess.run(down, cwd=tmp_path, env=environ, check=False)
