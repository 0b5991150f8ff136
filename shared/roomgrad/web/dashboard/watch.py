"""One run, looked at again and again while somebody watches."""

from __future__ import annotations

import threading
import time
from typing import Any

import orjson
import redis
import structlog

from roomgrad.inspect import replicas, streams
from roomgrad.inspect.streams import Flows
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.web.dashboard import shots
from roomgrad.web.dashboard.graph import graph
from roomgrad.web.dashboard.roots import Newest
from roomgrad.web.dashboard.training import Curve
from roomgrad.web.events import Events
from roomgrad.web.serving import Unavailable
from roomgrad.web.store import Store
from roomgrad_melody.contract import MELODY
from roomgrad_melody.snapshot import SnapshotReader, Sound
from roomgrad_trebuchet.contract import TREBUCHET

log = structlog.get_logger("roomgrad")

SLOW = 4  # looks between two at what changes slowly, or asks for all keys
CURVES = 2  # looks between two at curves, of which a thousand points more change little
LINGER_S = 5.0  # a page that reloads finds the run still watched


class Watch:
    """Looks at a run while somebody listens, and publishes what is new by topics."""

    def __init__(self, names: Names, store: Store[redis.Redis], every_s: float) -> None:
        self.names = names
        self.events = Events(self._start)
        self._store = store
        self._every_s = every_s
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether nobody listens, nor has a moment ago."""
        return self._thread is None and not self.events.listeners

    def _start(self) -> None:
        """Looks from now on: somebody has come to listen."""
        with self._lock:
            if self._thread is None:
                name = f"watch {self.names.run}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def _leave(self) -> bool:
        """Ends the looking, unless somebody has come just now."""
        with self._lock:
            if not self.events.listeners:
                self._thread = None
            return self._thread is None

    def stop(self) -> None:
        """Ends all streams."""
        self._ending.set()
        self.events.close()

    def _run(self) -> None:
        left_at = time.monotonic()
        sight = Sight(self.names)
        while not self._ending.is_set():
            began = time.monotonic()
            if self.events.listeners:
                left_at = began
            elif began - left_at > LINGER_S and self._leave():
                return
            try:
                for topic, found in self._store.do(sight.look).items():
                    self._publish(topic, found)
            except Unavailable as error:
                sight = Sight(self.names)
                self._publish("server", {"connected": False, "reason": str(error)})
            except Exception as error:
                log.error("a look at the run failed", run=self.names.run, exc_info=error)
            self._ending.wait(max(0.05, self._every_s - (time.monotonic() - began)))

    def _publish(self, topic: str, found: Any) -> None:
        self.events.publish(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY), topic)


class Sight:
    """What is seen of a run, topic by topic."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._looks = 0
        self._before: Flows | None = None
        self._curve = Curve(names)
        self._newest = Newest(names)
        self._board = SnapshotReader(names, Sound())

    def _learn(self, client: redis.Redis) -> None:
        """What changes slowly: which streams there are, and who declares what."""
        names = self._names
        self._system = registry.system_of_run(client, names)
        self._keys = streams.keys_of(client, names)
        self._declared = registry.declared_in(client, names)

    def look(self, client: redis.Redis) -> dict[str, Any]:
        """What is new, by topic."""
        slow, curves = self._looks % SLOW == 0, self._looks % CURVES == 0
        if slow:
            self._learn(client)
        self._looks += 1
        now = streams.look(client, self._names, self._keys)
        if slow:
            self._replicas = replicas.look(client, self._names, now)
        drawn = graph(self._before or now, now, self._replicas, self._declared)
        self._before = now
        name = self._system.name if self._system else ""
        news: dict[str, Any] = {
            "server": {"connected": True, "reason": "", "run": self._names.run, "system": name},
            "graph": drawn,
        }
        if name == MELODY.name:
            news["melody"] = self._board.snapshot(client) if slow else None
        elif curves:
            news["training"] = self._curve.read(client)
        if name == TREBUCHET.name and curves:
            news["shots"] = shots.last(client, self._names)
        if slow:
            news["replicas"] = self._replicas
            news["roots"] = self._newest.roots(client, now)
            news["dead"] = {"count": now.dead, "letters": self._newest.letters(client)}
        return {topic: found for topic, found in news.items() if found is not None}
