"""Files of weights, read without torch."""

from __future__ import annotations

import json

import numpy as np
import pytest

from roomgrad.dtypes import from_name
from roomgrad.weights import read


@pytest.mark.parametrize("number", [1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("BF16", "bfloat16")],
)
def test_weights_that_are_not_finite_are_found(name: str, dtype: str, number: float) -> None:
    """In every dtype of floats."""
    data = np.array([0, number], from_name(dtype)).tobytes()
    header = {"w": {"dtype": name, "shape": [2], "data_offsets": [0, len(data)]}}
    head = json.dumps(header).encode()
    [tensor] = read(len(head).to_bytes(8, "little") + head + data)
    assert tensor.is_finite == np.isfinite(number)
