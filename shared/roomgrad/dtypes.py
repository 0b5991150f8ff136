"""The dtypes of arrays that travel: numpy's own, and bfloat16, which ml_dtypes adds to numpy."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

Dtype = np.dtype[Any]

BFLOAT16 = "bfloat16"
NAMES = ("<f4", "<f8", "<f2", BFLOAT16, "<i8", "<i4", "<i2", "|i1", "|u1", "|b1")
"""Those of a message or record, by their names on the wire."""


@cache
def from_name(name: str) -> Dtype:
    """Return the dtype of a name. Raises TypeError for one that numpy does not know."""
    if name != BFLOAT16:
        return np.dtype(name)
    import ml_dtypes  # takes 20 ms, which systems without bfloat16 save

    bfloat16: Dtype = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def name_of(dtype: Dtype) -> str:
    """Return the name of a dtype on the wire; numpy's for one that does not travel."""
    return BFLOAT16 if is_bfloat16(dtype) else dtype.str


def kind_of(dtype: Dtype) -> str:
    """Return numpy's letter for the kind of a dtype: f, i, u, b; f for bfloat16, too."""
    return "f" if is_bfloat16(dtype) else dtype.kind


def is_number(dtype: Dtype) -> bool:
    """Whether Python has its values as int, float or bool, without loss."""
    return kind_of(dtype) in "fiub" and dtype.itemsize <= 8


def is_masked(array: np.ndarray[Any, Any]) -> bool:
    """Whether an array has a mask, which neither bytes nor numbers would tell."""
    return type(array) is not np.ndarray and isinstance(array, np.ma.MaskedArray)


def is_bfloat16(dtype: Dtype) -> bool:
    """Whether a dtype is that of ml_dtypes."""
    return dtype.kind == "V" and dtype == from_name(BFLOAT16)  # kind V: numpy's dtypes are others
