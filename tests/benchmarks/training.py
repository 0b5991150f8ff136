"""What rooms cost a training step: the same training through rooms and in one process, in turns.

python -m tests.benchmarks.training [--rounds 5] [--steps 400] [--window 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from roomgrad.inspect import models
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import LOGGING, Names
from roomgrad.rooms import MessageType
from roomgrad.systems import module_of
from tests.systems.trebuchet.reference import train

WARM_UP = 100  # first steps of a round that are not timed
COMPONENTS = ("controlmodel", "simulator", "trainer")


@contextmanager
def components(url: str, run: str, steps: int, window: int = 1, seed: int = 0) -> Iterator[None]:
    """One process of each component."""
    processes = []
    for name in COMPONENTS:
        command = [sys.executable, "-m", module_of(name), "--redis-url", url, "--run", run]
        command += ["--threads", "1", "--log-level", "warning"]
        if name != "simulator":
            command += ["--train-steps", str(steps), "--seed", str(seed)]
        if name == "trainer":
            command += ["--window", str(window)]
        processes.append(subprocess.Popen(command))
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def through_rooms(client: redis.Redis, url: str, steps: int, window: int) -> tuple[float, str]:
    """Seconds of a step, and the hash of the weights."""
    names = Names(f"bench-{uuid.uuid4().hex[:8]}")
    key = names.stream(LOGGING, MessageType.LOG_KPI)
    times: list[int] = []
    after: Any = "0-0"
    with components(url, names.run, steps, window):
        while len(times) < steps:
            found: Any = client.xread({key: after}, block=1000)
            for _, entries in found or ():
                times += [int(entry.split(b"-")[0]) for entry, _ in entries]
                after = entries[-1][0]
    seconds = (times[-1] - times[WARM_UP]) / 1000 / (steps - 1 - WARM_UP)
    return seconds, models.sha256(client, names, "controlmodel")


def main() -> None:
    """Prints medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--window", type=int, default=1, help="batches that are open at a time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rooms, alone = [], []
    with tempfile.TemporaryDirectory() as directory, EmbeddedServer.start(directory) as server:
        client = redis.Redis.from_url(server.url, protocol=2, socket_timeout=None)
        for number in range(arguments.rounds):
            one = train(arguments.steps)
            alone.append(one.seconds_per_step(WARM_UP))
            seconds, sha256 = through_rooms(
                client, server.local_url, arguments.steps, arguments.window
            )
            rooms.append(seconds)
            same = "same weights" if sha256 == one.sha256 else "OTHER WEIGHTS"
            print(
                f"round {number}: one process {alone[-1] * 1e3:.2f} ms, "
                f"rooms {rooms[-1] * 1e3:.2f} ms a step, {same}",
                file=sys.stderr,
            )
    ratio = statistics.median(r / a for r, a in zip(rooms, alone, strict=True))
    result = {
        "one_process_ms": round(statistics.median(alone) * 1e3, 3),
        "rooms_ms": round(statistics.median(rooms) * 1e3, 3),
        "ratio": round(ratio, 3),
        "rounds": arguments.rounds,
        "steps": arguments.steps,
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"a step through rooms takes {ratio:.2f} times the step of one process: {result}")


if __name__ == "__main__":
    main()
