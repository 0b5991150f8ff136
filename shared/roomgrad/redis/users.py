"""Users of a server that has one per component: their rules name those that existed before."""

from __future__ import annotations

from collections.abc import Iterable

import redis

from roomgrad.names import Names
from roomgrad.rooms import MessageType

GUEST = "guest"  # the user of programs that are no component


def hint(run: str) -> str:
    """Return what to do if a user of a run lacks a right."""
    return (
        f"if a component has joined since the server's users were made, `roomgrad acl --run {run}` "
        f"makes their rules anew"
    )


def explain(reason: str, run: str = "RUN") -> str:
    """Return why a server refuses, and what helps if a right is missing."""
    return f"{reason}; {hint(run)}" if "permission" in reason.lower() else reason


def unreachable(client: redis.Redis, names: Names, components: Iterable[str]) -> str:
    """Return which users may not write to the inbox of which components; an empty text if none.

    An empty text, too, for a server that does not tell.
    """
    known = sorted(components)
    try:
        users = {each.decode() for each in client.execute_command("ACL", "USERS")}  # type: ignore[no-untyped-call]
        lacking = [
            (user, component)
            for user in sorted(users & {*known, GUEST})
            for component in known
            if not _may_write(client, names, user, component)
        ]
    except redis.ResponseError:
        return ""
    who, whom = (", ".join(dict.fromkeys(pair[side] for pair in lacking)) for side in (0, 1))
    return f"{who} may not write to {whom}" if lacking else ""


def _may_write(client: redis.Redis, names: Names, user: str, component: str) -> bool:
    inbox = names.stream(names.inbox(component), MessageType.LOG_ERROR.value)
    words = ("ACL", "DRYRUN", user, "XADD", inbox, "*", "m", "")
    return bool(client.execute_command(*words) == b"OK")  # type: ignore[no-untyped-call]
