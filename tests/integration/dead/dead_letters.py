"""Make dead letters, and run the command that reads them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from roomgrad import Context, Message
from tests import roomgrad_command
from tests.integration.conftest import EchoRun
from tests.integration.echo import echo_component
from tests.waiting import until


def roomgrad(echo: EchoRun, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command `dead` on the server and the run of a test."""
    environ = {"REDIS_URL": echo.url, "RUN": echo.names.run, "COLUMNS": "300"}
    return roomgrad_command.roomgrad("dead", *words, environ=environ, typed=typed)


def make_dead_letter(echo: EchoRun, *values: float) -> tuple[Message, str]:
    """Return a message that the echo component gave up, and the ID of its dead letter."""
    before = echo.client.xlen(echo.names.dead())
    broken = echo.start(echo_component(raising), max_deliveries=1)
    message = echo.send(*values)
    until(lambda: echo.client.xlen(echo.names.dead()) == before + 1)
    echo.stop(broken)
    return message, newest(echo)


def raising(message: Message, context: Context) -> None:
    raise RuntimeError("no such word")


def newest(echo: EchoRun) -> str:
    found: list[Any] = echo.client.xrevrange(echo.names.dead(), count=1)
    return str(found[0][0].decode())


def listed(echo: EchoRun, *words: str) -> dict[str, Any]:
    ended = roomgrad(echo, "list", "--json", *words)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


# list and show
