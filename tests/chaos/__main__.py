"""Breaks roomgrad on purpose, counts what is lost and doubled, and prints it as tables.

python -m tests.chaos [--seeds 1] [--first 1] [--messages 10000] [--parameters 0] [--short]
    [--alone] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.chaos import report
from tests.chaos.account import Account
from tests.chaos.contest import contest
from tests.chaos.environment import SHORT, RealModel, Times
from tests.chaos.faults import FAULTS
from tests.chaos.graph import GRAPH
from tests.chaos.graph_faults import GRAPH_FAULTS
from tests.chaos.model_faults import MODEL_FAULTS
from tests.chaos.play import learn, learn_under_sentinel, play, turn_over
from tests.chaos.rivals import KINDS

ROUNDS = 3  # failovers of a play


@contextlib.contextmanager
def kept(keep: Path | None, seed: int, kind: str) -> Iterator[Path]:
    """A directory for one play: one that stays, or one that is gone afterwards."""
    if keep is not None:
        directory = keep / f"{kind.replace('/', '-')} {seed}"
        directory.mkdir(parents=True)
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        yield Path(name)


def plays(asked: argparse.Namespace, times: Times) -> Iterator[Account]:
    """Each seed: roomgrad under every fault and under Sentinel, a graph likewise, and the others.

    With parameters it is a network of so many, under the faults of models too: two seeds of four
    store snapshots in files, and one of two has two numbers under way.
    """
    for seed in range(asked.first, asked.first + asked.seeds):
        if asked.parameters:
            in_files, window = seed % 4 in (1, 2), 1 + seed % 2
            with kept(asked.keep, seed, "model") as directory:
                model = RealModel(asked.parameters, directory, in_files, window)
                yield learn(model, seed, asked.messages, times, {**FAULTS, **MODEL_FAULTS})
            with kept(asked.keep, seed, "model, sentinel") as directory:
                model = RealModel(asked.parameters, directory, in_files, window)
                yield learn_under_sentinel(model, seed, asked.messages // 4, times, ROUNDS)
            continue
        with kept(asked.keep, seed, "roomgrad") as directory:
            yield play(seed, asked.messages, times, directory)
        with kept(asked.keep, seed, "sentinel") as directory:
            yield turn_over(seed, asked.messages // 4, times, directory)
        with kept(asked.keep, seed, "graph") as directory:
            yield play(seed, asked.messages, times, directory, GRAPH, GRAPH_FAULTS)
        with kept(asked.keep, seed, "graph, sentinel") as directory:
            yield turn_over(seed, asked.messages // 4, times, directory, GRAPH)
        for kind in () if asked.alone else KINDS:
            with kept(asked.keep, seed, kind) as directory:
                yield contest(kind, seed, asked.messages, times, directory)


def options() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--messages", type=int, default=10_000, help="at least, for each seed")
    parser.add_argument("--parameters", type=int, default=0, help="of a real network, like 1000000")
    parser.add_argument("--short", action="store_true", help="short leases and outages")
    parser.add_argument("--alone", action="store_true", help="without the others")
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
    for account in plays(asked, times):
        print(report.line(account), file=sys.stderr)
        accounts.append(account)
    if asked.json:
        report.write(asked.json, accounts, times)
    print(report.tables(accounts, times))
    if not all(report.exact(each) for each in accounts if each.contestant not in KINDS):
        sys.exit("something was lost or doubled, or did not end as it should")


if __name__ == "__main__":
    main()
