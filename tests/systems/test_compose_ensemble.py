"""One member of an ensemble in two containers: one is killed, and each batch is learned once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import redis
import yaml

from roomgrad import Message
from roomgrad.names import Names
from roomgrad.redis import heartbeats
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from tests.integration.ensembles.zoo import ACT, MODELS, ZOO
from tests.integration.model.learner import BATCH
from tests.systems.project import ROOT, Project, removed_afterwards
from tests.waiting import until

# Slow, as the image is built.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = Names(ZOO.name)
BATCHES = 1000
MEMBER = "model.1"


def services(folder: Path, image: str) -> dict[str, object]:
    """Return the services: the member that is scaled, the others in one container, the teacher."""
    component = {
        "image": image,
        "read_only": True,
        "tmpfs": "/tmp",
        "init": True,
        "volumes": [f"{ROOT}/tests:/tests/tests:ro", f"{folder}:/tests/zoo:ro"],
        "depends_on": {"redis": {"condition": "service_healthy"}},
    }
    environ = {
        "PYTHONPATH": "/tests:/tests/zoo",
        "ROOMGRAD_REDIS_URL": "redis://redis:6379/0",
        "ROOMGRAD_RUN": ZOO.name,
        "ROOMGRAD_LEASE_S": "2",
    }
    health = {"test": "redis-cli ping", "interval": "1s", "timeout": "5s", "retries": 30}
    served = {"teacher": {"COMPONENT": "teacher"}, "member": {"COMPONENT": MEMBER}}
    served["others"] = {"COMPONENT": "model", "ROOMGRAD_MEMBER": "0,2"}
    return {
        "redis": {"image": "redis:8", "ports": ["127.0.0.1::6379"], "healthcheck": health},
        **{name: {**component, "environment": environ | own} for name, own in served.items()},
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The system `zoo`, with the SDK of an image and the modules of these tests."""
    folder = tmp_path_factory.mktemp("zoo")
    installed = folder / "zoo-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1\n")
    entry = "[roomgrad.systems]\nzoo = tests.integration.ensembles.zoo:plugin\n"
    (installed / "entry_points.txt").write_text(entry)
    for path in (folder, installed, *installed.iterdir()):
        path.chmod(0o755)  # the user of the image is another
    built = Project({}, 0)
    with removed_afterwards(built):
        built.compose("build", "greeter")
        file = folder / "compose.yml"
        file.write_text(
            yaml.safe_dump({"services": services(folder, f"{built.name}/greeter:latest")})
        )
        zoo = Project({"member": 2, "others": 1, "teacher": 1}, 0, files=(str(file),))
        with removed_afterwards(zoo):
            zoo.up()
            yield zoo


@pytest.fixture(scope="module")
def url(project: Project) -> str:
    return f"redis://{project.compose('port', 'redis', '6379').strip()}/0"


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with closing(connect(url)) as client:
        yield client


def test_a_member_in_two_containers_learns_each_batch_once(
    project: Project, client: redis.Redis, url: str
) -> None:
    """Though one of them is killed at half of the batches; the other members learn nothing."""
    expected = {"teacher": 1, "model.0": 1, MEMBER: 2, "model.2": 1}
    until(lambda: dict(heartbeats.living(client, NAMES)) == expected)
    hosts = {each.host for each in heartbeats.find(client, NAMES, MEMBER)}
    assert len(hosts) == 2
    with Client(ZOO, NAMES.run, url) as sender:
        for number in range(BATCHES):
            batch = np.full(BATCH, number / BATCHES, "<f4")
            sender.send(Message.open(MODELS.room(ACT, MEMBER), batch))
    counters = NAMES.counters("teacher")
    until(lambda: int(client.hget(counters, "act.1") or 0) > BATCHES // 4)
    assert subprocess.run(["docker", "kill", project.ids("member")[0]]).returncode == 0
    until(lambda: client.hget(counters, "act.1") == b"%d" % BATCHES, timeout_s=120)
    until(lambda: not any(client.exists(NAMES.memory(name)) for name in ZOO.components))
    once = ("applied", "distinct")
    counted = {name: client.hmget(NAMES.counters(name), once) for name in MODELS.names}
    none, all_ = [None, None], [b"%d" % BATCHES] * 2
    assert counted == {"model.0": none, MEMBER: all_, "model.2": none}
    steps = {name: client.hget(NAMES.model(name), "step") for name in MODELS.names}
    assert steps == {"model.0": b"0", MEMBER: b"%d" % BATCHES, "model.2": b"0"}
    assert client.xlen(NAMES.dead()) == 0
    until(lambda: heartbeats.living(client, NAMES)[MEMBER] == 1)
