"""Which plays there are of a seed, and all plays of some seeds, some of them side by side."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.chaos.account import Account
from tests.chaos.contest import contest
from tests.chaos.contract import CHAIN
from tests.chaos.environment import RealModel, Times
from tests.chaos.faults import FAULTS
from tests.chaos.graph import GRAPH
from tests.chaos.graph_faults import GRAPH_FAULTS
from tests.chaos.model_faults import MODEL_FAULTS
from tests.chaos.play import learn, learn_under_sentinel, play, turn_over
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
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.at_once, mp_context=spawning) as pool:
        yield from pool.map(partial(played, asked, times), seeds, kinds * asked.seeds)
