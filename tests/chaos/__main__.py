"""Breaks roomgrad on purpose, counts what is lost and doubled, and prints it as tables.

python -m tests.chaos [--seeds 1] [--first 1] [--messages 10000] [--parameters 0] [--short]
    [--alone] [--only NAME ...] [--at-once 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.chaos import report
from tests.chaos.account import Account
from tests.chaos.contest import contest
from tests.chaos.contract import CHAIN
from tests.chaos.environment import SHORT, RealModel, Times
from tests.chaos.faults import FAULTS
from tests.chaos.graph import GRAPH
from tests.chaos.graph_faults import GRAPH_FAULTS
from tests.chaos.model_faults import MODEL_FAULTS
from tests.chaos.play import learn, learn_under_sentinel, play, side_by_side, turn_over
from tests.chaos.rivals import KINDS

ROUNDS = 3  # failovers of a play
OURS = ("roomgrad", "sentinel", "graph", "graph, sentinel")
MODEL = ("model", "model, sentinel")


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


def of_seed(asked: argparse.Namespace) -> tuple[str, ...]:
    """The plays of one seed: roomgrad under every fault and Sentinel, a graph, and the others."""
    if asked.parameters:
        return MODEL
    return tuple(asked.only or ()) or (OURS if asked.alone else (*OURS, *KINDS))


def played(asked: argparse.Namespace, times: Times, seed: int, kind: str) -> Account:
    """One play.

    A network of some parameters is under the faults of models too: two seeds of four store
    snapshots in files, and one of two has two numbers under way.
    """
    few = asked.messages // 4
    with kept(asked.keep, seed, kind) as directory:
        if kind in KINDS:
            return contest(kind, seed, asked.messages, times, directory)
        if kind in MODEL:
            in_files, window = seed % 4 in (1, 2), 1 + seed % 2
            model = RealModel(asked.parameters, directory, in_files, window)
            if kind == "model":
                return learn(model, seed, asked.messages, times, {**FAULTS, **MODEL_FAULTS})
            return learn_under_sentinel(model, seed, few, times, ROUNDS)
        if kind == "roomgrad":
            return play(seed, asked.messages, times, directory)
        if kind == "graph":
            return play(seed, asked.messages, times, directory, GRAPH, GRAPH_FAULTS)
        return turn_over(seed, few, times, directory, CHAIN if kind == "sentinel" else GRAPH)


def plays(asked: argparse.Namespace, times: Times) -> Iterator[Account]:
    """All plays, some of them side by side: each in a process, since its proxy needs one."""
    kinds = of_seed(asked)
    seeds = [n for n in range(asked.first, asked.first + asked.seeds) for _ in kinds]
    with side_by_side(asked.at_once) as pool:
        yield from pool.map(partial(played, asked, times), seeds, kinds * asked.seeds)


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
