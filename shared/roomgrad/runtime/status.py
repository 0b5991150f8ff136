"""What a loop and its keeper tell each other."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field


@dataclass
class Status:
    """What the loop tells its keeper, and the other way round; each attribute has one writer."""

    turn: float = field(default_factory=time.time)  # unix time of the loop's last turn
    handling: float | None = None  # unix time since which a handler runs
    version: str = ""  # of the model that this replica holds
    commits: int = 0
    handled_bytes: int = 0  # of the messages that were committed
    open_roots: int = 0  # in the component's memory, once a heartbeat
    token: str = ""  # of the run that the loop was set up for
    token_seen: str = ""  # of the run that the server has now
    orphans: deque[tuple[bytes, str]] = field(default_factory=deque)  # what nobody handles
