"""The programs that measure run, and print what other programs can read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT

QUICK = {
    "guard_costs": ["--rounds=1", "--commits=200"],
}
LONGER = {
    "ask": ["--rounds=1", "--questions=200"],
    "dashboard": ["--rounds=1", "--seconds=1"],
    "flat": ["--rounds=1", "--window-s=0.5"],
    "flood": ["--rounds=1", "--messages=2000"],
    "gateway": ["--rounds=1", "--seconds=1"],
    "growth": ["--messages=3000"],
    "hop_profile": ["--seconds=1"],
    "hops": ["--rounds=1", "--window-s=0.5", "--only=4 KiB"],
    "hostile": ["--windows=1", "--window-s=1", "--inputs=200"],
    "idle": ["--seconds=3"],
    "learning": ["--seeds", "0"],
    "model_size": ["--sizes=2210", "--replicas=1,2", "--rounds=1", "--seconds=1"],
    "physics": ["--rounds=1"],
    "rlgym": ["--seeds=0", "--members=2", "--aim=1"],
    "scale": ["--seconds=1", "--runs=2", "--idle=20"],
    "through": ["--rounds=1", "--seconds=0.5", "--ours"],
    "step": ["--rounds=1", "--steps=210"],
    "training": ["--rounds=1", "--steps=150", "--window=2"],
    "window": ["--seeds=0", "--steps=100"],
    "transport": ["--rounds=1", "--seconds=0.5"],
}


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LONGER)]
)
def test_a_benchmark_runs(name: str) -> None:
    """A small one of each; what it measures says nothing, and is not looked at."""
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", *{**QUICK, **LONGER}[name]]
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])


def test_each_of_them_is_run_here() -> None:
    """A new one is found by `make bench`, and has to be named here, too."""
    folder = ROOT / "tests" / "benchmarks"
    found = {path.stem for path in folder.glob("[a-z]*.py")}
    found |= {path.parent.name for path in folder.glob("*/__main__.py")}
    melody = {name for name in found if name.startswith("melody_")}
    assert found - melody == set(QUICK) | set(LONGER)
