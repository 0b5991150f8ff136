"""What the loop of a replica and its housekeeping tell each other."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from roomgrad.clock import ServerClock
from roomgrad.runtime.consumers import Delivery

log = structlog.get_logger("roomgrad")

STANDS_BY = (
    "this machine computes other bits than those of the replicas that learn; use machines of one "
    "type and one release of torch"
)
FREE_BEATS = 5  # heartbeats that find memory free before it counts as free again


class Lost(NamedTuple):
    """The newest failed attempt to reach the server."""

    at: float  # by the monotonic clock
    reason: str


@dataclass
class Status:
    """The state that both threads share; each attribute but `received` has one writer."""

    turn: float = field(default_factory=time.monotonic)  # when the loop's last turn began
    handling: float | None = None  # since when a handler runs, by the monotonic clock
    lost: Lost | None = None  # while the loop has no server
    sent: float | None = None  # when the last heartbeat was sent
    unsent: Lost | None = None  # while heartbeats fail for want of a server
    received: deque[Delivery] = field(default_factory=deque)
    """What the loop has received and not begun. Housekeeping hands it over if a handler is slow."""

    clock: ServerClock = field(default_factory=ServerClock)
    version: str = ""  # of the weights that this replica has loaded
    failing: dict[str, str] = field(default_factory=dict)
    """Why the handler raised on each message that is tried again later, by entry ID."""

    commits: int = 0
    handled_bytes: int = 0  # of the messages that were committed
    not_shared: str = ""  # why other hosts cannot use the snapshots of this one
    no_snapshot: str = ""  # why no snapshot of the model could be taken lately
    stands_by: bool = False  # whether it leaves the work to replicas whose bits are the run's
    refused: str = ""  # why the server refuses the commit that the loop repeats
    memory_full: bool = False  # whether the server's memory was full with a recent heartbeat
    _free_beats: int = 0  # since then
    open_roots: int = 0  # in the component's memory, once a heartbeat
    token: str = ""  # of the run that the loop is connected to
    token_seen: str = ""  # of the run that exists on the server now
    orphans: deque[tuple[bytes, str]] = field(
        default_factory=deque
    )  # messages of dead replicas: stream key, entry

    @property
    def snapshots(self) -> str:
        """What an operator has to mend, so that snapshots serve every replica; or an empty text."""
        return self.no_snapshot or self.not_shared

    @property
    def waits(self) -> str:
        """What the replica waits for that an operator has to mend, or an empty text."""
        if self.stands_by:
            return STANDS_BY
        return self.refused or ("the server's memory is full" if self.memory_full else "")

    def note_memory(self, *, full: bool) -> None:
        """Note with each heartbeat whether the server's memory is full, and log changes.

        At its limit memory is full at one moment and not at the next, so that it counts as free
        only after some heartbeats.
        """
        self._free_beats = 0 if full else self._free_beats + 1
        if full and not self.memory_full:
            self.memory_full = True
            log.warning(
                "the server's memory is full: messages that open a root wait, begun work goes on",
                command="roomgrad doctor",
            )
        elif self.memory_full and self._free_beats >= FREE_BEATS:
            self.memory_full = False
            log.info("the server has memory again")
