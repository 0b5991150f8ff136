"""The object that FILE:OBJECT names."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from roomgrad.errors import SettingsError
from roomgrad.local.plan import hint


def load_object(reference: str) -> Any:
    """Return the object that FILE:OBJECT names. Raises SettingsError if there is none."""
    file, colon, name = reference.rpartition(":")
    if not (colon and file and name):
        raise SettingsError(f"{reference}: expected FILE:OBJECT, like aim.py:net")
    path = Path(file)
    if not path.is_file():
        raise SettingsError(f"{reference}: there is no file {path.absolute()}")
    module = _executed(path.resolve())
    if not hasattr(module, name):
        raise SettingsError(f"{reference}: {file} has no {name!r}, {hint(name, _known(module))}")
    return getattr(module, name)


@cache
def _executed(path: Path) -> ModuleType:
    """Return the module of a file, which may import its neighbors. Raises SettingsError."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{path} is no Python file: expected one that ends with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # where dataclasses and pickle look for it
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SettingsError(f"{_place(path, error)}: {type(error).__name__}: {error}") from error
    return module


def _place(path: Path, error: Exception) -> str:
    """Return the file, with its last line on the way to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [each.lineno for each in frames if each.filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _known(module: ModuleType) -> list[str]:
    """Return the names of what a file itself defines and could be served."""
    return [
        name
        for name, each in vars(module).items()
        if not name.startswith("_") and callable(each) and _is_own(module, each)
    ]


def _is_own(module: ModuleType, value: Any) -> bool:
    imported = inspect.isclass(value) or inspect.isroutine(value)
    return not imported or value.__module__ == module.__name__
