"""Breaks roomgrad on purpose, counts what is lost and doubled, and prints it as tables.

python -m tests.chaos [--seeds 1] [--first 1] [--messages 10000] [--parameters 0] [--short]
    [--alone] [--only NAME ...] [--at-once 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.chaos import report
from tests.chaos.environment import SHORT, Times
from tests.chaos.rivals import KINDS
from tests.chaos.seeds import OURS, plays


def options() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--messages", type=int, default=10_000, help="at least, for each seed")
    parser.add_argument("--parameters", type=int, default=0, help="of a real network, like 1000000")
    parser.add_argument("--short", action="store_true", help="short leases and outages")
    parser.add_argument("--alone", action="store_true", help="without the others")
    parser.add_argument("--only", nargs="+", choices=(*OURS, *KINDS), help="these contestants")
    parser.add_argument("--at-once", type=int, default=1, help="plays side by side")
    parser.add_argument("--keep", type=Path, help="keep the servers' data and all logs here")
    parser.add_argument("--json", type=Path, help="write the accounts into this file")
    parser.add_argument("--tables", type=Path, nargs="+", help="print what earlier plays wrote")
    return parser.parse_args()


def main() -> None:
    """Plays every seed, prints the tables, and fails where anything was lost or doubled."""
    asked = options()
    if asked.tables:
        print(report.tables(*report.read(asked.tables)))
        return
    times = SHORT if asked.short else Times()
    accounts = []
    try:
        for account in plays(asked, times):
            print(report.line(account), file=sys.stderr)
            accounts.append(account)
    finally:  # what was played counts, also if a play failed
        if asked.json:
            report.write(asked.json, accounts, times)
    print(report.tables(accounts, times))
    if not all(report.exact(each) for each in accounts if each.contestant not in KINDS):
        sys.exit("something was lost or doubled, or did not end as it should")


if __name__ == "__main__":
    main()
