"""Take each guard away in a copy of the tree, and see its test fail.

python -m tests.revert [NAME...]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from tests.revert.copies import Copy, Outcome, Run, copies
from tests.revert.guards import Guard, load

ALL_LIMIT_S = 900
TEST_LIMIT_S = 60  # of a test that passes
# Without its guard a test gets so long, and so many times what it has taken with it: most of those
# that end here wait for what never comes.
LEAST_LIMIT_S, TIMES = 8.0, 4
END_S = 20.0  # for the start and the end of a run


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
        if (seconds := _all_pass(places, guards)) is None:
            return 1
        tried = _tried(places, guards, seconds)
        missed = [guard for guard, outcome in tried if not outcome.noticed]
    minutes = (time.monotonic() - began) / 60
    print(f"{len(guards)} guards, {len(missed)} without a test that fails, {minutes:.1f} minutes")
    for guard in missed:
        print(f"  {guard.name}")
    return int(bool(missed))


def _all_pass(places: Sequence[Copy], guards: Sequence[Guard]) -> dict[str, float] | None:
    """Return how long each test takes with all guards in place, or None if one fails."""
    tests = sorted({test for guard in guards for test in guard.tests})
    parts = [tests[at :: len(places)] for at in range(len(places))]
    runs = [
        place.start(part, TEST_LIMIT_S, ALL_LIMIT_S)
        for place, part in zip(places, parts, strict=True)
        if part
    ]
    outcomes = [_ended(run) for run in runs]
    for each in outcomes:
        if not each.passed:
            print(each.text, "\nnot all tests pass with all guards in place")
    seconds = {test: took for each in outcomes for test, took in each.seconds.items()}
    return seconds if all(each.passed for each in outcomes) else None


def _ended(run: Run) -> Outcome:
    while (outcome := run.outcome()) is None:
        time.sleep(0.01)
    return outcome


def _limit_s(guard: Guard, seconds: Mapping[str, float]) -> float:
    """Return the limit of the slowest test of a guard; one without parameters is many tests."""
    took = [some for test, some in seconds.items() if test.startswith(guard.tests)]
    return LEAST_LIMIT_S + TIMES * max(took)


def _tried(
    places: Sequence[Copy], guards: Sequence[Guard], seconds: Mapping[str, float]
) -> Iterator[tuple[Guard, Outcome]]:
    """Yield each guard with what its tests say without it; one runs in each copy at a time."""
    left, free = [*guards], [*places]
    running: list[tuple[Guard, Copy, str, Run]] = []
    while left or running:
        while left and free:
            guard, place = left.pop(0), free.pop()
            before = place.write(guard.file, guard.removed(place.root))
            limit_s = _limit_s(guard, seconds)
            run = place.start(guard.tests, limit_s, limit_s + END_S)
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
