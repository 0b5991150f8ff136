"""Commands as a user types them, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.roomgrad_command import roomgrad

Command = Callable[..., str]


def commands(redis_url: str, state: Path) -> Command:
    """Return a function that runs `roomgrad WORDS` on a server, and fails if the command does."""
    environ = {"ROOMGRAD_STATE": str(state), "REDIS_URL": redis_url}

    def command(*words: str) -> str:
        done = roomgrad(*words, environ=environ, timeout_s=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return command
