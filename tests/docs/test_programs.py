"""Programs of the pages, started by the commands below them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from roomgrad.names import Names
from roomgrad.redis import heartbeats
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


def test_three_files_are_the_whole_trebuchet(tmp_path: Path) -> None:
    """The commands of the page, in its order: the loss falls to a twentieth."""
    [block] = [each for each in blocks("sh") if each.page == "docs/serve.md"]
    *served, train = block.text.replace(
        ".venv/bin/", f"{Path(sys.executable).parent}/"
    ).splitlines()
    for file in ("aiming", "world", "train"):
        assert programs()[f"{file}.py"].count("\n") <= 15
    with ExitStack() as stack:
        for line in served:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=ROOT,
                env=environ(tmp_path),
                stderr=subprocess.PIPE,
            )
            stack.callback(stop, process)
            assert process.stderr is not None
            said = [process.stderr.readline().decode() for _ in range(2)]
            assert "in room" in said[0], said
            assert "within 0.0" in said[1], said
            name = said[0].partition(":")[0]
            until(lambda name=name: is_declared(tmp_path, name))
        done = subprocess.run(
            ["bash", "-c", train], cwd=ROOT, env=environ(tmp_path), capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[1]) for line in done.stdout.splitlines()]
    assert losses[-1] < losses[0] / 20, losses


def test_the_program_of_the_page_is_a_plant(tmp_path: Path) -> None:
    """`solver.pl` behind `--command`, asked by a client."""
    command = [sys.executable, "-m", "roomgrad", "serve", "--command=docs/examples/solver.pl"]
    command += ["--enter=model", "--leave=output", "--like=[[1, 0.7, 25]]"]
    with ExitStack() as stack:
        process = subprocess.Popen(command, cwd=ROOT, env=environ(tmp_path), stderr=subprocess.PIPE)
        stack.callback(stop, process)
        assert process.stderr is not None
        said = [process.stderr.readline().decode() for _ in range(2)]
        assert said[0].startswith("solver: a program, differentiated by central differences"), said
        assert "within 0.0" in said[1], said
        until(lambda: is_declared(tmp_path, "solver"))
        ask = [sys.executable, "-m", "roomgrad", "request", "model", "[[0, 0.7853981634, 10]]"]
        asked = subprocess.run(
            [*ask, "--run=served", "--json"],
            cwd=ROOT,
            env=environ(tmp_path),
            capture_output=True,
            text=True,
        )
    assert '"DATA":[10.19' in asked.stdout.replace(" ", ""), asked


def is_declared(folder: Path, name: str) -> bool:
    """Return whether a component of the run `served` has a living replica."""
    url = embedded_url(folder / "state" / "server")
    if url is None:
        return False
    with closing(connect(url)) as client:
        return any(each.component == name for each in heartbeats.find(client, Names("served")))


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.communicate(timeout=60)
