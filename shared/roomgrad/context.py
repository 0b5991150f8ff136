"""What a handler gets besides its message, and what it wants to happen: staged, not done.

A handler never talks to Redis. It reads through the context, which remembers each value as a guard;
its writes are staged, and committed together when it has returned.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog

from roomgrad.codec import pack
from roomgrad.commit import Commit
from roomgrad.memory import Cache, Counters, Memory, Reads, Table
from roomgrad.messages import Message, new_id
from roomgrad.names import LOGGING, Names
from roomgrad.rooms import MessageType, ModelStatus

if TYPE_CHECKING:  # components without a model do not load it
    from roomgrad.models import Model

log = structlog.get_logger("roomgrad")

LATEST_S = 1e9  # thirty years: the longest delay of a message


class Context:
    """One handler call: memory, counters, tables, model, and what is sent besides the reply."""

    def __init__(
        self,
        names: Names,
        component: str,
        settings: Any,
        reads: Reads,
        *,
        root_id: str = "",
        model: Model | None = None,
        status: ModelStatus = ModelStatus.TRAIN,
        open_roots: int = 0,
    ) -> None:
        self.names = names
        self.component = component
        self.settings = settings
        self.sent: list[Message] = []
        self.delayed: list[tuple[float, Message]] = []
        self._reads = reads
        self.appended: list[tuple[str, bytes]] = []
        self._model = model
        self.tables: dict[str, Table] = {}
        self.root_id = root_id
        self._status = status
        self._open_roots = open_roots
        self.missed = 0  # entries that an `everyone` replica never read, since its last commit
        self.log = log

    @cached_property
    def memory(self) -> Memory:
        """The component's memory: a record for each open root, or message that awaits its reply."""
        key, stores = self.names.memory(self.component), self._status is not ModelStatus.VALIDATE
        return Memory(key, self._reads, self.root_id, stores, self._open_roots)

    @cached_property
    def counters(self) -> Counters:
        """Whole numbers of the component, which grow with the commit."""
        return Counters(self.names.counters(self.component))

    @property
    def model(self) -> Model:
        """The component's model. Only for components that declare one."""
        if self._model is None:
            raise AttributeError(f"component {self.component} declares no model")
        return self._model

    @property
    def optional_model(self) -> Model | None:
        """The model, or None if the component declares none."""
        return self._model

    def table(self, name: str) -> Table:
        """Return the hash `{run}:name`, for what others read: losses, trajectories."""
        table = self.tables.get(name)
        if table is None:
            table = self.tables[name] = Table(self.names.table(name), self._reads)
        return table

    def append(self, log_name: str, **record: Any) -> None:
        """Stage an entry of the stream `{run}:log_name:log`, which is never trimmed."""
        self.appended.append((log_name, pack(record)))

    def send(self, message: Message, *, after_s: float = 0.0) -> None:
        """Stage a message besides the replies that the handler returns.

        after_s: the message is delivered so many seconds after the commit, by any living replica
            of this component. It cannot be recalled.
        """
        if not 0 <= after_s <= LATEST_S:
            raise ValueError(f"after_s: expected seconds from 0 to {LATEST_S:g}, got {after_s}")
        if after_s:
            self.delayed.append((after_s, message))
        else:
            self.sent.append(message)

    def report(self, **values: float) -> None:
        """Stage a LOG/KPI message in the room `_logging`."""
        message = Message(
            LOGGING,
            MessageType.LOG_KPI.value,
            new_id(),
            self.root_id or new_id(),
            fields=values,
        )
        self.sent.append(message)

    def time(self) -> float:
        """Return the Unix time in seconds by the server's clock, the same on every machine."""
        return self._reads.time()

    def now(self) -> float:
        """Return the seconds of a monotonic clock, for limits on how often something is done."""
        return time.monotonic()

    def forget_root(self, root_id: str) -> dict[str, dict[str, Any]]:
        """Delete every record of a root from memory, and return all by their fields."""
        prefix = pack({"ROOT_ID": root_id})[:-1]
        values = self._reads.hgetall(self.memory.key).items()
        fields = [name.decode(errors="replace") for name, each in values if each.startswith(prefix)]
        found = self.memory.get_many(fields)
        for field in found:
            self.memory.delete(field)
        return found

    def remember(self, cache: Cache) -> None:
        """Tell the cache what this call's commit has written into memory."""
        if (memory := self._used_memory) is not None:
            for field, value in memory.staged.items():
                cache.remember(memory.key, field.encode(), value)

    def stage(self, commit: Commit) -> None:
        """Write guards and operations of this call into the commit, except messages and model."""
        memory = self._used_memory
        for table in (*([memory] if memory else []), *self.tables.values()):
            for field, seen in table.seen.items():
                commit.same(table.key, field.encode(), seen)
            for field, value in table.staged.items():
                if value is None:
                    commit.do(b"HDEL", table.key, field.encode())
                else:
                    commit.do(b"HSET", table.key, field.encode(), value)
        for log_name, entry in self.appended:
            commit.do(b"XADD", self.names.log(log_name), b"*", b"m", entry)
        if memory is not None:
            kept = self.names.kept(self.component)
            retained, released = memory.weight_changes()
            for version in retained:
                commit.retain(kept, version)
            for version in released:
                commit.release(kept, version)
        if "counters" in vars(self):
            for name, count in self.counters.staged.items():
                commit.do(b"HINCRBY", self.counters.key, name.encode(), b"%d" % count)

    @property
    def _used_memory(self) -> Memory | None:
        return vars(self).get("memory")  # a handler that leaves it alone needs none
