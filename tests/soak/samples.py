"""One look at everything that could grow: processes, the server, each key, logs."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import redis

from roomgrad.names import Names
from roomgrad_trebuchet.contract import TRAINER
from tests.soak.load import MELODY_RUN, TREBUCHET_RUN, Load

PAGE = 4096
INCARNATION = re.compile(r"(:alive:[^~]+)~.*")  # heartbeats have the process in their names
LENGTHS = {"stream": "XLEN", "hash": "HLEN", "zset": "ZCARD", "string": "STRLEN", "list": "LLEN"}

Sample = dict[str, float]
"""What was measured by its name, like `rss trainer-0` in bytes; `time` is in seconds."""


def take(load: Load) -> Sample:
    """One sample, in which a figure that cannot be had just now is missing."""
    client = load.sessions[0].client
    return {
        "time": time.monotonic(),
        **processes(load.pids()),
        **server(client),
        **keys(client),
        **load.logs(),
        "restarts": load.restarts,
    }


def processes(pids: dict[str, int]) -> Sample:
    """Resident bytes, open files and threads of each process."""
    found: Sample = {}
    for name, pid in pids.items():
        proc = Path(f"/proc/{pid}")
        try:
            found[f"rss {name}"] = int((proc / "statm").read_text().split()[1]) * PAGE
            found[f"files {name}"] = len(list((proc / "fd").iterdir()))
            found[f"threads {name}"] = len(list((proc / "task").iterdir()))
        except FileNotFoundError:
            continue  # it has just ended, and is started again
    return found


def server(client: redis.Redis) -> Sample:
    """What the server says of itself."""
    info: Any = client.info()
    steps: Any = client.hget(Names(TREBUCHET_RUN).counters(TRAINER), "finished")
    return {
        "used memory": info["used_memory"],
        "peak memory": info["used_memory_peak"],
        "clients": info["connected_clients"],
        "keys": client.dbsize(),
        "append-only file": info["aof_current_size"],
        "append-only base": info["aof_base_size"],
        "commands": info["total_commands_processed"],
        "steps": int(steps or 0),
    }


def keys(client: redis.Redis) -> Sample:
    """Length and bytes of each key of the two runs, and the seconds that a log of steps holds."""
    found: Sample = {}
    for run in (TREBUCHET_RUN, MELODY_RUN):
        for key in client.scan_iter(match=Names(run).everything(), count=1000):
            with client.pipeline(transaction=False) as together:
                kind: Any = client.type(key)
                together.execute_command(LENGTHS.get(kind.decode(), "EXISTS"), key)
                together.memory_usage(key, samples=20)
                length, size = together.execute()
            name = INCARNATION.sub(r"\1", key.decode())
            found[f"length {name}"] = found.get(f"length {name}", 0) + int(length)
            found[f"bytes {name}"] = found.get(f"bytes {name}", 0) + int(size or 0)
            if name.endswith(":steps"):
                ends: Any = client.xrange(key, count=1) + client.xrevrange(key, count=1)
                times = [int(entry.partition(b"-")[0]) for entry, _ in ends]
                found[f"seconds {name}"] = (max(times, default=0) - min(times, default=0)) / 1000
    return found
