"""The configuration, the users and the passwords of deploy/kubernetes on a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from roomgrad.names import Names
from roomgrad.runtime.runs import create_groups
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.contract import TREBUCHET
from tests.systems.kubernetes import (
    FOLDER,
    Manifest,
    container,
    laid_out,
    of_kind,
    read_secrets,
    templates,
)
from tests.systems.kubernetes_server import Served, serving
from tests.waiting import until

pytestmark = pytest.mark.kubectl


@pytest.fixture(scope="module")
def everything() -> list[Manifest]:
    """Base with all features."""
    return laid_out("everything")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server started like the pod of Redis."""
    manifests = laid_out("everything")
    volumes = templates(manifests)["redis"]["spec"]["volumes"]
    name = next(each for each in volumes if each["name"] == "config")["configMap"]["name"]
    command = container(templates(manifests)["redis"])["command"]
    config = of_kind(manifests, "ConfigMap")[name]["data"]
    with serving(command, config, read_secrets(FOLDER), tmp_path_factory.mktemp("redis")) as served:
        yield served


def test_nobody_gets_in_without_a_password(server: Served) -> None:
    """Each user is accepted only with its own password."""
    for user, password in (("default", "guessed"), ("trainer", server.password("simulator"))):
        with pytest.raises(redis.AuthenticationError):
            server.as_user(user, password).ping()
    without = server.as_user("default")
    without.connection_pool.connection_kwargs.update(username=None, password=None)
    with pytest.raises(redis.AuthenticationError):
        without.ping()
    assert server.as_user("default").config_get("maxmemory")["maxmemory"] == str(3 * 2**29)
    for user in of_kind(laid_out("everything"), "Deployment"):
        assert server.as_user(user).ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            server.as_user(user).flushall()
        with pytest.raises(redis.exceptions.NoPermissionError):
            server.as_user(user).config_get("*")


def test_the_scaler_sees_what_waits_and_what_is_in_hand(server: Served) -> None:
    """It may run the commands that KEDA sends, and may write nothing."""
    names, administrator = Names("scaled"), server.as_user("default")
    create_groups(administrator, TREBUCHET, names)
    stream, scaler = names.stream("model", "DATA/FORWARD"), server.as_user("scaler")

    def seen() -> tuple[int, int]:
        assert scaler.ping()
        assert scaler.info()["redis_version"]
        [group] = scaler.xinfo_groups(stream)
        return group["lag"], scaler.xpending(stream, "simulator")["pending"]

    assert seen() == (0, 0)
    administrator.xadd(stream, {"message": b""})
    assert seen() == (1, 0)
    administrator.xreadgroup("simulator", "somebody", {stream: ">"})
    assert seen() == (0, 1)
    administrator.hset(names.memory("trainer"), "root", "{}")
    assert scaler.eval("return redis.call('hlen', KEYS[1])", 1, names.memory("trainer")) == 1
    writes: list[tuple[Any, ...]] = [
        ("XADD", stream, "*", "a", "b"),
        ("XACK", stream, "simulator", "1-0"),
        ("DEL", stream),
        ("EVAL", "return redis.call('del', KEYS[1])", 1, stream),
        ("XRANGE", stream, "-", "+"),
        ("HGETALL", names.memory("trainer")),
    ]
    for write in writes:
        with pytest.raises(redis.ResponseError, match=r"(?i)no permissions|can't run this|NOPERM"):
            scaler.execute_command(*write)
    assert seen() == (0, 1)


@pytest.mark.parametrize("probe", ["livenessProbe", "readinessProbe"])
def test_a_loop_that_does_not_turn_is_noticed(
    probe: str, server: Served, everything: list[Manifest]
) -> None:
    """Even the patient probe fails: no process renews the health file."""
    command = container(templates(everything)["evolution"])[probe]["exec"]["command"]
    done = server.ask("evolution", environment(everything, "evolution"), command)
    assert done.returncode == 1
    assert "evolution has no health file" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_training_runs_with_the_settings_and_rights_of_the_pods(
    server: Served, everything: list[Manifest]
) -> None:
    """Each process has exactly the variables of its pod, and passes its own probe."""
    names = Names("trebuchet")
    with ExitStack() as stack:
        pods = {}
        for name in TREBUCHET.components:
            pods[name] = environment(everything, name) | {
                "ROOMGRAD_TRAIN_STEPS": "20",
                "ROOMGRAD_METRICS_PORT": "0",
            }
            started = server.start(name, pods[name])
            stack.callback(started.wait, 20)
            stack.callback(started.terminate)
        administrator = server.as_user("default")
        until(lambda: ledger.read(administrator, names).finished == 20, timeout_s=240)
        assert ledger.read(administrator, names).applied == 20
        assert administrator.xlen(names.dead()) == 0
        probe = container(templates(everything)["simulator"])["readinessProbe"]["exec"]["command"]
        assert server.ask("simulator", pods["simulator"], probe).stdout == "simulator is well.\n"


def environment(manifests: list[Manifest], name: str) -> dict[str, str]:
    """Return the environment of a pod as Kubernetes would make it."""
    only = container(templates(manifests)[name])
    found: dict[str, str] = {}
    for each in only["envFrom"]:
        found |= of_kind(manifests, "ConfigMap")[each["configMapRef"]["name"]]["data"]
    for each in only["env"]:
        value = each.get("value", name)  # the only other kind of value is the pod's label
        found[each["name"]] = re.sub(r"\$\((\w+)\)", lambda m: found[m[1]], value)
    return found
