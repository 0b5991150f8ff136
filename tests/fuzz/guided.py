"""The same targets, guided by coverage: libFuzzer through atheris, if that is installed.

python -m tests.fuzz.guided NAME FOLDER [options of libFuzzer]

libFuzzer ends its process with the first crash, so each target has one of its own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

LONGEST = 20_000  # bytes of an input
MOST_MIB = 1000  # of resident memory
HANGS_S = 30
INSTRUMENTED = ["roomgrad", "roomgrad_melody", "roomgrad_swergio", "mido", "yaml", "json"]


def play(targets: Iterable[Target], seconds: int, keep: Path) -> int:
    """Run each target for some seconds; return 1 if one has crashed, 2 without atheris."""
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: `pip install atheris` (Linux and macOS)", file=sys.stderr)
        return 2
    found = [one(target.name, seconds, keep / target.name.replace(" ", "-")) for target in targets]
    return int(any(found))


def one(name: str, seconds: int, folder: Path) -> bool:
    """Run one target in a process of its own, and return whether it crashed."""
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "max_len": LONGEST,
        "rss_limit_mb": MOST_MIB,
        "timeout": HANGS_S,
        "print_final_stats": 1,
        "artifact_prefix": f"{folder}/",
    }
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(folder)]
    command += [f"-{option}={value}" for option, value in options.items()]
    done = subprocess.run(command, capture_output=True, text=True)
    (folder / "log.txt").write_text(done.stdout + done.stderr)
    inputs = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    count = f"{int(inputs[1]):,}" if inputs else "no"
    said = "no crash" if done.returncode == 0 else f"CRASHED, see {folder}/log.txt"
    print(f"{name}: {count} inputs, {said}", flush=True)
    return done.returncode != 0


def main() -> None:
    """Run one target until libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS

    name, folder, *options = sys.argv[1:]
    target = next(each for each in TARGETS if each.name == name)
    corpus = Path(folder) / "corpus"
    for number, example in enumerate(target.examples):
        (corpus / f"example-{number}").write_bytes(example)

    def read(data: bytes) -> None:
        with contextlib.suppress(*target.allowed):
            target.read(data)

    atheris.Setup([sys.argv[0], *options, str(corpus)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
