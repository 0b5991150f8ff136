"""A run that is checked, and the commands that mend it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

import redis

from roomgrad import ensembles, systems
from roomgrad.inspect import guests, snapshot
from roomgrad.inspect.guests import GuestState
from roomgrad.inspect.keys import holds_messages, parse_stream_key, scan_keys
from roomgrad.inspect.snapshot import ConsumerGroup, RunSnapshot
from roomgrad.names import ERRORS, GATEWAY, LOGGING, Names, is_client_group
from roomgrad.redis import registry
from roomgrad.redis.heartbeats import Heartbeat
from roomgrad.rooms import System
from roomgrad.runtime import runs
from roomgrad.settings import RuntimeSettings

DEFAULTS = RuntimeSettings()
LEASES = 3  # after so many leases another replica should have redelivered a message
STILL_S = LEASES * DEFAULTS.lease_s  # without any message, a run with open roots stands still
CONTAINER = re.compile(r"[0-9a-f]{12}")  # the host name that Docker gives


@dataclass(frozen=True)
class Server:
    """How commands reach the server of a run."""

    cli: str
    """`redis-cli -u ...`."""

    option: str = ""
    """` --redis ADDRESS` for commands of roomgrad; empty if they find the server without it."""


@dataclass(frozen=True)
class Run:
    """A run that is checked."""

    client: redis.Redis
    names: Names
    server: Server
    system: System | None
    snapshot: RunSnapshot
    forgotten: frozenset[str] = field(default_factory=frozenset)
    guests: tuple[GuestState, ...] = ()

    # what it is doing

    @property
    def groups(self) -> list[ConsumerGroup]:
        """The groups of components. The gateway checks those of its clients itself."""
        return [group for group in self.snapshot.groups if not is_client_group(group.name)]

    def behind(self, component: str) -> list[ConsumerGroup]:
        """Return the groups of a component for which messages wait, or are pending."""
        return [each for each in self.groups if each.name == component and each.behind]

    def lives(self, component: str) -> bool:
        """Return whether any replica of a component is alive."""
        return self.snapshot.replicas(component) > 0

    def beats(self, component: str = "") -> list[Heartbeat]:
        """Return the heartbeats of a component, or of all."""
        known = (each for each in self.snapshot.heartbeats.values() if each)
        return [each for each in known if component in ("", each.component)]

    @property
    def still_s(self) -> float:
        """Seconds since the newest message of any room."""
        moved = [
            each.newest_ms
            for each in self.snapshot.streams
            if each.room not in (ERRORS, LOGGING) and not each.room.startswith("@")
        ]
        return self.snapshot.now_us / 1e6 - max(moved, default=0) / 1000

    @property
    def stands_still(self) -> bool:
        """Whether a root is open, replicas are alive and idle, and no message has come for long.

        A run without a replica was stopped. That is no problem: it goes on when it is started.
        A guest keeps its roots open for as long as it likes.
        """
        served = any(not each.startswith(f"{GATEWAY}~") for each in self.snapshot.heartbeats)
        busy = any(each.handling is not None for each in self.beats())
        of_guests = any(each.open_roots for each in self.guests)
        remembered = any(self.snapshot.open.values()) and not of_guests
        open_ = remembered or any(group.behind for group in self.groups)
        return open_ and served and not busy and self.still_s > STILL_S

    def room(self, key: str) -> str:
        """Return the room and TYPE of a stream as text."""
        return " ".join(parse_stream_key(self.names, key))

    # what mends it

    def roomgrad(self, words: str) -> str:
        """Return a command of roomgrad for this run."""
        return f"roomgrad {words} --run {shlex.quote(self.names.run)}{self.server.option}"

    def start(self, component: str) -> str:
        """Return how to start a replica of a component."""
        if any(CONTAINER.fullmatch(each.host) for each in self.beats()):
            programs = ensembles.programs(self.system.components if self.system else ())
            services = [name for name, served in programs.items() if component in served]
            return f"docker compose up -d {(services or [component])[0]}"
        words = systems.words_of(component, self.system.name if self.system else "")
        run = f"--run {shlex.quote(self.names.run)}"
        if not words:
            return f"by its own command, with {run}"
        address = self.server.option.replace("--redis ", "--redis-url ")
        return f"python -m {' '.join(words)} {run}{address}"

    @property
    def start_any(self) -> str:
        """How to start all components."""
        if any(CONTAINER.fullmatch(each.host) for each in self.beats()):
            return "docker compose up -d"
        if self.system and self.system.name in systems.installed():
            return self.roomgrad(f"up {self.system.name}")
        return f"by its own command, with --run {shlex.quote(self.names.run)}"

    def start_or_forget(self, component: str) -> str:
        """Return how to start a component, or else to let no message wait for it."""
        forget = self.roomgrad(f"forget {shlex.quote(component)}")
        return f"start it ({self.start(component)}), or {forget} if it will not come back"


def read(client: redis.Redis, names: Names, server: Server) -> Run:
    """Read what the checks need. Raises ResponseError if the user lacks a right."""
    system = registry.system_of_run(client, names)
    components = registry.components_of(client, names)
    if system is None:
        existing = scan_keys(client, names.everything(), "stream")
        keys = {key for key in existing if holds_messages(names, key)}
    else:
        keys = {names.stream(room, type_) for room, type_, _ in runs.groups(system, names)}
        keys |= {names.stream(*each.key) for each in system.streams}
        components |= set(system.components)
    taken = snapshot.take(client, names, sorted(keys), components, detailed=True)
    forgotten = runs.forgotten(client, names)
    return Run(client, names, server, system, taken, forgotten, guests.inspect(client, names))
