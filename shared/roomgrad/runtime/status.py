"""What the loop of a replica and its housekeeping tell each other."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from roomgrad.clock import ServerClock


@dataclass
class Status:
    """The state that both threads share; each attribute has one writer."""

    turn: float = field(default_factory=time.monotonic)  # when the loop's last turn began
    handling: float | None = None  # since when a handler runs, by the monotonic clock
    clock: ServerClock = field(default_factory=ServerClock)
    version: str = ""  # of the weights that this replica has loaded
    failing: dict[str, str] = field(default_factory=dict)
    """Why the handler raised on each message that is tried again later, by entry ID."""

    commits: int = 0
    handled_bytes: int = 0  # of the messages that were committed
    open_roots: int = 0  # in the component's memory, once a heartbeat
    token: str = ""  # of the run that the loop is connected to
    token_seen: str = ""  # of the run that exists on the server now
    orphans: deque[tuple[bytes, str]] = field(
        default_factory=deque
    )  # messages of dead replicas: stream key, entry
