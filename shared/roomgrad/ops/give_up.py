"""Give up open roots: their components forget them, and the one that opened them goes on."""

from __future__ import annotations

from collections.abc import Iterable

import redis

from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import ServerError
from roomgrad.messages import Message, new_id
from roomgrad.names import ERRORS, Names
from roomgrad.redis.cluster import publish_command
from roomgrad.rooms import MessageType, System
from roomgrad.runtime.dead_letters import notify

SENDER = "roomgrad"


def give_up(client: redis.Redis, names: Names, system: System, roots: Iterable[str]) -> None:
    """Tell each component that its roots are given up, as a dead letter does; one commit per root.

    Raises ServerError if the server refuses.
    """
    script = client.register_script(SCRIPT)
    for root in roots:
        commit = Commit(publish_command(client))
        fields = {"TEXT": f"root {root} is given up: a message of it was lost"}
        type_ = MessageType.LOG_ERROR.value
        notice = Message(ERRORS, type_, new_id(), root, sent_by=SENDER, fields=fields)
        for component in system.components:
            notify(commit, names, component, notice)
        keys, arguments = commit.parts()
        answer = script(keys, arguments)
        if answer[0] != b"ok":
            raise ServerError(f"the server refused: {b' '.join(answer).decode(errors='replace')}")
