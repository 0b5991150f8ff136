"""`roomgrad check` of components of a graph."""

from __future__ import annotations

from tests.integration.commands.command_line import call
from tests.integration.conftest import EchoRun
from tests.integration.graphs.branch import encoder


def test_the_owner_of_a_branch_is_checked_without_those_that_answer(own_echo: EchoRun) -> None:
    """The command sends each gradient of the sum."""
    own_echo.start(encoder())
    ended = call(own_echo, "check", "encoder", "--run", own_echo.names.run, "--count", "2")
    assert "passed  gradient is the vector-Jacobian product" in ended.stdout, ended.stdout
    assert "failed" not in ended.stdout
