"""The run that a command of the melody maker reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from roomgrad.cli import target
from roomgrad.errors import SettingsError
from roomgrad.local.session import running_server
from roomgrad.names import Names
from roomgrad.redis.registry import system_of_run
from roomgrad_melody.contract import LEARNER, MELODY


@contextmanager
def opened(run: str, redis_url: str) -> Iterator[tuple[redis.Redis, Names]]:
    """Connect to the server of a run, by its name; the system's name if empty.

    Raises SettingsError if there is no such run, or it breeds no melodies.
    """
    with (
        running_server(redis_url) as (url, _),
        target.opened(run, url, MELODY.name) as (client, names, _),
    ):
        system = system_of_run(client, names)
        if system is None or LEARNER not in system.components:
            of = system.name if system else "an unknown system"
            raise SettingsError(
                f"run {names.run!r} of {of} breeds no melodies: name another one by --run"
            )
        yield client, names
