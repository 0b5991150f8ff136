"""The guards: what each promise rests on in the code, and the test that fails without it.

The files `*.toml` of this folder hold them. The text `old` occurs exactly once in its file; the
patch that takes the guard away replaces it by `new`.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Guard:
    """A guard, check, write or order, and what takes it away."""

    name: str
    promise: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    without: str

    def removed(self, root: Path = ROOT) -> str:
        """Return the text of its file without the guard. Raises ValueError if that has changed."""
        text = (root / self.file).read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.name}: its old text occurs {count} times in {self.file}, expected once; "
                f"renew the entry: {self.old!r}"
            )
        return text.replace(self.old, self.new)


def load() -> list[Guard]:
    """Return all guards in the order of their files. Raises ValueError if two have one name."""
    found = [each for path in sorted(Path(__file__).parent.glob("*.toml")) for each in _read(path)]
    names = Counter(each.name for each in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"guards of one name: {', '.join(twice)}")
    return found


def _read(path: Path) -> list[Guard]:
    with path.open("rb") as file:
        content = tomllib.load(file)
    return [
        Guard(
            **{
                "promise": section["promise"],
                "file": section["file"],
                **each,
                "tests": tuple(each["tests"]),
            }
        )
        for section in content["section"]
        for each in section["guard"]
    ]
