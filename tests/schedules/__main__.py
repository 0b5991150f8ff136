"""Play schedules: every interleaving, death and lost connection is drawn from a seed.

python -m tests.schedules [--schedules 2000] [--first 0] [--processes 1] [--mutation NAME]
python -m tests.schedules --seed N     plays one schedule, and prints each decision
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import time
from collections import Counter
from itertools import cycle, islice

from tests import one_cpu
from tests.schedules.mutations import MUTATIONS
from tests.schedules.schedule import Played, a_server, play, play_all

CHUNK = 500


def options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.schedules", description=__doc__)
    parser.add_argument("--schedules", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, help="play this schedule alone, and print it")
    parser.add_argument("--mutation", choices=[*MUTATIONS], help="leave a part of the protocol out")
    return parser.parse_args()


def play_many(first: int, schedules: int, processes: int) -> tuple[Counter[str], list[Played]]:
    """Play schedules in some processes, each with a server of its own."""
    seeds = range(first, first + schedules)
    chunks = [seeds[at : at + CHUNK] for at in range(0, schedules, CHUNK)]
    counts: Counter[str] = Counter()
    wrong: list[Played] = []
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.SimpleQueue()
    for cpu in islice(cycle(one_cpu.cpus()), processes):
        queue.put(cpu)
    with spawn.Pool(processes, one_cpu.take, (queue,)) as pool:
        for some, found in pool.imap_unordered(play_all, chunks):
            counts += some
            wrong += found
    return counts, wrong


def main() -> int:
    """Run the command; exit with 1 if a schedule went wrong."""
    asked = options()
    mutation = MUTATIONS[asked.mutation]() if asked.mutation else contextlib.nullcontext()
    with mutation:
        if asked.seed is not None:
            with a_server() as server:
                played = play(server, asked.seed)
            print(played)
            return 1 if played.wrong else 0
        began = time.monotonic()
        if asked.processes > 1:
            counts, wrong = play_many(asked.first, asked.schedules, asked.processes)
        else:
            counts, wrong = play_all(range(asked.first, asked.first + asked.schedules))
    seconds = time.monotonic() - began
    print(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())))
    rate = asked.schedules / seconds
    print(f"{asked.schedules:,} schedules in {seconds:.0f} s, {rate:.0f} a second")
    print(f"{len(wrong)} went wrong: {', '.join(str(each.seed) for each in wrong[:20])}")
    if wrong:
        print(wrong[0])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
