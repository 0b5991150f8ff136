"""Feed bad inputs to all code that reads untrusted bytes, and print the results.

python -m tests.fuzz [--inputs 1000000] [--seed 1] [--only WORD] [--keep build/fuzz] [--atheris S]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz.inputs import feed
from tests.fuzz.measure import Account, Measure, keep
from tests.fuzz.targets import TARGETS, Target

MIB = 1024 * 1024
MOST_MIB = 200  # that the memory may grow by
SLOWEST_S = 1.0  # that an input may take


def options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="targets with this word in their name")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="for what crashes")
    parser.add_argument(
        "--atheris", type=int, default=0, metavar="S", help="guided by coverage, S seconds each"
    )
    return parser.parse_args()


def play(targets: list[Target], inputs: int, seed: int) -> list[Account]:
    """Run all targets, one after the other."""
    accounts = []
    shares = sum(target.share for target in targets)
    for target in targets:
        measure = Measure(target)
        feed(target, max(20, round(inputs * target.share / shares)), seed, measure.run)
        accounts.append(measure.account)
    return accounts


def wrong(accounts: list[Account]) -> list[str]:
    """Return the violations as sentences."""
    found = []
    for each in accounts:
        found += [f"{each.name}: {place}" for place in each.crashes]
        if each.slowest_s > SLOWEST_S:
            found.append(f"{each.name}: an input took {each.slowest_s:.1f} s ({SLOWEST_S:g})")
        if each.most_bytes > MOST_MIB * MIB:
            found.append(f"{each.name}: memory grew by {each.most_bytes // MIB} MiB ({MOST_MIB})")
    return found


def show(accounts: list[Account]) -> None:
    table = Table("what is read", "inputs", "taken", "refused", "crashes", "slowest, ms", "+ MiB")
    for each in accounts:
        counts = (each.inputs, each.taken, each.refused, each.crashed)
        numbers = [f"{count:,}" for count in counts]
        table.add_row(
            each.name, *numbers, f"{each.slowest_s * 1000:.1f}", f"{each.most_bytes / MIB:.0f}"
        )
    inputs, crashed = sum(each.inputs for each in accounts), sum(a.crashed for a in accounts)
    slowest, most = max(a.slowest_s for a in accounts), max(a.most_bytes for a in accounts)
    table.add_section()
    table.add_row(
        "all", f"{inputs:,}", "", "", f"{crashed:,}", f"{slowest * 1000:.1f}", f"{most / MIB:.0f}"
    )
    Console().print(table)


def main() -> int:
    """Run the command; exit with 1 if there are violations."""
    asked = options()
    targets = [target for target in TARGETS if asked.only in target.name]
    if not targets:
        print(f"no target is named {asked.only!r}", file=sys.stderr)
        return 2
    if asked.atheris:
        from tests.fuzz import guided

        return guided.play(targets, asked.atheris, asked.keep)
    began = time.monotonic()
    accounts = play(targets, asked.inputs, asked.seed)
    show(accounts)
    for each in accounts:
        keep(each, asked.keep)
    found = wrong(accounts)
    for sentence in found:
        print(f"WRONG: {sentence}")
    print(f"seed {asked.seed}, {time.monotonic() - began:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
