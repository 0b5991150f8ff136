"""Letters that a test has made, and the command that reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from roomgrad import Context, Message
from roomgrad.runtime.replica import Replica
from tests.integration.conftest import ROOT, Cage
from tests.integration.parrots import parrot
from tests.waiting import until


def roomgrad(cage: Cage, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """The command, on the server and the run of a test."""
    environ = {**os.environ, "REDIS_URL": cage.url, "RUN": cage.names.run, "COLUMNS": "300"}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "roomgrad", "dead", *words],
        env=environ,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
    )


def bury(cage: Cage, *values: float) -> tuple[Message, str]:
    """A message that the parrot gives up at once, and the entry id of its letter."""
    before = cage.client.xlen(cage.names.dead())
    broken = cage.start(parrot(raising), max_deliveries=1)
    message = cage.say(*values)
    until(lambda: cage.client.xlen(cage.names.dead()) == before + 1)
    leave(cage, broken)
    return message, newest(cage)


def raising(message: Message, context: Context) -> None:
    raise RuntimeError("no such word")


def leave(cage: Cage, *replicas: Replica) -> None:
    """They stop, and have read their last message when this returns."""
    for replica in replicas:
        replica.stop()
        until(lambda replica=replica: not cage.client.exists(cage.names.alive(replica.consumer)))


def newest(cage: Cage) -> str:
    found: list[Any] = cage.client.xrevrange(cage.names.dead(), count=1)
    return str(found[0][0].decode())


def listed(cage: Cage, *words: str) -> dict[str, Any]:
    ended = roomgrad(cage, "list", "--json", *words)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


# list and show
