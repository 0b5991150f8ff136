"""Vertical learning in containers: a replica of an owner is killed, and each batch counts once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from roomgrad_split.contract import HEAD, LEFT, RIGHT, SPLIT
from roomgrad_split.table import batches
from tests.systems.project import Project, removed_afterwards, service_of
from tests.waiting import until

# Slow, as three images are built.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200)]

EPOCHS, BATCH = 20, 32
STEPS = EPOCHS * batches(BATCH)
ACCURACIES = f"{{{SPLIT.name}}}:accuracy"


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """Its three components, one of them in two containers."""
    scales = {LEFT: 1, RIGHT: 2, HEAD: 1}
    with removed_afterwards(Project(scales, 0, settings={"COMPOSE_PROFILES": "split"})) as project:
        project.compose("build", *scales)
        project.up()
        yield project


def counters(project: Project, name: str) -> dict[str, int]:
    printed = project.redis("HGETALL", f"{{{SPLIT.name}}}:counters:{name}")
    words = [word for word in printed if word]
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def test_it_learns_though_an_owner_is_killed(project: Project) -> None:
    """As Redis users with the rights of their components."""
    until(lambda: counters(project, RIGHT).get("applied", 0) > STEPS // 10, timeout_s=300)
    assert subprocess.run(["docker", "kill", project.ids(RIGHT)[0]]).returncode == 0
    until(lambda: project.redis("HLEN", ACCURACIES) == [str(EPOCHS)], timeout_s=300)
    newest = json.loads("".join(project.redis("HGET", ACCURACIES, str(EPOCHS))))
    assert newest["accuracy"] > 0.9
    for name in SPLIT.components:
        found = counters(project, name)
        assert (found["applied"], found["distinct"]) == (STEPS, STEPS)
        memory = f"{{{SPLIT.name}}}:memory:{name}"
        until(lambda memory=memory: project.redis("EXISTS", memory) == ["0"])
    assert project.redis("XLEN", f"{{{SPLIT.name}}}:dead") == ["0"]
    services = project.compose("ps", "--services", "--status=running").split()
    assert {*services} == {*SPLIT.components, "redis"}
    assert {service_of(each) for each in project.containers()} == {*services, "secrets"}
