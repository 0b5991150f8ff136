"""What may be shown in a line among other texts: names of people and of clients, numbers, objects.

`str.isprintable` is too strict for names: it refuses the joiners that Persian, Hindi and emoji are
written with, the no-break space, and letters that are newer than this Python.
"""

from __future__ import annotations

import math
import reprlib
import unicodedata
from dataclasses import MISSING, Field, fields
from typing import Any

# Controls move the cursor or begin an escape sequence, separators begin a line, and half of a
# surrogate pair cannot be encoded.
_DANGEROUS = frozenset({"Cc", "Zl", "Zp", "Cs"})

# Embeddings, overrides and isolates reorder the text around them, so that it reads as another text.
# The marks U+200E, U+200F and U+061C do not: they have no effect beyond their neighbors.
_REORDER = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_safe(character: str) -> bool:
    """Return whether a character leaves the line around it, and the terminal, as they are."""
    return unicodedata.category(character) not in _DANGEROUS and character not in _REORDER


def printable(text: str) -> str:
    """Return a text with what would control a terminal escaped, as in a Python literal."""
    if text.isprintable():
        return text
    return "".join(each if is_safe(each) else repr(each)[1:-1] for each in text)


def is_displayable(text: str) -> bool:
    """Return whether a text is safe to show in a line, and something of it can be seen."""
    seen = any(unicodedata.category(each) not in ("Cf", "Zs") for each in text)
    return seen and all(map(is_safe, text))


def one_spelling(name: str) -> str:
    """Return a name as it is stored: composed, and with plain spaces, none of them at its ends.

    Marks of direction at the ends are left out too; they come from copying, and cannot be seen.
    """
    spaced = "".join(" " if unicodedata.category(each) == "Zs" else each for each in name)
    return unicodedata.normalize("NFC", spaced).strip(" \t\r\n\u200e\u200f\u061c\ufeff")


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


def number(value: float | None) -> float:
    """Return a recorded number; NaN for null, as which other programs write it."""
    return math.nan if value is None else float(value)


def format_number(value: float) -> str:
    """Return a number with two decimal places; in words if it is none, or infinite."""
    if math.isnan(value):
        return "not a number"
    return f"{value:,.2f}" if math.isfinite(value) else f"{'minus ' * (value < 0)}infinity"
