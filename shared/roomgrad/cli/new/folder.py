"""The folder that `roomgrad new` makes."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from roomgrad.errors import SettingsError
from roomgrad.redis.registry import systems

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
# Modules of the folder, and of Python and roomgrad, by which its own tests could not be found.
TAKEN = frozenset({"contract", "learner", "world", "test", "roomgrad", "numpy", *systems()})
FILES = {
    "contract.py": "contract.py",
    "world.py": "world.py",
    "learner.py": "learner.py",
    "test_system.py": "test_{name}.py",
    "system.yaml": "{name}.yaml",
    "README.md": "README.md",
}


def make(name: str) -> None:
    """Write the folder, and say what to do next. Raises SettingsError."""
    if not NAME.fullmatch(name) or name in TAKEN:
        raise SettingsError(
            f"a system cannot be called {name!r}: expected small letters, digits and _, at most "
            f"32, and none of {', '.join(sorted(TAKEN))}"
        )
    target = Path(name)
    try:
        target.mkdir()
        for file, text in contents(name).items():
            (target / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{target.resolve()} cannot be made ({error.strerror}): name another one, or go to "
            f"another folder"
        ) from error
    print(f"{name}/ holds {', '.join(contents(name))}. Next:")
    print(f"  cd {name} && roomgrad up {name}.yaml && roomgrad top --run {name}")


def contents(name: str) -> dict[str, str]:
    """The files of the folder by name."""
    template = files("roomgrad").joinpath("cli/new/template")
    return {
        target.format(name=name): template.joinpath(f"{source}.txt")
        .read_text(encoding="utf-8")
        .replace("{{name}}", name)
        for source, target in FILES.items()
    }
