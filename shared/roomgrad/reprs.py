"""Short reprs of dataclasses that hold arrays or weights."""

from __future__ import annotations

import reprlib
from dataclasses import MISSING, Field, fields
from typing import Any


class _Short(reprlib.Repr):
    """Arrays by dtype and shape, bytes by their number."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 5, 4, 4, 8
        self.maxstring, self.maxother = 80, 400  # an object in it may be one of ours, short itself

    def repr_ndarray(self, array: Any, level: int) -> str:
        return f"<{array.dtype} {array.shape}>"

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value) if len(value) <= self.maxstring else f"<{len(value)} bytes>"


_SHORT = _Short()


def short_repr(instance: Any) -> str:
    """Return the repr of a dataclass with large values: those that are not the defaults, shortened.

    Assign it to `__repr__` of a `@dataclass(repr=False)`.
    """
    shown = [each for each in fields(instance) if not _is_default(instance, each)]
    texts = [f"{each.name}={_SHORT.repr(getattr(instance, each.name))}" for each in shown]
    return f"{type(instance).__name__}({', '.join(texts)})"


def _is_default(instance: Any, field: Field[Any]) -> bool:
    value = getattr(instance, field.name)
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    return value is field.default
