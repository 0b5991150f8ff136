"""Replicas are interleaved, killed and cut off at any command, as seeds say: `tests.schedules`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.integration.conftest import ROOT
from tests.schedules.mutations import MUTATIONS
from tests.schedules.schedule import Played, a_server, play, play_all

SCHEDULES, PARTS = 2000, 4


def report(wrong: list[Played]) -> str:
    """Return the first schedule that went wrong, with its decisions, and the seeds of all."""
    return f"{wrong[0]}\nseeds: {[each.seed for each in wrong]}" if wrong else ""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_each_schedule_has_each_effect_once(part: int) -> None:
    """And the weights are those of one process, memory is empty, and nothing is left over."""
    each = SCHEDULES // PARTS  # side by side, so that a part has all contracts
    counts, wrong = play_all(range(part * each, (part + 1) * each))
    assert not wrong, report(wrong)
    rare = ("takeovers", "deaths", "cuts", "commits: gone", "commits: stale", "commits of the dead")
    rare += ("given up", "leases")
    assert all(counts[name] > 10 for name in rare), counts


def test_a_seed_repeats_its_schedule() -> None:
    """On another server, and in another process."""
    seeds = range(12)
    with a_server() as server:
        first = [play(server, seed) for seed in seeds]
    with a_server() as server:
        again = [play(server, seed) for seed in seeds]
    assert [each.trace for each in again] == [each.trace for each in first]
    assert len({tuple(each.trace) for each in first}) == len(seeds)
    command = [sys.executable, "-m", "tests.schedules", "--seed", "5"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)])}
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert told.stdout.strip() == str(first[5]), told.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_schedule_notices_what_is_left_out(name: str) -> None:
    with MUTATIONS[name](), a_server() as server:
        played = (play(server, seed) for seed in range(SCHEDULES))
        found = next((each for each in played if each.wrong), None)
    assert found is not None
    print(f"{name}: schedule {found.seed}: {found.wrong[0]}")
