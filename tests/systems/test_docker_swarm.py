"""deploy/swarm.yml on a swarm of one machine: scaled, updated and rolled back while it trains.

The tests build on each other, from top to bottom. The second release of a component writes messages
in another format than the first, and both read both: see `tests/systems/trebuchet/release.py`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.systems.project import ROOT
from tests.systems.stack import Stack, docker, removed_afterwards, swarm, until_docker

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(2400)]

STEPS, STEP_S = 800, 0.25
"""Few and slow, so that the training outlasts the tests."""

MODULES = {
    "trainer": "roomgrad_trebuchet.trainer.handlers",
    "controlmodel": "roomgrad_trebuchet.controlmodel.handlers",
    "simulator": "tests.systems.trebuchet.slow_simulator",
}
OTHERS = ("evolution", "evalnet", "learner", "labelling", "dashboard")

RELEASE = """
FROM {name}/{component}:base
COPY . .
ENTRYPOINT ["sh", "release.sh", "{module}", "{tag}"]
"""
RELEASE_SH = """
if [ -d /opt/numba ]; then cp -R /opt/numba /tmp; fi
exec python -m tests.systems.trebuchet.release "$@"
"""


def build_releases(stack: Stack, folder: Path) -> None:
    """Build two images of each component, tagged with the format that they write."""
    programs = Path("tests/systems/trebuchet")
    (folder / programs).mkdir(parents=True)
    for name in ("release.py", "slow_simulator.py"):
        shutil.copy(ROOT / programs / name, folder / programs)
    (folder / "release.sh").write_text(RELEASE_SH)
    for component, module in MODULES.items():
        stack.build(component)
        for tag in (1, 2):
            words = {"name": stack.name, "component": component, "module": module, "tag": tag}
            (folder / "Dockerfile").write_text(RELEASE.format(**words))
            docker("build", "--quiet", f"-t={stack.name}/{component}:{tag}", str(folder))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The trebuchet while it trains, with health checks patient enough for a busy machine."""
    folder = tmp_path_factory.mktemp("stack")
    changes = folder / "changes.yml"
    none = {name: {"deploy": {"replicas": 0}} for name in OTHERS}
    own: dict[str, Any] = {name: {"healthcheck": {"timeout": "120s"}} for name in MODULES}
    own["simulator"]["environment"] = {"SHOT_PAUSE_S": str(STEP_S)}
    changes.write_text(json.dumps({"version": "3.9", "services": none | own}))
    stack = Stack(
        {"ROOMGRAD_TRAIN_STEPS": str(STEPS), "ROOMGRAD_BATCH_SIZE": "20"},
        (ROOT / "deploy/swarm.yml", changes),
    )
    with swarm(), removed_afterwards(stack):
        build_releases(stack, folder / "images")
        stack.make_secrets()
        stack.deploy()
        stack.wait_redis()
        wait_finished(stack, 5)
        yield stack


def wait_finished(stack: Stack, batches: int, timeout_s: float = 300) -> None:
    """Wait until so many more batches are finished."""

    def finished() -> int:
        return stack.counters().get("finished", 0)

    wanted = min(finished() + batches, STEPS)
    until_docker(lambda: finished() >= wanted, timeout_s=timeout_s)


def formats(stack: Stack, room: str) -> set[int]:
    """Return the formats of the newest messages of a room."""
    key = f"{{trebuchet}}:{room}:DATA/FORWARD"
    lines = stack.redis("--no-raw", "XREVRANGE", key, "+", "-", "COUNT", "5")
    return {int(v) for line in lines for v in re.findall(r'{\\"v\\":(\d+),', line)}


def test_scaled_services_share_the_work(stack: Stack) -> None:
    """After `docker service scale` each replica has a heartbeat."""
    stack.scale(simulator=3, controlmodel=2)
    alive = "{trebuchet}:alive:simulator~*"
    until_docker(lambda: len(stack.redis("--scan", "--pattern", alive)) == 3, timeout_s=120)
    wait_finished(stack, 5)
    assert formats(stack, "output") == formats(stack, "model") == {1}


def test_containers_may_do_only_their_work(stack: Stack) -> None:
    """No root, no capabilities, nothing to write to, limits; a password that only it can read."""
    for container in stack.described():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert (host["NanoCpus"], host["PidsLimit"]) == (10**9, 256)
        assert host["Memory"] in (2**30, 2**31)
        assert not host["PortBindings"]
    assert stack.inside("simulator", "id -u") == "10001\n"
    mode = stack.inside("simulator", "stat -Lc '%a %u' /run/secrets/redis-password")
    assert mode == "400 10001\n"
    assert stack.redis("ACL", "WHOAMI") == ["default"]


def test_secrets_are_not_revealed(stack: Stack) -> None:
    """Each component has its own password, and it is in no output of Docker."""
    read = "cat /run/secrets/redis-password"
    secrets = [stack.inside(name, read) for name in (*MODULES, "redis")]
    assert len(set(secrets)) == len(secrets)
    assert {len(secret) for secret in secrets} == {64}
    outputs = [json.dumps(stack.described())]
    services = docker("stack", "services", "--quiet", stack.name).split()
    outputs.append(docker("service", "inspect", *services))
    kept = docker("secret", "ls", "--quiet", f"--filter=name={stack.name}").split()
    outputs.append(docker("secret", "inspect", *kept))
    for name in MODULES:
        outputs.append(docker("history", "--no-trunc", f"{stack.name}/{name}:1"))
        outputs.append(stack.log(name))
    assert not [secret for secret in secrets for text in outputs if secret in text]


def test_an_update_rolls_through_while_it_trains(stack: Stack) -> None:
    """Old and new replicas work side by side, though they write different formats."""
    services = {"simulator": 3, "controlmodel": 2}
    for service in services:
        stack.update(service, tag=2)
    until_docker(lambda: set(stack.tags("simulator")) == {"1", "2"}, timeout_s=300)
    for service, count in services.items():
        until_docker(lambda name=service, n=count: stack.tags(name) == ["2"] * n, timeout_s=600)
    wait_finished(stack, 5)
    assert formats(stack, "output") == formats(stack, "model") == {2}


def test_an_update_is_rolled_back_while_it_trains(stack: Stack) -> None:
    """The older release continues with the messages of the newer one."""
    stack.roll_back("controlmodel")
    until_docker(lambda: stack.tags("controlmodel") == ["1"] * 2, timeout_s=600)
    wait_finished(stack, 5)
    assert (formats(stack, "output"), formats(stack, "model")) == ({2}, {1})
    assert stack.counters()["finished"] < STEPS


def test_secrets_are_rotated_while_it_trains(stack: Stack) -> None:
    """Redis accepts old and new passwords first; then each component gets a new one."""
    old = stack.inside("trainer", "cat /run/secrets/redis-password")
    stack.make_secrets(2)
    [before] = stack.containers("redis")
    stack.settings |= {"TAG": "2", "USERS": "2"}
    stack.deploy()
    until_docker(lambda: [before["Id"]] != [each["Id"] for each in stack.containers("redis")], 120)
    stack.wait_redis()
    stack.settings |= {"SECRETS": "2"}
    stack.deploy()
    until_docker(lambda: old not in stack.passwords("trainer"), timeout_s=600)
    [new] = until_docker(lambda: stack.passwords("trainer"), timeout_s=60)
    user = ("--user", "trainer", "--no-auth-warning", "--pass")
    for password in (old, new):
        assert stack.redis(*user, password, "PING") == ["PONG"]


def test_every_batch_was_learned_from_once(stack: Stack) -> None:
    """After all that no message is lost, doubled, left over or dead."""
    until_docker(lambda: stack.counters().get("finished") == STEPS, timeout_s=900)
    counters = stack.counters()
    assert counters["sent"] == counters["applied"] == counters["distinct"] == STEPS
    assert counters.get("dead", 0) == 0
    assert stack.redis("XLEN", "{trebuchet}:dead") == ["0"]
    for component in MODULES:
        assert stack.redis("HLEN", f"{{trebuchet}}:memory:{component}") == ["0"]
