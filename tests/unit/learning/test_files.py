"""A state as a safetensors file: every dtype, any shape, and JSON beside the tensors."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save

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
    """By this package and by the library."""
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    stored = bytes(TensorFile().write({"x": tensor}, {}))
    for found in (read(stored)[0], load_tensors(stored), read(save({"x": tensor}))[0]):
        assert found["x"].dtype == dtype
        assert torch.equal(found["x"], tensor)


def test_any_shape_is_read_whoever_wrote_it() -> None:
    """In the order of the file: sums over tensors have the same bits then in each process."""
    stored = bytes(TensorFile().write(ODD, {}))
    orders = {tuple(read(stored)[0]) for _ in range(5)}
    assert len(orders) == 1
    whole = {name: each.contiguous() for name, each in ODD.items()}
    for found in (read(stored)[0], load_tensors(stored), read(save(whole))[0]):
        assert found.keys() == ODD.keys()
        assert all(torch.equal(found[name], ODD[name]) for name in ODD)


def test_json_is_beside_the_tensors() -> None:
    """One buffer serves for each call, also for a smaller file."""
    file = TensorFile()
    for number in range(3):
        about = {"n": number, "text": 'ä"'}
        assert read(file.write(ODD, about))[1] == about
    found, about = read(file.write({"of three bytes": torch.zeros(2)}, {}))
    assert list(found) == ["of three bytes"]
    assert about == {}


def test_a_file_may_hold_no_tensors() -> None:
    assert read(TensorFile().write({}, {"count": 1})) == ({}, {"count": 1})


@pytest.mark.parametrize("stored", [b"", b"12345678", b"\xff" * 20, b"\2\0\0\0\0\0\0\0[]"])
def test_what_is_no_file_is_an_error(stored: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(stored)
