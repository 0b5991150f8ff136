"""Give up open roots: their components forget them, and the one that opened them goes on."""

from __future__ import annotations

from collections.abc import Iterable

import redis

from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import ServerError
from roomgrad.names import Names
from roomgrad.redis import roots as open_roots
from roomgrad.redis.cluster import publish_command
from roomgrad.rooms import System

SENDER = "roomgrad"


def give_up(client: redis.Redis, names: Names, system: System, roots: Iterable[str]) -> None:
    """Tell each component that its roots are given up, as a dead letter does; one commit per root.

    Raises ServerError if the server refuses.
    """
    script = client.register_script(SCRIPT)
    for root in roots:
        commit = Commit(publish_command(client))
        text = f"root {root} is given up: a message of it was lost"
        open_roots.give_up(commit, names, system.components, root, SENDER, text)
        keys, arguments = commit.parts()
        answer = script(keys, arguments)
        if answer[0] != b"ok":
            raise ServerError(f"the server refused: {b' '.join(answer).decode(errors='replace')}")
