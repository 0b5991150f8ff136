"""Arrays of messages as tensors: taken with their dtype and values, or refused with a sentence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from roomgrad.errors import SchemaError
from roomgrad.learning.tensors import drawing, to_array, to_tensor
from roomgrad.models import forward_seed

CPU = torch.device("cpu")
ROWS = np.arange(12).reshape(3, 4)
DTYPES = ["<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "|i1", "|u1", "|b1"]


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_comes_back_with_its_dtype(dtype: str) -> None:
    array = ROWS.astype(dtype)
    back = to_array(to_tensor("X", array, CPU))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_bfloat16_comes_back() -> None:
    import ml_dtypes

    array = ROWS.astype(ml_dtypes.bfloat16)
    for each in (array, array.T, array[:, ::2]):
        tensor = to_tensor("X", each, CPU)
        assert tensor.dtype == torch.bfloat16
        np.testing.assert_array_equal(to_array(tensor), each)


@pytest.mark.parametrize(
    "array",
    [
        ROWS[:, ::2],
        ROWS[::-1],
        ROWS.T,
        np.asfortranarray(ROWS),
        read_only(ROWS.copy()),
        np.broadcast_to(ROWS[:1], (3, 4)),
        np.frombuffer(b"\0" + ROWS.tobytes(), ROWS.dtype, offset=1),
    ],
)
def test_no_array_is_misread(array: Any) -> None:
    """Neither strides nor addresses count; the tensor is a contiguous copy."""
    tensor = to_tensor("X", array, CPU)
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert tensor.is_contiguous()
    tensor.zero_()
    assert array.any()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.float32(1).reshape(()), r"X: expected a batch of at least one row, .* got shape \(\)"),
        (np.zeros((0, 2), "<f4"), r"got shape \(0, 2\)"),
        (
            ROWS.astype(">f4"),
            "X: expected little-endian numbers of a dtype that torch has, got >f4",
        ),
        (np.array(["text"]), "got <U4"),
        (np.array([{}]), "got object"),
    ],
)
def test_an_array_that_is_no_batch_of_numbers_is_refused(array: Any, text: str) -> None:
    with pytest.raises(SchemaError, match=text):
        to_tensor("X", array, CPU)


def test_generators_go_on_after_a_forward_pass() -> None:
    """What is drawn within depends on the seed alone, and nothing outside on it."""
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    found = [torch.rand(1)]
    drawn = []
    for _ in range(2):
        with drawing(5, CPU):
            drawn.append(torch.rand(3))
    found.append(torch.rand(1))
    assert torch.equal(torch.cat(found), expected)
    torch.manual_seed(5)
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], torch.rand(3))


def test_the_seed_of_a_forward_pass_never_changes() -> None:
    """A function of run seed, component and key; runs that go on depend on its values."""
    assert forward_seed(0, "model", 0) == 3722007867194410669
    assert forward_seed(0, "model", "0") == forward_seed(0, "model", 0)
    others = {forward_seed(1, "model", 0), forward_seed(0, "net", 0), forward_seed(0, "model", 1)}
    assert len(others | {forward_seed(0, "model", 0)}) == 4
    assert all(0 <= each < 2**63 for each in others)


def test_threads_draw_as_if_each_were_alone() -> None:
    """Torch has one generator for all members of an ensemble in a process."""

    def drawn(seed: int) -> list[float]:
        found = []
        for _ in range(200):
            with drawing(seed, CPU):
                found += [torch.rand(1).item() for _ in range(5)]
        return found

    seeds = range(4)
    with ThreadPoolExecutor(len(seeds)) as pool:
        together = list(pool.map(drawn, seeds))
    assert together == [drawn(seed) for seed in seeds]
