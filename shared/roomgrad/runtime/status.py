"""What the loop of a replica and its housekeeping tell each other."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field


@dataclass
class Status:
    """The state that both threads share; each attribute has one writer."""

    turn: float = field(default_factory=time.time)  # Unix time of the loop's last turn
    handling: float | None = None  # Unix time since which a handler runs
    version: str = ""  # of the weights that this replica has loaded
    commits: int = 0
    handled_bytes: int = 0  # of the messages that were committed
    open_roots: int = 0  # in the component's memory, once a heartbeat
    token: str = ""  # of the run that the loop is connected to
    token_seen: str = ""  # of the run that exists on the server now
    orphans: deque[tuple[bytes, str]] = field(
        default_factory=deque
    )  # messages of dead replicas: stream key, entry
