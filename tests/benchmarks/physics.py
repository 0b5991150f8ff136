"""How fast the simulator shoots, beside its peers and beside what one core can calculate.

    python -m tests.benchmarks.physics [--rounds 15] [--json]

All three derivatives come out of the same pass as the distance, so shots and shots with gradients
are the same number. The limit: two operations for each multiply-add of the core, which are
measured in the same run, divided by the operations of a shot: those of one attempt, counted in what
the compiler made of it, times the steps of a shot (on the ground they count like those in the air).
What a shot tries besides, to find its events, does not count.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from roomgrad_trebuchet.simulator import physics

Floats = NDArray[np.float64]
Controls = tuple[Floats, Floats, Floats]

BATCHES = (100, 10_000)
# Shots with gradients a second in batches of 100, measured on this kind of machine, one core.
PEERS = {
    "numba, one shot after another": 24_500,
    "jax, scan": 2340,
    "diffrax, forward mode": 1970,
    "torch.compile of the steps": 545,
    "torch eager, Runge-Kutta with autograd": 99,
}
START = "import time; t = time.perf_counter(); from roomgrad_trebuchet.simulator import physics; "
START += "physics.shoot([0.0], [0.7], [200.0]); print(time.perf_counter() - t)"
ARITHMETIC = re.compile(r"= f(?:add|sub|mul|div) |call .*@llvm\.sqrt")


def controls(batch: int) -> Controls:
    """Wind, angle and weight of the trainer's distribution."""
    random = np.random.default_rng(batch)
    wind = random.standard_normal(batch) * 5.0  # m/s
    angle = np.radians(random.uniform(1.0, 89.0, batch))
    return wind, angle, random.uniform(50.0, 1000.0, batch)  # kg


def cpu_seconds(work: Callable[[], object], turns: int) -> float:
    """CPU time of one turn."""
    started = time.process_time()
    for _ in range(turns):
        work()
    return (time.process_time() - started) / turns


@numba.njit(fastmath={"contract"}, forceinline=True)
def eight_more(value: float, factor: float) -> float:
    """Eight multiply-adds, each waiting for the one before."""
    value = value * factor + 0.5
    value = value * factor + 0.25
    value = value * factor + 0.125
    value = value * factor + 0.0625
    value = value * factor + 0.5
    value = value * factor + 0.25
    value = value * factor + 0.125
    return value * factor + 0.0625


@numba.njit("void(float64[::1], float64, int64)", fastmath={"contract"})
def multiply_and_add(numbers: Floats, factor: float, times: int) -> None:
    """Eight multiply-adds a number, for all numbers side by side, again and again."""
    for _ in range(times):
        for index in range(numbers.shape[0]):
            numbers[index] = eight_more(numbers[index], factor)


def multiply_adds_a_second() -> float:
    """What one core does where nothing holds it up: the numbers stay in the fastest cache."""
    numbers, times = np.linspace(0.1, 0.9, 1024), 10_000
    work = cpu_seconds(lambda: multiply_and_add(numbers, 0.5, times), 1)
    return 8 * len(numbers) * times / work


def operations(attempt: Any) -> int:
    """The additions, multiplications, divisions and roots of one lane's step."""
    signature = (numba.float64[::1],)
    attempt.compile(signature)
    return len(ARITHMETIC.findall(attempt.inspect_llvm(signature)))


def operations_a_shot() -> tuple[float, float, float]:
    """The mean of operations, and of the steps of throw and flight, over the distribution."""
    throws, flights, total = [], [], []
    swing, flight = operations(physics._try_swings), operations(physics._try_flights)
    for wind, angle, weight in zip(*controls(BATCHES[0]), strict=True):
        one = (np.array([wind]), np.array([angle]), np.array([weight]))
        _, throw_nodes, flight_nodes = physics._shoot_with_nodes(one, physics.MOST_STEPS)
        throws.append(len(throw_nodes) - 2)  # nodes are at the ends of steps; lift-off has two
        flights.append(len(flight_nodes) - 1)
        total.append(throws[-1] * swing + flights[-1] * flight)
    return statistics.mean(total), statistics.mean(throws), statistics.mean(flights)


def seconds_to_start(cache: str) -> float:
    """Import and first shot in a process of its own, with numba's cache in a folder."""
    environ = {"NUMBA_CACHE_DIR": cache, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", START], check=True, stdout=subprocess.PIPE, text=True, env=environ
    )
    return float(done.stdout)


def measured(rounds: int) -> dict[str, Any]:
    """All numbers: medians of rounds in which the limit and the batches take turns."""
    limits: list[float] = []
    speeds: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for batch in BATCHES:
        physics.shoot(*controls(batch))
    for _ in range(rounds):
        limits.append(multiply_adds_a_second())
        for batch in BATCHES:
            shots = controls(batch)
            work = cpu_seconds(lambda shots=shots: physics.shoot(*shots), 20_000 // batch)  # type: ignore[misc]
            speeds[batch].append(batch / work)
    a_shot, throw_steps, flight_steps = operations_a_shot()
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = seconds_to_start(cache), seconds_to_start(cache)
    return {
        "shots_per_second": {b: round(statistics.median(s)) for b, s in speeds.items()},
        "multiply_adds_per_second": round(statistics.median(limits)),
        "operations_per_shot": round(a_shot),
        "throw_steps": round(throw_steps, 1),
        "flight_steps": round(flight_steps, 1),
        "limit_shots_per_second": round(2.0 * statistics.median(limits) / a_shot),
        "share_of_limit": {
            b: round(statistics.median(s) * a_shot / (2.0 * statistics.median(limits)), 3)
            for b, s in speeds.items()
        },
        "peers": PEERS,
        "cold_start_s": round(cold, 2),
        "warm_start_s": round(warm, 2),
    }


def table(result: dict[str, Any]) -> str:
    """The numbers for people."""
    speeds, limit = result["shots_per_second"], result["limit_shots_per_second"]
    lines = ["one core                                     shots/s  with gradients  of the limit"]
    for batch, speed in speeds.items():
        lines.append(
            f"simulator, batch {batch:6,}                    {speed:9,}  {speed:14,}"
            f"  {speed / limit:11.0%}"
        )
    lines += [f"{name:42s}          {speed:16,}" for name, speed in PEERS.items()]
    lines.append(f"limit                                      {limit:9,}  {limit:14,}")
    lines += [
        "",
        "The peers were measured on this kind of machine, in batches of 100.",
        f"Limit: {result['multiply_adds_per_second'] / 1e9:.1f} thousand million multiply-adds a "
        f"second, {result['operations_per_shot']:,} operations a shot in pairs",
        f"({result['throw_steps']} steps of the throw, {result['flight_steps']} of the flight).",
        f"Start: {result['cold_start_s']} s with an empty cache, {result['warm_start_s']} s with "
        "a full one.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints shots a second, the peers, the limit, and what a cold start costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measured(arguments.rounds)
    print(json.dumps(result) if arguments.json else table(result))


if __name__ == "__main__":
    main()
