"""Branch coverage of each layer, and the floors in pyproject.toml below which it may not fall.

python -m tests.layer_coverage build/coverage/report.json
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections import Counter
from pathlib import Path, PurePath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (
    *("redis", "snapshots", "runtime", "inspect", "web", "ops", "local", "serving", "gym", "cli"),
)
SERVICES = {
    "dashboard": "web",
    "gateway": "swergio",
    **dict.fromkeys(("controlmodel", "inference", "simulator", "trainer"), "trebuchet"),
    **dict.fromkeys(("greeter", "world"), "hello"),
    **dict.fromkeys(("labelhead", "leftowner", "rightowner"), "split"),
    **dict.fromkeys(("cartpole", "policy", "aggregation", "selection", "control"), "rlgym"),
    **dict.fromkeys(("evalnet", "evolution", "labelling", "learner", "rater"), "melody"),
}


def layer_of(file: str) -> str:
    """Return the layer or the system of a source file, whose path is relative to the checkout."""
    top, folder, *rest = PurePath(file).parts
    if top == "services":
        return SERVICES[folder]
    if folder != "roomgrad":
        return folder.removeprefix("roomgrad_")
    return rest[0] if rest[0] in LAYERS else "core"


def covered(report: dict[str, Any]) -> dict[str, float]:
    """Return the share of lines and branches of each layer that the tests ran, in percent."""
    reached: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for file, found in report["files"].items():
        layer, summary = layer_of(file), found["summary"]
        reached[layer] += summary["covered_lines"] + summary["covered_branches"]
        total[layer] += summary["num_statements"] + summary["num_branches"]
    return {layer: 100 * reached[layer] / total[layer] for layer in total if total[layer]}


def main(path: str) -> int:
    """Print a table, and return 1 if a layer is below its floor."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    floors: dict[str, float] = settings["tool"]["roomgrad"]["coverage-floors"]
    found = covered(json.loads(Path(path).read_text()))
    low = [layer for layer in floors if found.get(layer, 0.0) < floors[layer]]
    print(f"{'layer':<12}{'covered':>9}{'floor':>7}")
    for layer, floor in floors.items():
        mark = "  too low: add tests" if layer in low else ""
        print(f"{layer:<12}{found.get(layer, 0.0):>8.1f}%{floor:>6g}%{mark}")
    return int(bool(low))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
