"""The full load: both systems on one embedded server, as `roomgrad run` serves them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roomgrad import state
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.local.plan import Plan
from roomgrad.local.session import Session, serve
from roomgrad_melody.commands.options import RATER
from roomgrad_melody.contract import EVALNET, EVOLUTION, LEARNER, MELODY
from roomgrad_trebuchet.options import Trebuchet

ENDLESS = 1_000_000_000
MOST_LABELS = 300  # labels are kept for good: a rater that never sleeps would fill any memory

TREBUCHET_RUN, MELODY_RUN = "soak-trebuchet", "soak-melody"


@dataclass(frozen=True)
class Load:
    """What is running."""

    server: EmbeddedServer
    sessions: tuple[Session, ...]
    folder: Path

    def pids(self) -> dict[str, int]:
        """Every process by name: the server, the components, and this one."""
        found = {"server": self.server.pid, "soak": os.getpid()}
        for session in self.sessions:
            found.update(session.launcher.pids())
        return found

    @property
    def restarts(self) -> int:
        return sum(session.launcher.restarts for session in self.sessions)

    def logs(self) -> dict[str, float]:
        """Bytes of each log: the server's, the components'."""
        found = sorted(self.folder.rglob("*.log*"))
        return {f"log {path.relative_to(self.folder)}": path.stat().st_size for path in found}


def melody() -> Plan:
    """Ten generations a second; a rule answers the questions, until there are enough labels."""
    replicas = {RATER: 1, EVALNET: 1, LEARNER: 1, EVOLUTION: 1}
    settings: dict[str, dict[str, int | float | str | bool]] = {
        RATER: {"replica": RATER},
        LEARNER: {"max-labels": MOST_LABELS, "ask": "ratings"},
        EVOLUTION: {"pause-s": 0.1, "generations-per-label": 0},
    }
    return Plan(MELODY.name, MELODY_RUN, replicas, settings)


@contextlib.contextmanager
def full_load(folder: Path) -> Iterator[Load]:
    """An endless training with one batch open, and the melody maker beside it."""
    before = os.environ.get("ROOMGRAD_STATE")
    os.environ["ROOMGRAD_STATE"] = str(folder)
    os.environ.pop("REDIS_URL", None)
    try:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(EmbeddedServer.start(state.server_directory()))
            sessions = []
            for plan in (Trebuchet(steps=ENDLESS).plan(TREBUCHET_RUN), melody()):
                session = stack.enter_context(serve(plan, "", fresh=True, say=print))
                session.start(*plan.components)
                session.wait_alive(*plan.components)
                sessions.append(session)
            yield Load(server, tuple(sessions), folder)
    finally:
        if before is None:
            del os.environ["ROOMGRAD_STATE"]
        else:
            os.environ["ROOMGRAD_STATE"] = before
