"""`rediss+cluster://` with users: TLS on each node and bus, a password for each component.

The tests build on each other, from top to bottom: the last one kills a master.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from roomgrad.component import Component
from roomgrad.errors import ConnectionLost, RoomgradError
from roomgrad.names import Names
from roomgrad.redis.addresses import for_run
from roomgrad.redis.client import Client
from roomgrad.redis.connection import Connection
from roomgrad.redis.server import connect
from roomgrad.settings import RuntimeSettings
from roomgrad.testing import running
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.contract import FORWARD, INPUT, OUTPUT, TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.simulator.settings import SimulatorSettings
from roomgrad_trebuchet.trainer.handlers import component as trainer
from roomgrad_trebuchet.trainer.settings import TrainerSettings
from tests.integration.cluster_containers import SecureCluster
from tests.integration.clusters import MASTERS
from tests.roomgrad_command import roomgrad
from tests.systems.trebuchet import reference
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

RUN, STEPS, BATCH = "night", 60, 20
QUICK = {"run": RUN, "heartbeat_interval_s": 0.2, "heartbeat_lives_s": 0.8, "lease_s": 0.6}
COMPONENTS: list[tuple[Component, RuntimeSettings]] = [
    (trainer, TrainerSettings(train_steps=STEPS, batch_size=BATCH, **QUICK)),
    (controlmodel, ControlModelSettings(train_steps=STEPS, threads=1, **QUICK)),
    (simulator, SimulatorSettings(**QUICK)),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCluster]:
    """Three masters and their replicas, with the users of the run."""
    printed = roomgrad("acl", "trebuchet", "--run", RUN).stdout
    lines = [line for line in printed.splitlines() if line.startswith("user ")]
    lines.append("user nobody on resetchannels -@all +hello +auth +ping")
    with SecureCluster(tmp_path_factory.mktemp("tls"), lines) as found:
        assert isinstance(found, SecureCluster)
        yield found


def command(cluster: SecureCluster, *words: str, user: str = "default") -> str:
    """Return what a command prints, which finds the address in the environment."""
    run = [] if words[0] in ("restore", "doctor") else ["--run", RUN]
    done = roomgrad(*words, *run, environ={"REDIS_URL": cluster.url_of(user)})
    assert done.returncode == 0 or words[0] == "doctor", done.stderr + done.stdout
    assert not any(each in done.stdout + done.stderr for each in cluster.passwords.values())
    return done.stdout


@contextlib.contextmanager
def trained(cluster: SecureCluster) -> Iterator[redis.Redis]:
    """Run each component as its own user. Yields a client of the run."""
    with contextlib.ExitStack() as stack:
        for component, settings in COMPONENTS:
            stack.enter_context(running(component, settings, cluster.url_of(component.name)))
        yield stack.enter_context(client_of(cluster))


def finished(client: redis.Redis) -> int:
    """Return the number of batches that are home, or -1 while the master is away."""
    with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
        return ledger.read(client, Names(RUN)).finished
    return -1


def assert_exact(cluster: SecureCluster) -> None:
    """Each batch was learned once, to the bits of one process, and nothing was forbidden."""
    with client_of(cluster) as client:
        found = ledger.read(client, Names(RUN))
    assert (found.applied, found.distinct, found.dead, found.open) == (STEPS, STEPS, 0, 0)
    assert learned(cluster) == reference.train(STEPS, batch_size=BATCH).sha256
    assert cluster.refused() == []


def test_a_training_as_its_users_goes_on_where_its_slot_has_moved(
    cluster: SecureCluster,
) -> None:
    """Commands see it, nothing that it needs is forbidden, and it learns the same bits."""
    with trained(cluster) as client:
        until(lambda: finished(client) >= STEPS // 6)
        cluster.move(RUN)
        until(lambda: finished(client) == STEPS)
        replicas = json.loads(command(cluster, "ps", "--json", user="dashboard"))["replicas"]
        assert {each["component"] for each in replicas if each["alive"]} == {
            component.name for component, _ in COMPONENTS
        }
        assert "simulator" in command(cluster, "top", "--once", user="dashboard")
        with Client(TREBUCHET, RUN, cluster.url_of("inference"), name="inference") as asking:
            answer = asking.ask(INPUT, FORWARD, [[3.0, 60.0]], answer=(OUTPUT, FORWARD))
            assert answer.array.shape[0] == 1
    assert_exact(cluster)


def test_commands_use_the_address_too(cluster: SecureCluster, tmp_path: Path) -> None:
    """`doctor` checks each master, and a run that is saved goes on after a restore."""
    found = json.loads(command(cluster, "doctor", "--json"))["findings"]
    assert RUN in {each["run"] for each in found}
    told = {each["about"]: each["found"] for each in found}
    assert told["cluster"] == "16384 of 16384 slots served"
    versions = [told[about] for about in told if about.endswith(" version")]
    assert len(versions) == MASTERS
    assert all(each.startswith("redis 8") for each in versions)
    file = str(tmp_path / "night.backup")
    command(cluster, "backup", file)
    before = learned(cluster)
    delete(cluster)
    command(cluster, "restore", file)
    assert learned(cluster) == before


@contextlib.contextmanager
def client_of(cluster: SecureCluster) -> Iterator[redis.Redis]:
    with contextlib.closing(connect(for_run(cluster.url_of("default"), RUN))) as client:
        yield client


def learned(cluster: SecureCluster) -> str:
    """Return the SHA-256 of the weights."""
    with client_of(cluster) as client:
        return ledger.weights_sha256(client, Names(RUN))


def delete(cluster: SecureCluster) -> None:
    done = roomgrad(
        "runs", "delete", RUN, "--yes", environ={"REDIS_URL": cluster.url_of("default")}
    )
    assert done.returncode == 0, done.stderr


def by_connection(url: str) -> None:
    """How a component sends and receives."""
    with contextlib.closing(Connection(for_run(url, RUN))) as connection:
        connection.connect()


def by_client(url: str) -> None:
    """What commands and pages use."""
    connect(for_run(url, RUN)).close()


Change = Callable[[SecureCluster], str]
WRONG: dict[str, tuple[Change, str]] = {
    "password": (
        lambda cluster: cluster.url_of("simulator", password="wrong"),
        r"the nodes of the cluster refuse the password, .*REDIS_PASSWORD_FILE",
    ),
    "authority": (
        lambda cluster: cluster.url_of("simulator", ca="other.crt"),
        r"not signed by the CA in \S+/other\.crt: .*REDIS_CA_FILE",
    ),
    "rules": (
        lambda cluster: cluster.url_of("nobody"),
        r"the nodes of the cluster refuse this user, .*cluster.*`roomgrad acl --run night`",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("connects", [by_connection, by_client])
def test_what_is_wrong_with_an_address_is_told_in_a_sentence(
    cluster: SecureCluster, connects: Callable[[str], None], wrong: str
) -> None:
    """The password, the authority that signed the certificates, or the rules of the user."""
    change, sentence = WRONG[wrong]
    with pytest.raises((RoomgradError, ConnectionLost), match=sentence) as told:
        connects(change(cluster))
    print(told.value)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_component_says_the_same(cluster: SecureCluster, wrong: str) -> None:
    """It ends if it cannot trust the cluster; passwords and rules may be changed meanwhile."""
    change, sentence = WRONG[wrong]
    words = [sys.executable, "-m", "roomgrad.runtime", "simulator", f"--run={RUN}"]
    command = [*words, f"--redis-url={change(cluster)}", "--log-format=json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if re.search(sentence, line))
        if wrong == "authority":
            assert process.wait(60) == 1
        else:
            assert "trying again" in said
            process.terminate()
            assert process.wait(60) == 0


@pytest.mark.parametrize("shown", ["elsewhere", "foreign"])
@pytest.mark.parametrize("connects", [by_connection, by_client])
def test_a_node_whose_certificate_is_wrong_is_told(
    cluster: SecureCluster, connects: Callable[[str], None], shown: str
) -> None:
    """The node that serves the run; the others, which name it, are as they should be."""
    master = cluster.master_of(RUN)
    cluster.show(master, shown)
    reason = {"elsewhere": "is not valid for", "foreign": "is not signed by"}[shown]
    try:
        with pytest.raises((RoomgradError, ConnectionLost), match=f":{master[1]} {reason}"):
            connects(cluster.url_of("simulator"))
    finally:
        cluster.show(master, "good")
    connects(cluster.url_of("simulator"))


def test_a_training_as_its_users_survives_the_death_of_its_master(cluster: SecureCluster) -> None:
    """Its replica has the same users, and takes over: each batch is learned once."""
    delete(cluster)
    cluster.forget_refused()
    with trained(cluster) as client:
        until(lambda: finished(client) >= STEPS // 3)
        cluster.kill_master(RUN)
        cluster.wait_elected(RUN)
        until(lambda: finished(client) == STEPS)
    found = ledger.read(client, Names(RUN))
    assert (found.applied, found.distinct, found.dead, found.open) == (STEPS, STEPS, 0, 0)
    assert (
        ledger.weights_sha256(client, Names(RUN)) == reference.train(STEPS, batch_size=BATCH).sha256
    )
    assert cluster.refused() == []
