"""The commit protocol as a model, explored whole by Spin.

python -m tests.model [WORD]: the variants whose names contain the word. Needs `spin` and `gcc`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.model.variants import VARIANTS, Variant

HERE = Path(__file__).parent
MEMORY_MIB = 2048
LIMIT_S = 900  # of one check, on a machine that does much else
DEPTH = 100_000


@dataclass(frozen=True)
class Check:
    """One run of Spin."""

    variant: Variant
    what: str
    flags: str = ""
    """Besides those of the variant, without -D."""

    violated: bool = False
    """Whether Spin has to find that an assertion does not hold."""

    cycles: bool = False
    """Whether it searches for runs without an end, and not for assertions."""


@dataclass(frozen=True)
class Result:
    """What Spin says."""

    text: str
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether all states were explored, or enough of them to find an error."""
        ended = "errors:" in self.text and "max search depth too small" not in self.text
        return ended and (self.errors or "Search not completed" not in self.text)

    @property
    def errors(self) -> bool:
        return "errors: 0" not in self.text

    @property
    def violated(self) -> bool:
        """Whether an assertion does not hold, besides the limits of the arrays."""
        found = re.search(r"assertion violated (.*) \(at depth", self.text)
        return bool(found) and "added<" not in found[1]

    def number(self, pattern: str) -> int:
        found = re.search(pattern, self.text)
        return int(float(found[1])) if found else 0


def checks(variant: Variant) -> Iterator[Check]:
    """Yield all that is asked of a variant."""
    yield Check(variant, "all properties")
    if variant.ends:
        yield Check(variant, "each run ends", cycles=True)
    for state in variant.reached:
        yield Check(variant, f"{state} is reached", f"ONLY=0 REACH={state}", violated=True)
    for flag, broken in variant.mutations:
        yield Check(variant, f"{broken} broken by {flag}", f"ONLY={broken} {flag}", True)


def run(check: Check) -> Result:
    """Have Spin make a verifier, compile it and run it."""
    flags = [f"-D{each}" for each in f"{check.variant.flags} {check.flags}".split()]
    with TemporaryDirectory() as folder:
        for model in HERE.glob("*.pml"):
            shutil.copy(model, folder)
        began = time.monotonic()
        _do(folder, "spin", "-a", *flags, check.variant.file)
        how = "-DNP" if check.cycles else "-DSAFETY"
        speed = "-O0" if check.violated else "-O2"  # which is compiled or found in less time
        options = (speed, "-w", how, "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MIB}")
        _do(folder, "gcc", *options, "-o", "pan", "pan.c")
        found = _do(folder, "./pan", *(["-l"] if check.cycles else []), f"-m{DEPTH}")
        return Result(found, time.monotonic() - began)


def _do(folder: str, *words: str) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
    text = done.stdout + done.stderr
    if done.returncode or "Error:" in text:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {text[-2000:]}")
    return text


def is_as_expected(check: Check, result: Result) -> bool:
    """Return whether Spin found what it has to find, and explored all states if that is nothing."""
    if check.violated:
        return result.violated
    return result.whole and not result.errors


def row(check: Check, result: Result) -> str:
    """Return a line of the table."""
    good = is_as_expected(check, result)
    what = "found" if check.violated else "holds"
    states, depth = result.number(r"(\S+) states, stored"), result.number(r"depth reached (\d+)")
    verdict = what if good else "NOT FOUND" if check.violated else "FAILS"
    return (
        f"{check.variant.name:57} {check.what:52} {states:>10,} {depth:>6,} "
        f"{result.seconds:>6.1f} {verdict}"
    )


def main(word: str = "") -> int:
    """Run all checks, print the table, and return 1 if one is not as expected."""
    if missing := [each for each in ("spin", "gcc") if shutil.which(each) is None]:
        print(f"needs {' and '.join(missing)}: apt install spin gcc", file=sys.stderr)
        return 1
    wanted = [each for variant in VARIANTS if word in variant.name for each in checks(variant)]
    began, good = time.monotonic(), True
    print(f"{'variant':57} {'property':52} {'states':>10} {'depth':>6} {'s':>6} result")
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for check, result in zip(wanted, pool.map(run, wanted), strict=True):
            print(row(check, result), flush=True)
            good &= is_as_expected(check, result)
    seconds = time.monotonic() - began
    print(f"{len(wanted)} checks in {seconds:.0f} s: {'all good' if good else 'NOT GOOD'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
