"""Counters of programs that are no components: like numbers, and kept in Redis."""

from __future__ import annotations

import operator
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roomgrad.errors import NoServer, ServerError, SettingsError
from roomgrad_swergio.counters import MutableBool, MutableNumber
from tests.integration.conftest import EchoRun, OwnServer

ROOT = Path(__file__).resolve().parents[2]

START = """
import sys
from roomgrad_swergio.counters import MutableNumber
run, url = sys.argv[1:]
steps = MutableNumber(1, name="steps", component="trainer", run=run, redis_url=url)
"""


def number(echo: EchoRun, value: Any = 0, name: str = "steps", **more: Any) -> MutableNumber:
    at = {"component": "trainer", "run": echo.names.run, "redis_url": echo.url, **more}
    return MutableNumber(value, name=name, **at)


def switch(echo: EchoRun, value: bool = False) -> MutableBool:
    return MutableBool(
        value, name="on", component="trainer", run=echo.names.run, redis_url=echo.url
    )


def kept(echo: EchoRun) -> dict[bytes, bytes]:
    """What `redis-cli HGETALL` shows."""
    found: dict[bytes, bytes] = echo.client.hgetall(echo.names.counters("trainer"))
    return found


def program(echo: EchoRun, text: str) -> subprocess.Popen[str]:
    """A program that counts; it is gone at the end of the test."""
    paths = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-uc", START + text, echo.names.run, echo.url],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    echo.stack.callback(process.communicate)
    echo.stack.callback(process.kill)
    return process


@pytest.mark.parametrize("operate", [operator.add, operator.sub, operator.mul, operator.truediv])
@pytest.mark.parametrize("other", [3, 2.5])
def test_only_operators_in_place_change_a_number(
    echo: EchoRun, operate: Callable[[Any, Any], Any], other: float
) -> None:
    """All others answer plain numbers, from either side and between two of them."""
    seven, another = number(echo, 7), number(echo, other, name="other")
    assert operate(seven, other) == operate(seven, another) == operate(7, other)
    assert operate(other, seven) == operate(other, 7)
    assert type(operate(seven, other)) is type(operate(7, other))
    assert seven == 7
    same = seven
    same = getattr(operator, f"i{operate.__name__}")(same, another)
    assert same is seven
    assert seven.value == operate(7, other)
    assert kept(echo)[b"other"] == repr(other).encode()


def test_a_number_compares_and_reads_like_one(echo: EchoRun) -> None:
    steps, more = number(echo, 3), number(echo, 4, name="more")
    assert (steps < 4, steps <= 3, steps > 2, steps >= 4) == (True, True, True, False)
    assert (steps > 3, steps < more, steps == more, steps != 3) == (False, True, False, False)
    assert (str(steps), f"{steps}", int(steps), float(steps)) == ("3", "3", 3, 3.0)
    assert bool(steps)
    assert not bool(number(echo, 0, name="none"))


def test_whole_numbers_and_floats_go_together(echo: EchoRun) -> None:
    """A whole number may be added to a float, and a float to a whole number."""
    loss = number(echo, 0.5)
    loss += 2
    assert loss.value == 2.5
    loss -= 0.5
    assert loss == 2
    loss += 1
    assert kept(echo) == {b"steps": b"3"}
    loss.value = 1e-3
    loss /= 2
    assert loss.value == 0.0005
    loss.set(4)
    assert loss.value == 4


def test_a_counter_goes_on_where_it_stopped(echo: EchoRun) -> None:
    """The value of the constructor is for the first time only, and after the run was deleted."""
    steps, on = number(echo, 5), switch(echo)
    steps += 1
    on.set(True)
    assert number(echo, 5) == 6
    assert switch(echo)
    assert kept(echo) == {b"steps": b"6", b"on": b"1"}
    echo.client.delete(echo.names.counters("trainer"))
    assert (steps.value, on.value) == (5, False)
    steps += 1
    assert steps == 6
    echo.client.delete(echo.names.counters("trainer"))
    steps *= 2
    assert steps == 10


def test_a_switch_is_on_or_off(echo: EchoRun) -> None:
    on = switch(echo, True)
    assert (on.value, str(on), on == True, on != True) == (True, "True", True, False)  # noqa: E712
    on.value = False
    assert not on
    assert kept(echo) == {b"on": b"0"}


def test_processes_that_count_at_once_lose_nothing(echo: EchoRun) -> None:
    """Also where the new value depends on the old one."""
    text = "for _ in range(200): steps += 1\n"
    counting = [program(echo, text) for _ in range(2)]
    assert [process.wait(30) for process in counting] == [0, 0]
    assert number(echo) == 1 + 2 * 200
    number(echo).set(1)
    doubling = [program(echo, "for _ in range(30): steps *= 2\n") for _ in range(2)]
    assert [process.wait(30) for process in doubling] == [0, 0]
    assert number(echo) == 2**60


def test_a_killed_program_goes_on_counting_where_it_was(echo: EchoRun) -> None:
    """What was counted stands; at most the step in hand was not said any more."""
    text = "while True:\n    steps += 1\n    print(steps)\n"
    process = program(echo, text)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(50)]
    assert said == list(range(2, 52))
    process.kill()
    said += [int(line) for line in process.stdout]
    stands = int(number(echo))
    assert stands - said[-1] in (0, 1)
    again = program(echo, text)
    assert again.stdout is not None
    assert int(again.stdout.readline()) == stands + 1


def test_the_run_may_be_named_by_its_variable(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `roomgrad up swarm.yaml` sets it; without one it is said."""
    monkeypatch.setenv("RUN", echo.names.run)
    assert number(echo, run="").key == echo.names.counters("trainer")
    monkeypatch.delenv("RUN")
    with pytest.raises(SettingsError, match="in run '': expected a name for each"):
        number(echo, run="")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 2**63, "3", None])
def test_what_is_no_number_is_refused(echo: EchoRun, wrong: Any) -> None:
    """Before anything is written."""
    steps = number(echo, 1)
    with pytest.raises(ValueError, match="steps: expected a finite number"):
        steps += wrong
    with pytest.raises(ValueError, match="steps: expected a finite number"):
        steps.set(wrong)
    with pytest.raises(ValueError, match="other: expected a finite number"):
        number(echo, wrong, name="other")
    assert kept(echo) == {b"steps": b"1"}


def test_what_somebody_else_has_written_is_named(echo: EchoRun) -> None:
    """A text where a number is expected, a key of another type, a number that is full."""
    steps = number(echo, 2**63 - 1)
    with pytest.raises(ServerError, match=r"steps in .*overflow"):
        steps += 1
    echo.client.hset(steps.key, "steps", "many")
    with pytest.raises(ServerError, match=r"steps in .* is b'many', expected a number"):
        _ = steps.value
    echo.client.delete(steps.key)
    echo.client.set(steps.key, "text")
    with pytest.raises(ServerError, match=r"steps in .*WRONGTYPE"):
        steps += 1


def test_a_server_that_comes_back_is_found_again(own_echo: EchoRun, own_server: OwnServer) -> None:
    """What is asked meanwhile is one sentence."""
    steps = number(own_echo, 1)
    own_server.kill()
    with pytest.raises(NoServer, match=r"does not answer .*: start it and try again"):
        _ = steps.value
    own_server.restart()
    steps.set(4)
    steps += 1
    assert steps == 5
