"""The constants of the formula, each measured by itself on a fresh server."""

from __future__ import annotations

import os
import time
from typing import Any

from roomgrad.names import Names
from roomgrad_trebuchet.contract import TRAINER
from tests.benchmarks.scale.crowd import BACK, FORWARD, PONG, THERE
from tests.benchmarks.scale.formula import HISTORY, Constants
from tests.benchmarks.scale.stage import TOGETHER, Figures, Stage, staged
from tests.benchmarks.training import components
from tests.benchmarks.transport.stage import cpu_s, start
from tests.waiting import until

RUN = Names("scale-0")
SETTLING_S = 5.0  # until a server has given up the buffers that a start took
WAITING = 10_000  # open roots
REPLICAS = 3  # of the trebuchet
ENDLESS = 1_000_000
WARM_STEPS = 100


def measured(seconds: float) -> Constants:
    """All of them; each window takes so many seconds."""
    idle = idling(seconds)
    busy = one_pair(seconds, idle)
    heard = bystanders(seconds, idle, busy)
    return Constants(**idle, **busy, **heard, root=open_root(), **training(seconds, idle))


def idling(seconds: float) -> Figures:
    """A replica that has nothing to do."""
    with staged() as stage:
        stage.enter("idle", TOGETHER)  # the first ones make the run
        time.sleep(SETTLING_S)
        before, connected = stage.memory(), stage.connections()
        stage.enter("idle", TOGETHER, TOGETHER)
        time.sleep(SETTLING_S)
        used = stage.window(seconds)
        return {
            "beat_us": used["server_s"] / used["at"] / TOGETHER / 2 * 1e6,
            "client_beat_us": used["client_s"] / used["at"] / TOGETHER / 2 * 1e6,
            "connections": (stage.connections() - connected) / TOGETHER,
            "replica": (stage.memory() - before) / TOGETHER,
        }


def one_pair(seconds: float, idle: Figures) -> Figures:
    """Messages of 4 KiB between two components, of which one remembers something."""
    with staged() as stage:
        stage.enter("pairs", 1)
        until(lambda: full(stage), timeout_s=120)
        used = stage.window(seconds)
        return {**per_message(used, idle, 2), "retained": retained(stage)}


def per_message(used: Figures, idle: Figures, replicas: int) -> Figures:
    """What is left for a message when that of idle replicas is taken away."""
    count, took = used["messages"], used["at"]
    server = used["server_s"] * 1e6 - took * replicas * idle["beat_us"]
    clients = used["client_s"] * 1e6 - took * replicas * idle["client_beat_us"]
    traffic = {name: used[name] / count for name in ("received", "sent", "written")}
    return {"message_us": server / count, "client_us": clients / count, **traffic}


def full(stage: Stage) -> bool:
    """Whether the streams of the first pair hold their whole history."""
    keys = [RUN.stream(room.name, FORWARD) for room in (THERE, BACK)]
    return all(stage.client.xlen(key) >= HISTORY for key in keys)


def retained(stage: Stage) -> float:
    """Bytes of an entry in its stream and in the set of those that are done."""
    stream, done = RUN.stream(THERE.name, FORWARD), RUN.done(PONG, THERE.name, FORWARD)
    length = stage.client.xlen(stream)
    sizes = [stage.client.memory_usage(key, samples=0) or 0 for key in (stream, done)]
    return sum(sizes) / length


def bystanders(seconds: float, idle: Figures, busy: Figures) -> Figures:
    """Return the cost of each further subscriber of a room that half of the messages notify."""
    with staged() as stage:
        stage.enter("pairs", 1)
        stage.enter("bystanders", TOGETHER)
        time.sleep(1.0)
        used = stage.window(seconds)
    rest = per_message(used, idle, TOGETHER + 2)
    times = 2 / TOGETHER
    return {
        "ring_us": (rest["message_us"] - busy["message_us"]) * times,
        "client_ring_us": (rest["client_us"] - busy["client_us"]) * times,
    }


def open_root() -> float:
    """Return the bytes of a root that waits for an answer: small batches without a reader."""
    with staged() as stage:
        begin = stage.memory()
        words = ("tests.chaos.components", "opener", f"--redis-url={stage.server.url}", "--run=w")
        names = Names("w")
        start(stage.stack, *words, f"--window={WAITING}")
        until(lambda: stage.client.hlen(names.memory("opener")) == WAITING, timeout_s=120)
        return (stage.memory() - begin) / WAITING


def training(seconds: float, idle: Figures) -> Figures:
    """A step of the trebuchet with one batch open: batches of 100 pairs, six messages."""
    with staged() as stage:
        names = Names("scale-steps")
        with components(stage.server.local_url, names.run, ENDLESS):
            until(lambda: finished(stage, names) >= WARM_STEPS, timeout_s=120)
            steps, clients = finished(stage, names), children_s()
            used = stage.window(seconds)
            steps, clients = finished(stage, names) - steps, children_s() - clients
    server = used["server_s"] * 1e6 - used["at"] * REPLICAS * idle["beat_us"]
    alone = used["at"] * REPLICAS * idle["client_beat_us"]
    return {
        "step_us": server / steps,
        "step_client_us": (clients * 1e6 - alone) / steps,
        **{f"step_{name}": used[name] / steps for name in ("received", "sent", "written")},
    }


def finished(stage: Stage, names: Names) -> int:
    """Steps until now."""
    found: Any = stage.client.hget(names.counters(TRAINER), "finished")
    return int(found or 0)


def children_s() -> float:
    """CPU seconds of the components that this process has started and that live."""
    total = 0.0
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        children = file.read().split()
    for pid in children:
        with open(f"/proc/{pid}/cmdline") as file:
            if "roomgrad_" not in file.read():
                continue
        total += cpu_s(int(pid))
    return total
