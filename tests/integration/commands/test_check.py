"""`roomgrad check`: passes what is true to its rooms, and says of all else what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roomgrad import Array, Message, MessageType, Room, RuntimeSettings, Stream, System
from roomgrad.errors import SettingsError
from roomgrad.names import Names
from roomgrad.ops.check.differences import slope
from roomgrad.ops.check.streams import training_streams
from roomgrad.redis import heartbeats
from roomgrad.redis.client import Client
from roomgrad.schema import Declaration, contract_to_json
from roomgrad.testing import running
from tests.docs import pages
from tests.integration.commands import squares
from tests.integration.commands.command_line import call, refused
from tests.integration.conftest import ROOT, EchoRun
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
NINE = 9
ANSWERS = "answers a forward message"
PRODUCT = "gradient is the vector-Jacobian product"


def check(echo: EchoRun, *words: str) -> tuple[bool, dict[str, dict[str, Any]]]:
    """Whether all passed, and the checks by name."""
    ended = call(echo, "check", *words, "--json")
    assert ended.stdout, ended.stderr
    found = json.loads(ended.stdout)
    assert ended.returncode == (0 if found["passed"] else 1)
    return found["passed"], {each["name"]: each for each in found["checks"]}


def squarer(behaviour: str = "") -> tuple[str, ...]:
    command = f"{sys.executable} -m tests.integration.commands.squares {behaviour!r}"
    return ("squarer", "--command", command, "--timeout", "2", "--count", "3")


def test_a_component_that_is_true_passes(own_echo: EchoRun, tmp_path: Path) -> None:
    """In a run of its own, of which nothing is left."""
    passed, checks = check(own_echo, *squarer())
    assert passed, checks
    assert len(checks) == NINE
    assert own_echo.client.keys("*") == []
    file = tmp_path / "sides.npy"
    np.save(file, np.random.default_rng(0).normal(5, 2, (50, 3)))
    passed, checks = check(own_echo, *squarer(), "--probes", str(file))
    assert passed, checks


@pytest.mark.parametrize(
    ("behaviour", "name", "said"),
    [
        ("sign", PRODUCT, "its sign is wrong"),
        ("double", PRODUCT, "2 times what it should be"),
        ("other root", ANSWERS, "inherits the ROOT_ID"),
        ("silent", ANSWERS, "no DATA/FORWARD of root"),
        ("own id", "returns a gradient", "carries the ID of the forward message"),
        ("keeps", "a gradient that comes twice counts once", "a second time"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("unweighted", PRODUCT, "differs from finite"),
                ("ones", PRODUCT, "differs from finite"),
                ("jumps", PRODUCT, "no derivative was found"),
                ("noisy", "answers the same twice", "outputs that differ by"),
                ("same id", ANSWERS, "an ID of its own"),
                ("trains", ANSWERS, "inherits MODEL_STATUS"),
                ("raises", ANSWERS, "raises RuntimeError: this squarer is broken"),
                ("answers strangers", "an unknown gradient is ignored", "never sent"),
            )
        ),
    ],
)
def test_what_is_wrong_is_said(own_echo: EchoRun, behaviour: str, name: str, said: str) -> None:
    passed, checks = check(own_echo, *squarer(behaviour))
    assert not passed
    assert not checks[name]["passed"], checks
    assert said in checks[name]["said"]


def test_one_that_runs_already_is_probed_where_it_is(own_echo: EchoRun) -> None:
    """And its run is left as it was."""
    names = Names("area")
    with running(squares.squarer(), RuntimeSettings(run="area"), own_echo.url):
        until(lambda: heartbeats.living(own_echo.client, names)["squarer"])
        ended = call(own_echo, "check", "squarer", "--run", "area", "--count", "2")
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.count("passed  ") == NINE
    assert own_echo.client.exists(names.run_info())


@pytest.mark.parametrize("name", ["simulator", "controlmodel"])
def test_the_trebuchet_is_true_to_its_rooms(own_echo: EchoRun, name: str) -> None:
    passed, checks = check(own_echo, name, "--timeout", "30")
    assert passed, checks
    assert ("one step" in checks["returns a gradient"]["said"]) == (name == "controlmodel")


def test_a_second_gradient_of_the_same_messages_is_said(own_echo: EchoRun) -> None:
    """As a component in another language might have declared it, in a run that is named."""
    names = Names("both")
    declared = Declaration.of(squares.squarer())
    streams = tuple(map(_with_rival, squares.SQUARES.streams))
    contract = System("squares", streams, (*squares.SQUARES.components, "rival"))
    stored = {"contract": contract_to_json(contract), "declares:rival": declared.to_json()}
    own_echo.client.hset(names.run_info(), mapping=stored)
    own_echo.client.hset(names.run_info(), "declares:squarer", declared.to_json())
    own_echo.client.hset(names.run_info(), "settings:squarer", b"{}")
    said = refused(own_echo, "check", "squarer", "--run", "both", code=1)
    assert "rival and squarer answer the same DATA/FORWARD of room sides" in said


def _with_rival(stream: Stream) -> Stream:
    consumers = (
        (*stream.consumers, "rival") if stream.consumers == ("squarer",) else stream.consumers
    )
    return replace(stream, consumers=consumers)


def test_a_component_with_integer_inputs_cannot_be_checked() -> None:
    """They have no gradient to compare; the sentence names the array."""
    ids, logits = {"DATA": Array("<i8", ("batch",))}, {"DATA": Array("<f4", ("batch", 3))}
    enter, leave = Room("ids"), Room("logits")
    streams = (
        Stream(enter, FORWARD, ids, ("words",)),
        Stream(leave, FORWARD, logits),
        Stream(leave, GRADIENT, logits, ("words",)),
        Stream(enter, GRADIENT, {}),
    )
    with pytest.raises(SettingsError, match="DATA of ids DATA/FORWARD is not an array of floats"):
        training_streams(System("words", streams, ("words",)), "words", {})


def test_what_cannot_be_checked_is_said(own_echo: EchoRun, tmp_path: Path) -> None:
    assert "got 0 such pairs" in refused(own_echo, "check", "trainer")
    assert "did you mean simulator?" in refused(own_echo, "check", "simulatr")
    assert "ended at once" in refused(own_echo, "check", "x", "--command", "false", code=1)
    assert "No such file" in refused(own_echo, "check", "x", "--command", "/no/such/program")
    assert "one that runs, or start one" in refused(
        own_echo, "check", "x", "--command", "false", "--run", "y"
    )
    file = tmp_path / "none.npy"
    assert "No such file" in refused(own_echo, "check", "simulator", "--probes", str(file))
    file.write_bytes(b"no array")
    assert "in numpy's format" in refused(own_echo, "check", "simulator", "--probes", str(file))


def test_a_slope_is_found_between_rounding_and_curvature() -> None:
    """To a thousandth in single precision; and none at a jump."""
    random = np.random.default_rng(1)
    for _ in range(20):
        x, v = random.normal(size=(2, 4, 3)).astype("<f4")
        u = random.normal(size=4)
        found = slope(lambda x: np.exp(np.sin(x)).sum(axis=1).astype("<f4"), x, v, u)
        expected = float(np.sum(u * (np.exp(np.sin(x)) * np.cos(x) * v).sum(axis=1)))
        assert found.value == pytest.approx(expected, rel=5e-3, abs=1e-3)
    assert not slope(
        lambda x: np.sign(x).sum(axis=1), np.zeros((4, 3)), np.ones((4, 3)), np.ones(4)
    ).smooth


def foreign(echo: EchoRun, behaviour: str = "") -> tuple[str, ...]:
    """A squarer without roomgrad, in a run that says what its rooms carry."""
    names = Names("abroad")
    echo.client.hset(names.run_info(), "contract", contract_to_json(squares.SQUARES))
    scripts = ROOT / "shared" / "roomgrad" / "lua"
    program = ROOT / "tests" / "integration" / "commands" / "foreign_squares.py"
    process = subprocess.Popen(
        [sys.executable, "-I", program, scripts, behaviour, f"--run={names.run}"],
        env={**os.environ, "REDIS_URL": echo.url},
        stderr=subprocess.DEVNULL,
    )
    echo.stack.callback(process.communicate)
    echo.stack.callback(process.kill)
    return ("squarer", "--run", names.run, "--timeout", "2", "--count", "3")


def test_a_component_that_knows_redis_alone_passes(own_echo: EchoRun) -> None:
    """It is probed by the wire: nothing of roomgrad runs in its process."""
    passed, checks = check(own_echo, *foreign(own_echo))
    assert passed, checks
    assert len(checks) == NINE


@pytest.mark.parametrize(
    ("behaviour", "name", "said"),
    [
        ("remembers VALIDATE", "VALIDATE leaves nothing behind", "it remembers a VALIDATE"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("steps on VALIDATE", "VALIDATE leaves nothing behind", "its model changed"),
                ("leaves memory", "remembers nothing at the end", "records of these checks"),
                ("wrong shape", ANSWERS, r"expected shape (batch,), got (4, 1)"),
                ("short", "returns a gradient", "expected the shape of the input (4, 3)"),
                ("transposed", PRODUCT, "differs from finite"),
                ("gives nothing up", "an unknown gradient is ignored", "no DATA/FORWARD of root"),
            )
        ),
    ],
)
def test_what_is_wrong_abroad_is_said(
    own_echo: EchoRun, behaviour: str, name: str, said: str
) -> None:
    """What the SDK keeps its components from doing."""
    passed, checks = check(own_echo, *foreign(own_echo, behaviour))
    assert not passed
    assert not checks[name]["passed"], checks
    assert said in checks[name]["said"]


def test_a_run_in_which_others_train_can_be_probed(own_echo: EchoRun) -> None:
    """What they have in the component's memory is not taken for the probe's."""
    with running(squares.squarer(), RuntimeSettings(run="area"), own_echo.url):
        with Client(squares.SQUARES, "area", own_echo.url) as client:
            inputs = np.ones((2, 3), "<f4")
            client.send(Message.open(squares.SIDES, inputs))
        memory = Names("area").memory("squarer")
        until(lambda: own_echo.client.hlen(memory) == 1)
        passed, checks = check(own_echo, "squarer", "--run", "area", "--count", "2")
    assert passed, checks
    assert own_echo.client.hlen(memory) == 1


@pytest.mark.slow
def test_the_cannon_of_the_readme_is_true(own_echo: EchoRun, tmp_path: Path) -> None:
    """In the simulator's place, started by its own command."""
    (tmp_path / "cannon.py").write_text(pages.programs()["cannon.py"])
    command = f"{sys.executable} {tmp_path}/cannon.py"
    passed, checks = check(own_echo, "simulator", "--command", command)
    assert passed, checks


@pytest.mark.slow
def test_who_rounds_its_inputs_is_told_that_nobody_can_tell(
    own_echo: EchoRun, tmp_path: Path
) -> None:
    """evalnet makes melodies of any numbers, and answers the gradient as if it had not."""
    file = tmp_path / "melodies.npy"
    np.save(file, np.random.default_rng(0).integers(0, 2, (50, 128)))
    passed, checks = check(own_echo, "evalnet", "--timeout", "30", "--probes", str(file))
    assert [name for name, each in checks.items() if not each["passed"]] == [PRODUCT]
    assert not passed
    assert "does it round its inputs?" in checks[PRODUCT]["said"]


def test_a_function_that_rounds_has_no_slope() -> None:
    """Though its smallest differences agree: they are all 0."""
    x, v, u = np.full((1, 1), 0.49), np.ones((1, 1)), np.ones((1, 1))
    found = slope(np.round, x, v, u)
    assert not found.smooth
    assert slope(np.round, x - 0.3, v, u).flat
    assert not slope(lambda at: np.where(abs(at - x) < 0.03, x, at), x, v, u).smooth
