"""How fast the simulator shoots, value and all three derivatives, on one core.

python -m tests.benchmarks.physics [--batch 100] [--rounds 30] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from services.simulator import physics

START = "import time; t = time.perf_counter(); from services.simulator import physics; "
START += "physics.shoot([0.0], [0.7], [200.0]); print(time.perf_counter() - t)"


def seconds_to_start(cache: str) -> float:
    """Import and first shot in a process of its own, with numba's cache in a folder."""
    environ = {"NUMBA_CACHE_DIR": cache, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", START], check=True, stdout=subprocess.PIPE, text=True, env=environ
    )
    return float(done.stdout)


def milliseconds(batch: int) -> float:
    """CPU time of one batch of the trainer's distribution."""
    random = np.random.default_rng(batch)
    wind = random.standard_normal(batch) * 5.0  # m/s
    angle = np.radians(random.uniform(1.0, 89.0, batch))
    weight = random.uniform(50.0, 1000.0, batch)  # kg
    physics.shoot(wind, angle, weight)
    turns = max(1, 1000 // batch)
    started = time.process_time()
    for _ in range(turns):
        physics.shoot(wind, angle, weight)
    return (time.process_time() - started) / turns * 1e3


def main() -> None:
    """Prints the median of the rounds, shots a second, and what a cold start costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    median = statistics.median(milliseconds(arguments.batch) for _ in range(arguments.rounds))
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = seconds_to_start(cache), seconds_to_start(cache)
    result = {
        "batch": arguments.batch,
        "ms": round(median, 3),
        "shots_per_second": round(arguments.batch / median * 1e3),
        "cold_start_s": round(cold, 2),
        "warm_start_s": round(warm, 2),
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['batch']} shots with derivatives: {median:.2f} ms of one core, "
            f"{result['shots_per_second']:,} shots/s; start {cold:.1f} s cold, {warm:.1f} s warm"
        )


if __name__ == "__main__":
    main()
