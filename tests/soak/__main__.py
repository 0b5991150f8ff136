"""Both systems at full load, for minutes or days: what grows?

python -m tests.soak [--minutes 30 | --hours 72] [--share 0.03] [--json FILE] [--keep FOLDER]

Looks at everything every ten seconds: bytes, open files and threads of each process, memory of the
server, length and bytes of each key, logs. In the end a straight line is laid through the second
half of each figure. Ends with exit code 1 where one has risen by more than the share of its mean.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.soak.judge import report
from tests.soak.load import Load, full_load
from tests.soak.samples import Sample, take

EVERY_S = 10.0
FEWEST, MOST = 40, 2000  # samples: enough for a line, and not too many to read at the end
SETTLING_S = 3.0


def watched(load: Load, seconds: float) -> Iterator[Sample]:
    """Samples until so many seconds are over. Raises what keeps a component from running."""
    every = max(min(EVERY_S, seconds / FEWEST), seconds / MOST)
    time.sleep(min(SETTLING_S, seconds / 10))
    began = time.monotonic()
    for number in range(round(seconds / every) + 1):
        time.sleep(max(0.0, began + number * every - time.monotonic()))
        for session in load.sessions:
            session.check()
        yield take(load)


def options() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--hours", type=float, default=0.0, help="instead of minutes")
    parser.add_argument("--share", type=float, default=0.03, help="growth that counts as flat")
    parser.add_argument("--json", type=Path, help="write the report into this file")
    parser.add_argument("--keep", type=Path, help="keep all data, logs and samples here")
    return parser.parse_args()


@contextlib.contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """A folder that stays, or one that is gone afterwards."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        yield Path(name)


def main() -> int:
    """Soaks, prints the tables, and fails where something grows."""
    asked = options()
    seconds = asked.hours * 3600 or asked.minutes * 60
    with kept(asked.keep) as folder:
        path = folder / "samples.jsonl"  # not in memory: this process is looked at, too
        with full_load(folder) as load, open(path, "w") as file:
            for sample in watched(load, seconds):
                print(json.dumps(sample), file=file, flush=True)
        found = report([json.loads(line) for line in path.open()], asked.share)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))
    show(found)
    return 1 if found["grows"] else 0


def show(found: dict[str, Any]) -> None:
    """The tables."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(
        "", "first", "last", "mean", "per hour", "error", "bound", "", title="second half"
    )
    for each in found["trends"]:
        numbers = [f"{each[key]:,.0f}" for key in ("first", "last", "mean", "per_hour", "error")]
        verdict = "GROWS" if each["grows"] else each["reason"]
        table.add_row(each["name"], *numbers, f"{each['bound']:,.0f}", verdict)
    console.print(table)
    for name, value in found.items():
        if name not in ("trends", "grows"):
            console.print(f"{name:22} {value:,}")
    grows = ", ".join(found["grows"]) or "nothing"
    console.print(f"{'grows':22} {grows}")


if __name__ == "__main__":
    sys.exit(main())
