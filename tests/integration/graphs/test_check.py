"""`roomgrad check` of components of a graph."""

from __future__ import annotations

from tests.integration.commands.command_line import call
from tests.integration.conftest import EchoRun
from tests.integration.graphs.branch import encoder
from tests.integration.graphs.joins import head


def test_the_owner_of_a_branch_is_checked_without_those_that_answer(own_echo: EchoRun) -> None:
    """The command sends each gradient of the sum."""
    own_echo.start(encoder())
    ended = call(own_echo, "check", "encoder", "--run", own_echo.names.run, "--count", "2")
    assert "passed  gradient is the vector-Jacobian product" in ended.stdout, ended.stdout
    assert "failed" not in ended.stdout


def test_a_component_that_joins_is_refused_by_a_sentence(own_echo: EchoRun) -> None:
    own_echo.start(head())
    ended = call(own_echo, "check", "head", "--run", own_echo.names.run)
    assert ended.returncode == 2
    assert "head joins parts of left, right: check these one by one" in ended.stderr
