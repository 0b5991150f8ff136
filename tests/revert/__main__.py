"""Take each guard away in a copy of the tree, and see its test fail.

python -m tests.revert [NAME...]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

from tests.revert.copies import TEST_LIMIT_S, Copy, Outcome, Run, copies
from tests.revert.guards import Guard, load

ALL_LIMIT_S = 900


def main(words: list[str] | None = None) -> int:
    """Return 1 if the loss of a guard is not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.revert", description=__doc__)
    parser.add_argument("names", nargs="*", help="the beginnings of names (default: all guards)")
    parser.add_argument("--jobs", type=int, default=2, help="copies of the tree (default: 2)")
    options = parser.parse_args(words)
    names = tuple(options.names) or ("",)
    guards = [each for each in load() if each.name.startswith(names)]
    began = time.monotonic()
    for each in guards:
        each.removed()
    with copies(options.jobs) as places:
        if not _all_pass(places, guards):
            return 1
        missed = [guard for guard, outcome in _tried(places, guards) if not outcome.noticed]
    minutes = (time.monotonic() - began) / 60
    print(f"{len(guards)} guards, {len(missed)} without a test that fails, {minutes:.1f} minutes")
    for guard in missed:
        print(f"  {guard.name}")
    return int(bool(missed))


def _all_pass(places: Sequence[Copy], guards: Sequence[Guard]) -> bool:
    """Return whether all tests pass with all guards in place."""
    tests = sorted({test for guard in guards for test in guard.tests})
    size = -(-len(tests) // len(places))
    parts = [tests[at : at + size] for at in range(0, len(tests), size)]
    runs = [place.start(part, ALL_LIMIT_S) for place, part in zip(places, parts, strict=False)]
    outcomes = [_ended(run) for run in runs]
    for each in outcomes:
        if not each.passed:
            print(each.text, "\nnot all tests pass with all guards in place")
    return all(each.passed for each in outcomes)


def _ended(run: Run) -> Outcome:
    while (outcome := run.outcome()) is None:
        time.sleep(0.01)
    return outcome


def _tried(places: Sequence[Copy], guards: Sequence[Guard]) -> Iterator[tuple[Guard, Outcome]]:
    """Yield each guard with what its tests say without it; one runs in each copy at a time."""
    left, free = [*guards], [*places]
    running: list[tuple[Guard, Copy, str, Run]] = []
    while left or running:
        while left and free:
            guard, place = left.pop(0), free.pop()
            before = place.write(guard.file, guard.removed(place.root))
            run = place.start(guard.tests, 3 * TEST_LIMIT_S)
            running.append((guard, place, before, run))
        for each in [*running]:
            guard, place, before, run = each
            if (outcome := run.outcome()) is not None:
                running.remove(each)
                place.write(guard.file, before)
                free.append(place)
                _print(guard, outcome, time.monotonic() - run.began)
                yield guard, outcome
        time.sleep(0.01)


def _print(guard: Guard, outcome: Outcome, seconds: float) -> None:
    found = outcome.noticed or ("NOTHING NOTICED" if outcome.passed else "CANNOT RUN")
    print(f"{seconds:5.1f} s  {found:15} {guard.name}", flush=True)
    if not outcome.noticed and not outcome.passed:
        print(outcome.text)


if __name__ == "__main__":
    sys.exit(main())
