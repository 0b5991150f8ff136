"""Write `docs/keys.md`, the keys of a run, from the functions that make their names.

python -m tests.docs.keys_page
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from roomgrad.names import Names
from tests.docs.pages import ROOT

# What stands for the arguments of the functions.
PLACEHOLDERS = {"room": "ROOM", "type_": "TYPE", "number": "N"}
NOT_KEYS = ("prefix", "everything")

HEAD = """\
# Keys

<!-- Written by `python -m tests.docs.keys_page`; change the docstrings of `roomgrad.names`. -->

Every key, channel, and group of the run `trebuchet`. Its name in braces keeps all keys of a run in
one slot of a cluster. Names with other characters than letters, digits, `_`, `.`, and `-`, or
longer than 64 characters, are percent-encoded.

| name | |
|---|---|
"""


def page() -> str:
    """Return the whole page, in the order of the module."""
    return HEAD + "".join(f"| `{name}` | {about} |\n" for name, about in _names())


def _names() -> list[tuple[str, str]]:
    names = Names("trebuchet")
    made = [name for name in vars(Names) if not name.startswith("_") and name not in NOT_KEYS]
    functions = [getattr(names, name) for name in made if callable(getattr(names, name))]
    return [(_call(each), " ".join((each.__doc__ or "").split())) for each in functions]


def _call(function: Callable[..., str]) -> str:
    """Return the name that a function makes of placeholders."""
    parameters = inspect.signature(function).parameters.values()
    required = [each.name for each in parameters if each.default is each.empty]
    return function(*(PLACEHOLDERS.get(name, name.upper()) for name in required))


if __name__ == "__main__":
    (ROOT / "docs" / "keys.md").write_text(page(), encoding="utf-8")
