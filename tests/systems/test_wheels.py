"""Everything works as installed from wheels, also for a system that is not ours.

The wheels are installed in an environment without the checkout, `roomgrad new` makes a system, and
every command that serves any system is run on it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.main

from roomgrad.cli.groups import OfSystems
from roomgrad.cli.main import app
from tests.systems.installation import NAME, ROOT, Installation, installed
from tests.waiting import until

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("hatchling") is None, reason="needs hatchling: run `make install`"
    ),
]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return installed(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def up(installation: Installation) -> Iterator[Installation]:
    """The third system is up."""
    words = ("--set", "thermostat.steps=100000", "--replicas=house=2")
    with installation.up(NAME, *words) as said:
        assert f"down {NAME}" in said
        yield replace(installation, default_run=NAME)


def test_nothing_comes_from_the_checkout(installation: Installation) -> None:
    code = (
        "import roomgrad, roomgrad_melody, roomgrad_trebuchet.trainer as t, greenhouse as g, sys;"
    )
    code += "print(roomgrad.__file__, roomgrad_melody.__file__, t.__file__, g.__file__, *sys.path)"
    for path in installation.run(installation.python, "-c", code).split():
        assert not Path(path).is_relative_to(ROOT / "shared"), path
        assert not Path(path).is_relative_to(ROOT / "services"), path


def test_the_core_needs_no_package_of_the_command(installation: Installation) -> None:
    """And the command says what to install."""
    code = "import sys; sys.modules.update(typer=None, rich=None, yaml=None);"
    code += "import roomgrad.runtime.process, roomgrad.runtime.health;"
    code += "from roomgrad.__main__ import main; main()"
    said = installation.run(installation.python, "-c", code, code=1)
    assert "pip install 'roomgrad[cli]'" in said


def test_a_new_system_runs_in_the_foreground_until_it_is_stopped(
    installation: Installation,
) -> None:
    with installation.start("roomgrad", "run", NAME, "--run", "front", "--fresh") as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if " messages · " in line)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 130


def test_hello_world_runs_in_the_foreground(installation: Installation) -> None:
    with installation.start("roomgrad", "run", "hello") as process:
        try:
            assert process.stdout is not None
            assert next(line for line in process.stdout if " messages · " in line)
            said = installation.roomgrad("echo", "hall", "--run=hello", "--last=2", "--count=4")
            assert said.count("Hello greeter, this is world") == 2
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def test_vertical_learning_runs_until_its_last_epoch(installation: Installation) -> None:
    said = installation.roomgrad("run", "split", "--set", "labelhead.epochs=2")
    assert re.search(r"2 of 2 +100 % +held-out accuracy [89]\d\.\d%", said), said


def test_an_ensemble_learns_until_its_last_generation(installation: Installation) -> None:
    settings = ("--set", "control.generations=1", "--set", "control.episodes=1")
    said = installation.roomgrad("run", "rlgym", "--members", "2", *settings)
    assert "policy x1 of 2 members" in said
    assert re.search(r"1 of 1 +100 % +mean return \d+\.\d", said), said


PLAY = """
import gymnasium, roomgrad.gym

def played(env):
    passed, done = [env.reset(seed=3)[0].tolist()], False
    while not done:
        observation, reward, terminated, truncated, _ = env.step(len(passed) % 3 % 2)
        passed.append([*observation.tolist(), reward])
        done = terminated or truncated
    return passed

found = played(roomgrad.gym.Env("cartpole"))
assert found == played(gymnasium.make("CartPole-v1")), found
print(len(found) - 1, "steps")
"""


def test_an_environment_is_served_to_another_program(installation: Installation) -> None:
    """Without a system: by `roomgrad.gym` alone, and with the bits of the environment itself."""
    code = 'import roomgrad.gym; roomgrad.gym.serve("CartPole-v1", run="cartpole")'
    with installation.start(installation.python, "-c", code) as process:
        try:
            until(lambda: "cartpole" in installation.roomgrad("runs"), timeout_s=60)
            said = installation.run(installation.python, "-c", PLAY)
            assert re.fullmatch(r"\d+ steps\n", said), said
            shown = installation.read("ps", "--run=cartpole")["replicas"]
            assert [each["alive"] for each in shown] == [True]
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def test_commands_that_inspect_a_run_serve_it(up: Installation) -> None:
    found = until(lambda: len(found := up.read("ps")["replicas"]) == 3 and found, timeout_s=60)
    assert {each["component"] for each in found} == {"house", "thermostat"}
    assert "house" in up.roomgrad("health", "house")
    assert "heat" in up.roomgrad("rooms")
    assert "outside °C" in up.roomgrad("info", "heat")
    assert "house" in up.roomgrad("lag")
    assert up.read("top", "--once")["run"] == NAME
    assert up.read("memory", "thermostat")["run"] == NAME
    assert "model" in up.roomgrad("model", "house", code=1)
    assert "model" in up.roomgrad("keep", "house", code=1)
    assert up.read("trace")["hops"]
    assert up.read("doctor")["problems"] == 0
    assert "outside °C" in up.roomgrad("asyncapi")
    assert "user house on " in up.roomgrad("acl", NAME)
    assert "user trainer on " in up.roomgrad("acl", "trebuchet")
    assert "user trainer on " in replace(up, default_run="").roomgrad("acl")
    assert "user thermostat on " in up.roomgrad("acl", "--run", NAME)
    assert up.roomgrad("dead", "list")
    for word in ("show", "requeue", "drop --yes"):
        assert "no dead letter 1-0" in up.roomgrad("dead", *word.split(), "1-0", code=1)
    assert "0 roots" in up.roomgrad("dead", "give-up", "--lost")
    assert NAME in {each["run"] for each in up.read("runs")["runs"]}
    for rate in ("hz", "bw", "delay"):
        assert up.read(rate, "heat", "--count", "1", "--every", "0.2")["room"] == "heat"


def test_commands_that_send_messages_serve_it(up: Installation) -> None:
    assert up.roomgrad("echo", "heat", "--count", "1", "--type", "DATA/FORWARD")
    assert "warmth" in up.roomgrad("request", "heat", "[[5, 0]]", "--answer", "warmth")
    assert up.roomgrad("pub", "heat", "[[5, 0]]", "--type", "DATA/FORWARD")
    assert "gradient" in up.roomgrad("check", "house")
    recorded = up.folder / "recorded.jsonl"
    one = ("--count", "1", "--type", "DATA/FORWARD", "--json", "--full")
    recorded.write_text(up.roomgrad("echo", "heat", "--last", "1", *one))
    assert "1 messages were sent again" in up.roomgrad("replay", str(recorded))


def test_a_backup_of_it_is_restored_and_a_component_forgotten(up: Installation) -> None:
    up.roomgrad("backup", "file.backup", "--run", NAME)
    up.roomgrad("restore", "file.backup", "--run", "restored")
    assert "outside °C" in up.roomgrad("info", "heat", "--run", "restored")
    assert "house is forgotten in run restored" in up.roomgrad("forget", "house", "--run=restored")
    assert "restored deleted" in up.roomgrad("runs", "delete", "restored", "--yes")


def test_the_dashboard_shows_it(up: Installation) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with up.start("roomgrad", "dashboard", "--port", str(port), stderr=subprocess.DEVNULL) as page:
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/healthz"), timeout_s=60)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/runs", timeout=20) as answer:
                assert NAME in json.load(answer)["runs"]
        finally:
            page.terminate()


def answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def test_a_component_that_does_not_exist_is_not_forgotten(up: Installation) -> None:
    said = up.roomgrad("forget", "hose", "--run", NAME, code=2)
    assert "did you mean house?" in said


def test_the_trebuchet_is_up_and_shoots(installation: Installation) -> None:
    with installation.up("trebuchet", "--steps", "20"):
        assert installation.read("shoot", "--wind", "3", "--target", "60")["distance_m"]
        assert installation.read("doctor", "--run", "trebuchet")["problems"] == 0
        assert "gradient" in installation.roomgrad("check", "simulator", "--run", "trebuchet")


def test_the_trebuchet_is_trained_in_the_foreground(installation: Installation) -> None:
    said = installation.roomgrad("run", "trebuchet", "--steps=10", "--run=short", "--json")
    assert json.loads(said.splitlines()[-1])["restarts"] == 0


def test_the_melody_maker_is_up_and_rated(installation: Installation) -> None:
    with installation.up("melody"):
        assert "1 rating given." in installation.roomgrad("rate", "--rater=Ada", input="4\n")
        labels = json.dumps({"genome": "01" * 64, "rating": 3})
        (installation.folder / "labels.jsonl").write_text(f"{labels}\n")
        assert "imported 1 " in installation.roomgrad("labels", "import", "labels.jsonl")
        assert '"rater":"Ada"' in installation.roomgrad("labels", "export", "--format=jsonl")
        file, *_ = installation.roomgrad("melody", "export", "tunes").splitlines()
        genome = installation.roomgrad("melody", "import", file.split()[0]).strip()
        assert installation.roomgrad("melody", "show", genome)


def test_the_gateway_serves_clients_of_it(up: Installation) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with up.start("roomgrad", "gateway", "--port", str(port), stderr=subprocess.DEVNULL) as gateway:
        try:
            until(lambda: accepts(port), timeout_s=60)
        finally:
            gateway.terminate()


def test_a_function_is_served(up: Installation) -> None:
    (up.folder / "double.py").write_text("def twice(x):\n    return 2 * x\n")
    words = ("--enter", "one", "--leave", "two", "--like", "[[1]]", "--run", "doubled")
    with up.start(
        "roomgrad", "serve", "double.py:twice", *words, stderr=subprocess.DEVNULL
    ) as served:
        try:
            until(lambda: twice_of_five(up) == "10", timeout_s=60)
        finally:
            served.terminate()


LOOP = """
import asyncio
import torch, roomgrad
from roomgrad.torch import Through

with roomgrad.up("letters", replicas={"trainer": 0}) as run:
    texts = torch.randint(0, 100, (4, 5))
    through = Through("letters", "texts", "topics")
    through(texts).sum().backward()
    through.close()

    async def ask():
        async with roomgrad.AsyncClient(run="letters") as rooms:
            return await asyncio.gather(*(rooms.ask("texts", texts) for _ in range(3)))

    assert all(each.array.shape == (4, 10) for each in asyncio.run(ask()))
    assert run.ask("texts", texts).array.shape == (4, 10)
print("learned")
"""


def test_a_network_is_trained_and_asked_from_python(installation: Installation) -> None:
    """In a system of `roomgrad new --torch`, without its trainer."""
    assert "learned" in installation.run(installation.python, "-c", LOOP)


def twice_of_five(up: Installation) -> str:
    """Return the answer of the served function; an empty text if there is none yet."""
    with contextlib.suppress(AssertionError):
        asked = ("request", "one", "[[5]]", "--answer", "two", "--run", "doubled")
        answer = json.loads(up.roomgrad(*asked, "--timeout", "5", "--json"))
        return f"{answer['DATA'][0][0]:g}"
    return ""


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


def test_every_command_is_started_from_a_wheel(
    installation: Installation, request: pytest.FixtureRequest
) -> None:
    """By one of the tests above; a command that is new needs a line there."""
    tests = {each.name for each in request.session.items if each.path == Path(__file__)}
    if not {name for name in globals() if name.startswith("test_")} <= tests:
        pytest.skip("only some tests of this file were chosen")
    names = commands("roomgrad", typer.main.get_command(app))
    started = [f"{line} " for line in installation.started]
    assert [n for n in names if not any(line.startswith(f"{n} ") for line in started)] == []


def commands(name: str, command: Any) -> Iterator[str]:
    """The full names of a command and of those in it; a system is an argument of its command."""
    command = getattr(command, "command", command)
    if isinstance(command, OfSystems) or not hasattr(command, "list_commands"):
        yield name
        return
    for word in command.list_commands(None):
        yield from commands(f"{name} {word}", command.get_command(None, word))
