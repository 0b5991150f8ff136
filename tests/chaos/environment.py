"""Where a play takes place: a server, a proxy before it, a crew, and what is seen of the work."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from roomgrad.errors import ServerError
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.runtime import runs
from roomgrad.snapshots import pointers
from roomgrad.snapshots.pointers import Snapshot
from tests.chaos.contract import CHAIN, LEARNER, Contract
from tests.chaos.processes import Processes
from tests.integration.sentinels import SentinelSet
from tests.proxy import Proxy
from tests.waiting import until

PATIENCE_S = 120.0  # for whatever has to happen in the end
PIECE_BYTES = 2**20  # of a snapshot of a model of real size, so that it has several
ORPHAN_S = 5.0  # after which a file that no pointer names may be deleted


@dataclass(frozen=True)
class Times:
    """The times of the components, and how long an outage lasts."""

    heartbeat_interval_s: float = 1.0
    heartbeat_lives_s: float = 3.0
    lease_s: float = 5.0
    block_s: float = 2.0
    outage_s: float = 30.0

    def flags(self) -> list[str]:
        """As flags of a component."""
        names = ("heartbeat_interval_s", "heartbeat_lives_s", "lease_s", "block_s")
        return [f"--{name.replace('_', '-')}={getattr(self, name)}" for name in names]


# For tests: death is noticed sooner, an outage is over sooner. The rest is the same.
SHORT = Times(0.3, 1.0, 1.5, 0.5, 5.0)


@dataclass
class Seen:
    """What was measured while one fault was played."""

    fault: str
    takeover_s: list[float] = field(default_factory=list)
    recovery_s: list[float] = field(default_factory=list)
    stop_s: list[float] = field(default_factory=list)
    heard_s: list[float] = field(default_factory=list)
    snapshot_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RealModel:
    """What the learner learns in place of the slope."""

    parameters: int
    folder: Path
    """Its snapshots are files below `store`; in `deaths` a file names where a replica dies."""

    in_files: bool
    window: int

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def deaths(self) -> Path:
        return self.folder / "deaths"

    def flags(self) -> list[str]:
        """As flags of the learner: a snapshot every few seconds."""
        self.deaths.mkdir(exist_ok=True)
        flags = [f"--parameters={self.parameters}", "--replay-s=1", f"--deaths={self.deaths}"]
        flags += [f"--piece-bytes={PIECE_BYTES}", f"--orphan-s={ORPHAN_S}"]
        return flags + (
            ["--snapshot-redis-mib=0", f"--snapshots={self.store.as_uri()}"]
            if self.in_files
            else []
        )


@dataclass
class Environment:
    """One run, and everything a fault may do to it."""

    server: Any
    """An `EmbeddedServer`, or the servers of a `SentinelSet`."""
    proxy: Proxy | None
    client: redis.Redis
    names: Names
    processes: Processes
    dice: random.Random
    times: Times
    mine: bool
    """Whether it is roomgrad that plays, so that groups, marks and heartbeats may be asked."""
    patience_s: float = PATIENCE_S
    model: RealModel | None = None
    most_snapshots: int = 0
    """How many the run has pointed to at once."""

    contract: Contract = CHAIN
    copies: int = 0
    """How many messages came twice."""

    # what can be seen

    def snapshots(self) -> list[Snapshot]:
        """Those that the learner's model points to, newest first; none while none can be read."""
        try:
            value: Any = self.client.hget(self.names.model(LEARNER), pointers.FIELD)
        except redis.RedisError:
            return []
        found = pointers.from_json(value)
        self.most_snapshots = max(self.most_snapshots, len(found))
        return found

    def progress(self) -> int:
        """How many effects there are by now; -1 while the server does not answer."""
        try:
            with self.client.pipeline(transaction=False) as together:
                for effect in self.contract.effects:
                    together.xlen(self.names.log(effect))
                return sum(map(int, together.execute()))
        except redis.RedisError:
            return -1

    def known_progress(self) -> int:
        """Return how many effects there are as soon as the server answers."""
        (count,) = until(lambda: [c for c in [self._checked()] if c >= 0], self.patience_s)
        return count

    def wait_progress(self, more: int) -> None:
        """Waits for so many effects more, each with patience; the crew is looked after."""
        goal = self.known_progress() + more
        while self.known_progress() < goal:
            self.next_delivery_s()

    def next_delivery_s(self) -> float:
        """Seconds from now to the next effect."""
        began = time.monotonic()
        before = self.known_progress()
        until(lambda: self._checked() > before, self.patience_s)
        return time.monotonic() - began

    def _checked(self) -> int:
        self.processes.check()
        if self.model is not None:
            self.snapshots()
        return self.progress()

    def held_by(self, *names: str) -> list[tuple[str, str, str, str]]:
        """(room, TYPE, group, entry) of what is in the hands of these processes."""
        if not self.mine:
            return []
        pids = {str(self.processes.pid(name)) for name in names}
        found = []
        for room, type_, group in runs.groups(self.contract.system, self.names):
            key = self.names.stream(room, type_)
            pending: Any = self.client.xpending_range(key, group, "-", "+", 1000)
            for each in pending:
                parts = each["consumer"].decode().split("~")
                if pids.intersection(parts[2:3]):  # what was handed over is in no hands
                    found.append((room, type_, group, each["message_id"].decode()))
        return found

    def is_up(self, name: str) -> bool:
        """Return whether a process has a heartbeat; True for other contestants, which have none."""
        beats = self.names.alive(f"*~{self.processes.pid(name)}~*")
        return not self.mine or any(self.client.scan_iter(beats, count=1000))

    def wait_done(self, entry: tuple[str, str, str, str]) -> float:
        """Wait until an entry is committed, which acknowledges it; return when.

        Its done mark is not kept as long: a thousand later ones may be there a second after it.
        """
        room, type_, group, name = entry
        key = self.names.stream(room, type_)
        until(lambda: not self.client.xpending_range(key, group, name, name, 1), PATIENCE_S)
        return time.monotonic()

    # what can be done

    def some(self, least: int = 1, most: int = 1) -> list[str]:
        """Processes to harm."""
        return self.dice.sample(self.processes.names, self.dice.randint(least, most))

    def anywhen(self) -> None:
        """Lets a random part of a message's way pass, so that a fault hits any instant of it."""
        time.sleep(self.dice.uniform(0, 0.03))

    def restart_server(self) -> None:
        """A start on what is on disk; it answers when this returns.

        A child of the dead one that rewrites the file may live on for a while.
        """

        def started() -> EmbeddedServer | None:
            with contextlib.suppress(ServerError):
                return EmbeddedServer.start(
                    self.server.directory, port=self.server.port, die_with_parent=True
                )
            return None

        self.server = until(started, self.patience_s)


@contextlib.contextmanager
def environments(
    directory: Path,
    seed: int,
    times: Times,
    make_crew: Callable[[str, Names, Path], Processes],
    *,
    mine: bool,
    model: RealModel | None = None,
    contract: Contract = CHAIN,
) -> Iterator[Environment]:
    """A stage in a directory of its own; whatever was started is gone afterwards."""
    server = EmbeddedServer.start(directory / "server", die_with_parent=True)
    proxy = Proxy(server.port)
    retry = Retry(ConstantBackoff(0.01), 3)  # CLIENT KILL closes its idle connections, too
    client = redis.Redis.from_url(server.url, protocol=2, socket_timeout=5.0, retry=retry)
    names = Names(f"chaos-{seed}")
    processes = make_crew(proxy.url, names, directory)
    dice, more = random.Random(seed), {"model": model, "contract": contract}
    environment = Environment(server, proxy, client, names, processes, dice, times, mine, **more)
    try:
        processes.start()
        yield environment
    finally:
        processes.stop()
        proxy.close()
        client.close()
        environment.server.kill()


@contextlib.contextmanager
def watched(
    directory: Path,
    seed: int,
    times: Times,
    make_crew: Callable[[str, Names, Path], Processes],
    model: RealModel | None = None,
    contract: Contract = CHAIN,
) -> Iterator[Environment]:
    """A stage whose server is a master with two replicas, under three sentinels."""
    (directory / "servers").mkdir()
    with SentinelSet(directory / "servers") as servers:
        servers.wait_replicas(2)
        client = connect(servers.url)
        names = Names(f"chaos-{seed}")
        processes = make_crew(servers.url, names, directory)
        try:
            processes.start()
            dice, more = random.Random(seed), {"model": model, "contract": contract}
            yield Environment(servers, None, client, names, processes, dice, times, True, **more)
        finally:
            processes.stop()
            client.close()
