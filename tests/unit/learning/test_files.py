"""A state as a safetensors file: every dtype, any shape, and JSON beside the tensors."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load as load_tensors

from roomgrad.learning.files import TensorFile, read
from roomgrad.learning.tensors import DTYPES

ODD = {  # sizes that leave the next tensor at any address
    "of three bytes": torch.tensor([True, False, True]),
    "of no dimension": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "z": torch.ones(3, dtype=torch.float64),
    "a": torch.ones(1, dtype=torch.int16),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_read_as_it_was(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    stored = TensorFile().bytes_of({"x": tensor})
    for found in (read(stored)[0], load_tensors(stored)):
        assert found["x"].dtype == dtype
        assert torch.equal(found["x"], tensor)


def test_any_shape_is_read_in_the_order_of_the_file() -> None:
    """Sums over tensors have the same bits then in each process."""
    file = TensorFile()
    for _ in range(5):
        found, about = read(file.bytes_of(ODD))
        assert list(found) == list(ODD)
        assert all(torch.equal(found[name], ODD[name]) for name in ODD)
        assert about == {}


def test_json_is_beside_the_tensors() -> None:
    """The header of the last call serves while names, dtypes and shapes stay."""
    file = TensorFile()
    for number in range(3):
        assert read(file.bytes_of(ODD, {"n": number, "text": 'ä"'}))[1] == {
            "n": number,
            "text": 'ä"',
        }
    other = {"of three bytes": torch.zeros(2)}
    assert list(read(file.bytes_of(other))[0]) == ["of three bytes"]


def test_a_file_may_be_empty() -> None:
    assert read(b"") == ({}, {})
    assert read(TensorFile().bytes_of({})) == ({}, {})
    assert read(TensorFile().bytes_of({}, {"count": 1})) == ({}, {"count": 1})
