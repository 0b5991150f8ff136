"""Write `docs/guards.md`, what each promise rests on, from the entries of `make revert`."""

from __future__ import annotations

from itertools import groupby

from tests.revert.guards import Guard, load

HEAD = """\
# Guards

<!-- Written by `python -m tests.docs` from `tests/revert/*.toml`. -->

What the [guarantees](guarantees.md) rest on: guards, checks, writes, and orders. `make revert`
takes each of them away in a copy of the tree, and requires that its test fails then.
"""
COLUMNS = "| guard | test | without it |\n|---|---|---|\n"


def page() -> str:
    """Return the whole page: promises and files in the order of the entries."""
    promises: dict[str, list[Guard]] = {}
    for guard in load():
        promises.setdefault(guard.promise, []).append(guard)
    return HEAD + "".join(f"\n## {name}\n{_tables(found)}" for name, found in promises.items())


def _tables(guards: list[Guard]) -> str:
    groups = groupby(guards, lambda guard: guard.file)
    return "".join(f"\n`{file}`\n\n{COLUMNS}{''.join(map(_row, found))}" for file, found in groups)


def _row(guard: Guard) -> str:
    tests = ", ".join(f"`{test}`" for test in guard.tests)
    return f"| {guard.name} | {tests} | {guard.without} |\n"
