"""One measurement of one size: in one process, or through rooms."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.model_size import written
from tests.benchmarks.model_size.stage import RUN, Stage, alone, staged
from tests.benchmarks.model_size.task import parameters
from tests.benchmarks.model_size.ticks import LEAST_STEPS, summary

INTERVALS = 3  # between snapshots, over which a mean is taken
STATE_VALUES = 3  # of a parameter: itself, and two of Adam
SETTLED_S = 0.05  # after which a command that was under way has been executed
STREAMS = (("input", "DATA/FORWARD"), ("output", "DATA/GRADIENT"), ("model", "DATA/GRADIENT"))
Figures = dict[str, Any]


def in_one_process(widening: int, seconds: float, threads: int) -> Figures:
    """Return the times of a step."""
    with contextlib.ExitStack() as stack:
        ticks = alone(stack, widening, threads)
        ticks.warm_up()
        begin = ticks.ends[-1]
        ticks.listen_until(
            lambda: (
                ticks.ends[-1] - begin >= seconds
                and len(ticks.between(begin, time.monotonic())) > LEAST_STEPS
            )
        )
        return summary(ticks.between(begin, time.monotonic()))


def through_rooms(widening: int, replicas: int, seconds: float, threads: int) -> Figures:
    """Return times, bytes and memory, and how long a take-over takes."""
    with contextlib.ExitStack() as stack:
        stage = staged(stack, widening, replicas, threads)
        stage.ticks.warm_up()
        found = _window(stage, seconds) | _memory(stage, widening)
        found["take_over_s"] = take_over(stage)
        return found


def _window(stage: Stage, seconds: float) -> Figures:
    """Return times and bytes of a step: of whole intervals between snapshots, if there are any."""
    begin, offset = time.monotonic(), written.position(stage.client)
    snapshots = Snapshots(stage)

    def enough() -> bool:
        snapshots.look()
        steps = len(stage.ticks.between(begin, time.monotonic()))
        long = time.monotonic() - begin >= seconds and steps > LEAST_STEPS
        return long and (not snapshots.times or len(snapshots.times) > INTERVALS)

    stage.ticks.listen_until(enough)
    until = written.position(stage.client)
    times = snapshots.times or [begin, time.monotonic()]
    ends = stage.ticks.between(times[0], times[-1])
    return {
        **summary(ends),
        **written.per_step(stage.directory, RUN, stage.learner, offset, until),
        "snapshots": len(snapshots.times),
        "store_b": snapshots.stored_bytes / (len(ends) - 1),
    }


class Snapshots:
    """When the model has pointed to another snapshot, and what was stored outside of Redis."""

    def __init__(self, stage: Stage) -> None:
        self.times: list[float] = []
        self.stored_bytes = 0
        self._stage = stage
        self._place = self._newest().get("place")

    def look(self) -> None:
        """Note whether there is a new snapshot."""
        newest = self._newest()
        if newest and newest["place"] != self._place:
            if self.times and not newest["place"].startswith("redis:"):
                self.stored_bytes += newest["size"]
            self.times.append(time.monotonic())
            self._place = newest["place"]

    def _newest(self) -> dict[str, Any]:
        value: Any = self._stage.client.hget(RUN.model(self._stage.learner), "snapshots")
        pointers: list[dict[str, Any]] = json.loads(value or b"[]")
        return pointers[0] if pointers else {}


def _memory(stage: Stage, widening: int) -> Figures:
    peak = max(peak_bytes(each.pid) for each in stage.learners)
    state = parameters(widening) * STATE_VALUES * 4
    return {
        "redis_peak_mb": stage.info("memory")["used_memory_peak"] / 1e6,
        "learner_peak_mb": peak / 1e6,
        "learner_peak_of_state": peak / state,
    }


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [each for each in lines if each.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def take_over(stage: Stage) -> float:
    """Kill the replica that has the message; return the seconds until the next gradient is home.

    The only one is started again at once: it loads the newest snapshot and repeats the steps since.
    """
    while (busy := busy_replica(stage)) is None:
        stage.ticks.listen_until(lambda: True)
    stage.processes.killed.add(busy.pid)
    killed = time.monotonic()
    busy.kill()
    if len(stage.learners) == 1:
        stage.start_learner()
    stage.ticks.listen_until(lambda: stage.ticks.ends[-1] > killed)
    return min(each for each in stage.ticks.ends if each > killed) - killed


def busy_replica(stage: Stage) -> subprocess.Popen[str] | None:
    """Return a replica, stopped by a signal, that owes an answer; None if it was too quick."""
    owner = owing(stage)
    for each in stage.learners:
        if f"~{each.pid}~" in owner:
            os.kill(each.pid, signal.SIGSTOP)
            time.sleep(SETTLED_S)
            if owing(stage) == owner:
                return each
            os.kill(each.pid, signal.SIGCONT)
    return None


def owing(stage: Stage) -> str:
    """Return the consumer to which the message that is under way was delivered, or nothing."""
    for stream in STREAMS:
        key = RUN.stream(*stream)
        if stage.client.exists(key) and stream_has_group(stage, key):
            found: Any = stage.client.xpending_range(key, stage.learner, "-", "+", 1)
            if found:
                return str(found[0]["consumer"].decode())
    return ""


def stream_has_group(stage: Stage, key: str) -> bool:
    """Return whether the learner reads a stream."""
    groups: Any = stage.client.xinfo_groups(key)
    return any(each["name"].decode() == stage.learner for each in groups)
