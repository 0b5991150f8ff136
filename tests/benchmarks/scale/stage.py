"""A server, crowds of replicas, and what both have used within a window of time."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from tests.benchmarks.transport.stage import fresh_server
from tests.waiting import until

TOGETHER = 50  # replicas in one process: its keepers wait by select, which takes 1,024 files
PAIRS_TOGETHER = 4  # busy ones: more than that wait for each other's GIL
START_S = 300.0
Figures = dict[str, float]


@dataclass
class Stage:
    """One server, and the processes that are connected to it."""

    server: EmbeddedServer
    client: redis.Redis
    stack: contextlib.ExitStack
    crowds: list[subprocess.Popen[str]] = field(default_factory=list)

    def enter(self, kind: str, count: int, first: int = 0) -> None:
        """Starts so many pairs, idle replicas or bystanders, and waits until all hearts beat."""
        before, together = self.hearts(), PAIRS_TOGETHER if kind == "pairs" else TOGETHER
        for number in range(first, first + count, together):
            some = min(together, first + count - number)
            words = (kind, self.server.local_url, str(number), str(some))
            command = [sys.executable, "-m", "tests.benchmarks.scale.crowd", *words]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self.stack.callback(process.wait)
            self.stack.callback(process.kill)
            self.crowds.append(process)
        more = 2 * count if kind == "pairs" else count
        until(lambda: self.hearts() >= before + more, timeout_s=START_S)

    def hearts(self) -> int:
        """How many replicas live."""
        runs = Names("*").alive("*").replace("%2A", "*")
        return sum(1 for _ in self.client.scan_iter(runs, count=5000))

    def look(self) -> Figures:
        """Return what server and clients have used so far. CPU times are in seconds."""
        info: Any = self.client.info("all")
        found = {
            "at": time.monotonic(),
            "server_s": info["used_cpu_user"] + info["used_cpu_sys"],
            "received": info["total_net_input_bytes"],
            "sent": info["total_net_output_bytes"],
            "written": info.get("aof_current_size", 0),
            "messages": 0.0,
            "client_s": 0.0,
        }
        for crowd in self.crowds:
            answer = asked(crowd)
            found["messages"] += answer["messages"]
            found["client_s"] += answer["client_s"]
        return found

    def window(self, seconds: float) -> Figures:
        """The same, of so many seconds alone."""
        before = self.look()
        time.sleep(seconds)
        return {name: value - before[name] for name, value in self.look().items()}

    def memory(self) -> int:
        """Bytes that the server uses, connections included."""
        info: Any = self.client.info("memory")
        return int(info["used_memory"])

    def connections(self) -> int:
        info: Any = self.client.info("clients")
        return int(info["connected_clients"])


def asked(crowd: subprocess.Popen[str]) -> Figures:
    """What a crowd says of itself."""
    assert crowd.stdin is not None
    assert crowd.stdout is not None
    crowd.stdin.write("\n")
    crowd.stdin.flush()
    found: Figures = json.loads(crowd.stdout.readline())
    return found


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    """A fresh server with an append-only file that is not rewritten meanwhile."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(aof=True))
        client = stack.enter_context(redis.Redis.from_url(server.url, protocol=2))
        client.config_set("auto-aof-rewrite-percentage", 0)
        client.info("all")  # the first answer of this length costs the server memory for good
        yield Stage(server, client, stack)
