"""Names of members and of their rooms in tables, where those that are alike are one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from roomgrad.ensembles import MEMBER

T = TypeVar("T")


def family(name: str) -> str:
    """Return what the names of an ensemble's members, or of their rooms, share: `model.*`."""
    found, number = order(name)
    return f"{found}.*" if number >= 0 else found


def order(name: str) -> tuple[str, int]:
    """Return a key to sort names by: `model.2` is before `model.10`."""
    found = MEMBER.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, -1)


def spans(names: Iterable[str]) -> tuple[str, ...]:
    """Return names in their order, those of an ensemble as one: `model.0-6,8`."""
    found: dict[tuple[str, bool], list[int]] = {}
    for name, number in sorted({order(each) for each in names}):
        found.setdefault((name, number >= 0), []).append(number)
    return tuple(
        f"{name}.{_ranges(numbers)}" if is_numbered else name
        for (name, is_numbered), numbers in found.items()
    )


def _ranges(numbers: Sequence[int]) -> str:
    runs = alike(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ends = [dict.fromkeys((run[0][1], run[-1][1])) for run in runs]
    return ",".join("-".join(map(str, each)) for each in ends)


def alike(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Return the items that have the same key together, in the order of the first of each."""
    found: dict[Hashable, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())
