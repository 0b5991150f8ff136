"""An ensemble of an installed system: `--members` for a run, and what commands say of a member."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import redis

from roomgrad import Message
from roomgrad.cli.acl import declared_by
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from roomgrad.redis import heartbeats
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.testing import throwaway_server
from tests.integration.ensembles.zoo import ACT, MODELS, ZOO
from tests.integration.model.learner import BATCH
from tests.waiting import LIMIT_S, until

ROOT = Path(__file__).resolve().parents[2]
NAMES = Names("zoo")

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return the environment in which the system `zoo` is installed."""
    installed = tmp_path / "zoo-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1\n")
    entry = "[roomgrad.systems]\nzoo = tests.integration.ensembles.zoo:plugin\n"
    (installed / "entry_points.txt").write_text(entry)
    paths = os.pathsep.join(map(str, (tmp_path, ROOT / "shared", ROOT)))
    own = {"PYTHONPATH": paths, "ROOMGRAD_STATE": str(tmp_path / "state")}
    return {**os.environ, **own}


@pytest.fixture
def server(environ: dict[str, str]) -> Iterator[EmbeddedServer]:
    with throwaway_server() as server:
        environ["ROOMGRAD_REDIS_URL"] = server.url
        yield server


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with closing(connect(server.url)) as client:
        yield client


@pytest.fixture
def roomgrad(environ: dict[str, str], tmp_path: Path) -> Command:
    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "roomgrad", *words]
        done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def train(url: str, member: str) -> None:
    numbers = np.ones(BATCH, "<f4")
    with Client(ZOO, NAMES.run, url) as sender:
        sender.send(Message.open(MODELS.room(ACT, member), numbers))


def test_it_is_up_with_as_many_members_as_asked_for(
    server: EmbeddedServer, client: redis.Redis, roomgrad: Command
) -> None:
    """One process serves them; its commands know each by its name."""
    try:
        roomgrad("up", "zoo", "--members", "2", "--replicas", "model.1=2")
        found = heartbeats.find(client, NAMES)
        served: dict[str, set[int]] = {}
        for each in found:
            served.setdefault(each.component, set()).add(each.pid)
        assert served.keys() == {"teacher", "model.0", "model.1"}
        assert served["model.0"] < served["model.1"]
        assert len(served["model.1"]) == 2
        train(server.url, "model.1")
        counters = NAMES.counters("teacher")
        until(lambda: client.hget(counters, "act.1") == b"1")
        shown = json.loads(roomgrad("ps", "--run", "zoo", "--json").stdout)
        assert [each["component"] for each in shown["replicas"]] == [
            *["model.0", "model.1", "model.1", "teacher"]
        ]
        model = json.loads(roomgrad("model", "model.1", "--run", "zoo", "--json").stdout)
        assert (model["component"], model["step"]) == ("model.1", 1)
        roomgrad("trace", "--run", "zoo")
        for words in (("doctor",), ("top", "--seconds", "0.1")):
            assert "model.0-1" in roomgrad(*words, "--run", "zoo").stdout
        counted = json.loads(roomgrad("top", "--run", "zoo", "--json").stdout)["training"]
        assert counted["model.1"] == {"applied": 1, "distinct": 1}
        refused = roomgrad(
            "up", "zoo", "--members", "3", "--run", "zoo2", "--replicas", "model.3=2", code=2
        )
        assert "there is no component 'model.3'" in refused.stderr
    finally:
        roomgrad("down", "zoo")
    refused = roomgrad("up", "zoo", "--members", "3", code=2)
    assert "was started with 2 members of model, not 3" in refused.stderr


def test_a_run_is_served_until_ctrl_c(
    server: EmbeddedServer, client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "roomgrad", "run", "zoo", "--members", "2"]
    with subprocess.Popen(
        command,
        env=environ,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until(lambda: {"model.0", "model.1"} <= heartbeats.living(client, NAMES).keys())
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=LIMIT_S)
    assert "teacher x1, model x1 of 2 members" in printed
    assert not heartbeats.find(client, NAMES)


def test_each_member_is_a_user_and_so_is_the_process_of_all(
    server: EmbeddedServer, client: redis.Redis, roomgrad: Command, environ: dict[str, str]
) -> None:
    """A member may not touch the model of another one; a container of all may touch each."""
    printed = roomgrad("acl", "zoo").stdout
    users = [line.split()[1:] for line in printed.splitlines() if line.startswith("user ")]
    for name, _, *rules in users:
        if name not in ("default",):
            client.execute_command("ACL", "SETUSER", name, "on", "nopass", *_rules(rules))
    assert {*MODELS.names, "model", "teacher"} <= {name for name, *_ in users}
    models = {name: NAMES.model(name) for name in MODELS.names}
    for name in MODELS.names:
        for other, key in models.items():
            said = client.execute_command("ACL", "DRYRUN", name, "HSET", key, "version", "1")
            assert (said == b"OK") == (name == other)
    for key in models.values():
        assert (
            client.execute_command("ACL", "DRYRUN", "model", "HSET", key, "version", "1") == b"OK"
        )
    started = [("model.1", "model.1"), ("model", "model"), ("teacher", "teacher")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "roomgrad.runtime", component, "--run=zoo"],
            env={**environ, "ROOMGRAD_REDIS_URL": server.url.replace("//", f"//{user}:x@")},
            cwd=ROOT,
        )
        for component, user in started
    ]
    try:
        until(lambda: len(heartbeats.find(client, NAMES)) == len(MODELS.names) + 2)
        assert heartbeats.living(client, NAMES)["model.1"] == 2
        train(server.url, "model.1")
        until(lambda: client.hget(NAMES.counters("teacher"), "act.1") == b"1")
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(LIMIT_S) for process in processes]
    assert codes == [0, 0, 0]
    log = client.execute_command("ACL", "LOG")
    assert [dict(zip(each[::2], each[1::2], strict=True))[b"object"] for each in log] == []


def _rules(words: list[str]) -> list[str]:
    """Return rules word by word, with each selector as one."""
    found: list[str] = []
    for word in words:
        if found and found[-1].startswith("(") and not found[-1].endswith(")"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def test_a_module_of_an_ensemble_declares_each_member() -> None:
    found = declared_by("model", "tests.integration.ensembles.zoo")
    assert tuple(found) == MODELS.names
    assert {each.learns for each in found.values()} == {True}
