"""A model whose snapshots go to files, in containers: trained, scaled, killed, and begun again.

The tests build on each other, from top to bottom.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from roomgrad.names import Names
from roomgrad.snapshots import pointers
from roomgrad.snapshots.pointers import Snapshot
from roomgrad_trebuchet import ledger
from tests.pages.melody.labelling_run import free_port
from tests.systems.project import Project, removed_afterwards
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

MODEL = "controlmodel"
SCALES = {"trainer": 1, MODEL: 1, "simulator": 1}
STEPS = 100_000
"""More than the training finishes during the tests."""

NAMES = Names("trebuchet")
FILES = ("docker-compose.yml", "deploy/compose.expose.yml")
IN_FILES = {"ROOMGRAD_SNAPSHOT_REDIS_MIB": "0"}


@dataclass
class Training:
    """A training in containers, and a client of its Redis."""

    project: Project
    client: redis.Redis

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots to which the run points."""
        return pointers.from_json(self.client.hget(NAMES.model(MODEL), pointers.FIELD))  # type: ignore[arg-type]

    def step(self) -> int:
        return int(self.client.hget(NAMES.model(MODEL), "step") or 0)  # type: ignore[arg-type]

    def continues(self) -> None:
        """Wait for more steps, and have a snapshot taken of them."""
        goal = self.step() + 20
        until(lambda: self.step() >= goal, timeout_s=240)
        until(lambda: self.newer_than(goal), timeout_s=240, every_s=0.1)

    def newer_than(self, step: int) -> bool:
        """Ask for a snapshot; return whether there is one that is as new."""
        self.client.hset(NAMES.model(MODEL), "wanted", "1")
        return self.snapshots()[0].step >= step

    def run_one(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """Run one more replica in a container of its own."""
        return self.project.run("run", "--rm", "--no-deps", "-T", *flags, MODEL)


@pytest.fixture(scope="module")
def training() -> Iterator[Training]:
    settings = {**IN_FILES, "ROOMGRAD_REDIS_PORT": str(free_port()), "ROOMGRAD_THREADS": "1"}
    with removed_afterwards(Project(SCALES, STEPS, FILES, settings)) as project:
        project.compose("build", *SCALES)
        project.start()
        password = project.inside("redis", "cat /run/secrets/redis-password").stdout.strip()
        port = int(settings["ROOMGRAD_REDIS_PORT"])
        with redis.Redis("127.0.0.1", port, password=password) as client:
            yield Training(project, client)


def test_snapshots_are_files_that_all_replicas_share(training: Training) -> None:
    """The volume belongs to the user of the component; nothing of it is in Redis."""
    project = training.project
    training.continues()
    project.up("--no-recreate", controlmodel=3)
    training.continues()
    newest = training.snapshots()[0]
    assert newest.place.startswith("file:///snapshots/trebuchet~")
    file = newest.place.removeprefix("file://")
    found = project.inside(MODEL, f"stat --format '%u %a' {file}; sha256sum {file}")
    if found.returncode == 0:  # else a newer one has replaced it
        assert found.stdout.split()[:3] == ["10001", "640", newest.sha256]
    assert not list(training.client.scan_iter(NAMES.snapshot_piece(MODEL, "*", "*")))
    assert "other hosts cannot use" not in project.run("logs", MODEL).stdout


def test_killed_and_removed_containers_go_on_from_the_snapshot(training: Training) -> None:
    """What their processes held is gone; the log holds only what came after the snapshot."""
    project = training.project
    until(lambda: training.newer_than(0) and training.snapshots()[-1].step, timeout_s=240)
    killed = project.ids(MODEL)
    assert len(killed) == 3
    project.compose("kill", MODEL)
    project.compose("rm", "--force", MODEL)
    before, oldest = training.step(), training.snapshots()[-1]
    [(first, _)] = training.client.xrange(NAMES.steps(MODEL), count=1)
    assert first.decode() == oldest.entry
    project.up("--no-recreate")
    training.continues()
    assert training.step() > before
    assert not set(killed) & set(project.ids(MODEL))
    found = ledger.read(training.client, NAMES)
    assert found.applied == found.distinct >= before
    assert (found.dead, found.lost, found.duplicates) == (0, 0, 0)


@pytest.mark.parametrize(
    "flags",
    [
        ("--volume=/root-owned", "--env=ROOMGRAD_SNAPSHOTS=file:///root-owned"),
        pytest.param(("--env=ROOMGRAD_SNAPSHOTS=file:///usr/snapshots",), marks=pytest.mark.slow),
        pytest.param(
            ("--volume=/tmp:/read-only:ro", "--env=ROOMGRAD_SNAPSHOTS=file:///read-only"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_store_that_cannot_be_written_is_refused(
    training: Training, flags: tuple[str, ...]
) -> None:
    """A folder of root, and those of a read-only file system."""
    ended = training.run_one(*flags)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 2, said
    assert "cannot be written by user id 10001" in said
    assert "name another one by ROOMGRAD_SNAPSHOTS" in said
    assert "Traceback" not in said


def test_a_store_that_is_not_shared_is_refused(training: Training) -> None:
    """The replica cannot load the model from a volume of its own; the others go on."""
    volume = f"{training.project.name}-apart"
    try:
        ended = training.run_one(f"--volume={volume}:/snapshots")
    finally:
        subprocess.run(["docker", "volume", "rm", "--force", volume], capture_output=True)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 2, said
    assert "the snapshot store file:///snapshots of this host" in said
    assert "is not shared with host" in said
    assert "name one by ROOMGRAD_SNAPSHOTS that all hosts reach" in said
    training.continues()
