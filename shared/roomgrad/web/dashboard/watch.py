"""One run, read again and again while a page shows it."""

from __future__ import annotations

import threading
import time
from typing import Any

import redis
import structlog

from roomgrad import exact_json
from roomgrad.errors import Unavailable
from roomgrad.inspect import replicas, snapshot
from roomgrad.inspect.curves import Curves
from roomgrad.inspect.graph import graph
from roomgrad.inspect.keys import stream_keys
from roomgrad.inspect.newest import newest_letters, newest_messages, newest_roots
from roomgrad.inspect.progress import ProgressReader
from roomgrad.inspect.snapshot import RunSnapshot
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.web.changes import Changes
from roomgrad.web.dashboard.panels import Panel, panel_of
from roomgrad.web.store import Store

log = structlog.get_logger("roomgrad")

SLOW = 4  # reads per read of what changes slowly or needs a scan of all keys
CURVES = 2  # reads per read of curves and panel


class Watch:
    """Publishes the topics of a run, by a thread that runs while pages ask for them."""

    def __init__(self, names: Names, store: Store[redis.Redis], every_s: float) -> None:
        self.names = names
        self.changes = Changes(self._start)
        self._store = store
        self._every_s = every_s
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether no page asks, and the thread has ended."""
        return self._thread is None and not self.changes.is_followed

    def stop(self) -> None:
        """End the thread."""
        self._ending.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                name = f"watch {self.names.run}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def _end_if_unwatched(self) -> bool:
        with self._lock:
            if not self.changes.is_followed:
                self._thread = None
                self.changes.forget()
            return self._thread is None

    def _run(self) -> None:
        reader = RunReader(self.names)
        while not self._ending.is_set():
            began = time.monotonic()
            if self._end_if_unwatched():
                return
            try:
                for topic, found in self._store.do(reader.read).items():
                    self._publish(topic, found)
            except Unavailable as error:
                reader = RunReader(self.names)
                self._publish("server", {"connected": False, "reason": str(error)})
            except Exception as error:
                log.error("a run could not be read", run=self.names.run, exc_info=error)
            self._ending.wait(max(0.05, self._every_s - (time.monotonic() - began)))

    def _publish(self, topic: str, found: Any) -> None:
        self.changes.publish(exact_json.dumps(found, nulls=True), topic)


class RunReader:
    """Reads a run, topic by topic."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._reads = 0
        self._before: RunSnapshot | None = None
        self._curves = Curves(names)
        self._progress = ProgressReader(names)
        self._panel: Panel | None = None
        self._system = ""

    def read(self, client: redis.Redis) -> dict[str, Any]:
        """Return what is new, by topic."""
        slow, curves = self._reads % SLOW == 0, self._reads % CURVES == 0
        if slow:
            self._read_declarations(client)
        self._reads += 1
        now = snapshot.take(client, self._names, self._keys)
        if slow:
            self._replicas = replicas.inspect(client, now)
        news: dict[str, Any] = {
            "server": {
                "connected": True,
                "reason": "",
                "run": self._names.run,
                "system": self._system,
                "panel": self._panel is not None,
            },
            "graph": graph(
                self._before or now, now, self._replicas, self._declared, self._contract
            ),
        }
        self._before = now
        if curves:
            news["training"] = self._curves.read(client)
            news["panel"] = self._panel.read(client) if self._panel else None
        if slow:
            news["replicas"] = replicas.merged(self._replicas)
            messages = newest_messages(client, now)
            news["roots"] = newest_roots(messages)
            news["progress"] = self._progress.read(client, now, self._replicas, messages)
            letters = newest_letters(client, self._names)
            news["dead"] = {"count": now.dead_letters, "letters": letters}
        return {topic: found for topic, found in news.items() if found is not None}

    def _read_declarations(self, client: redis.Redis) -> None:
        """Read what changes slowly: the system, its streams, and what components declare."""
        self._contract = registry.system_of_run(client, self._names)
        name = self._contract.name if self._contract else ""
        if name != self._system:
            panel = panel_of(name)
            self._system, self._panel = name, panel(self._names) if panel else None
        self._keys = stream_keys(client, self._names)
        self._declared = registry.declared_in(client, self._names)
