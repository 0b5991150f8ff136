"""Start a component of an installed system: `python -m roomgrad.runtime COMPONENT [--flag ...]`."""

from __future__ import annotations

import runpy
import sys
from typing import NoReturn

from roomgrad.systems import installed, words_of


def main(arguments: list[str]) -> None:
    """Run the module of a component as if it had been started itself, with its flags."""
    if not arguments:
        _refuse("usage: python -m roomgrad.runtime COMPONENT [--flag value ...]")
    component, *flags = arguments
    words = words_of(component)
    if not words:
        known = [name for plugin in installed().values() for name in plugin.modules]
        _refuse(f"no installed system has a component {component!r}: there are {', '.join(known)}")
    sys.argv = [*words, *flags]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
