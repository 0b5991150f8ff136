"""How well the trebuchet learns through rooms: mean miss on held-out shots, seed by seed.

    python -m tests.benchmarks.learning [--steps 1000] [--seeds 0 1 2 3 4] [--json]

The preset `learn` is to stay under 0.45 m; `original`, for comparison, between 2 and 4 m.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

LIMITS = {"learn": (0.0, 0.45), "original": (2.0, 4.0)}  # m, after 1,000 steps


def trained(preset: str, seed: int, steps: int) -> dict[str, Any]:
    """What `roomgrad run --json` reports of one training."""
    command = [sys.executable, "-m", "roomgrad", "run", "trebuchet", "--json", "--fresh"]
    command += ["--run", f"learning-{preset}-{seed}", "--preset", preset]
    command += ["--seed", str(seed), "--steps", str(steps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Prints a line per training; exits 1 when one is outside its limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = []
    for preset, (low, high) in LIMITS.items():
        for seed in arguments.seeds:
            result = trained(preset, seed, arguments.steps)
            within = low <= result["mean_miss_m"] <= high
            results.append({"preset": preset, "within": within, **result})
            print(
                f"{preset:9s} seed {seed}: mean miss {result['mean_miss_m']:.3f} m, "
                f"median {result['median_miss_m']:.3f} m, "
                f"{result['steps_per_second']:.0f} steps/s, "
                f"lost {result['lost']}, duplicates {result['duplicates']}"
                f"{'' if within else f'  OUTSIDE {low} to {high} m'}",
                file=sys.stderr,
            )
    if arguments.json:
        print(json.dumps(results))
    sys.exit(0 if all(result["within"] for result in results) else 1)


if __name__ == "__main__":
    main()
