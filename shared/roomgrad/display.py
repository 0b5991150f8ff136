"""What may be shown in a line among other texts: names of people and of clients, and numbers.

`str.isprintable` is too strict for names: it refuses the joiners that Persian, Hindi and emoji are
written with, the no-break space, and letters that are newer than this Python.
"""

from __future__ import annotations

import math
import unicodedata

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


def number(value: float | None) -> float:
    """Return a recorded number; NaN for null, as which other programs write it."""
    return math.nan if value is None else float(value)


def format_number(value: float) -> str:
    """Return a number with two decimal places; in words if it is none, or infinite."""
    if math.isnan(value):
        return "not a number"
    return f"{value:,.2f}" if math.isfinite(value) else f"{'minus ' * (value < 0)}infinity"
