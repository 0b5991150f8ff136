"""How good a gradient is: no false alarm, and none that is missed."""

from __future__ import annotations

import numpy as np
import torch

from roomgrad.serving.functions import NumpyFunction
from roomgrad.serving.quality import Noise, Quality, measure
from roomgrad.serving.torch_function import TorchFunction
from tests.integration.serving import objects


def quality(function: TorchFunction | NumpyFunction, width: int) -> Quality:
    rows = np.random.default_rng(0).normal(size=(2, width)).astype("<f4")
    found = measure(function, rows, function(rows, 0), Noise.of(function, rows))
    assert found is not None
    return found


def test_rounding_of_float32_is_no_error() -> None:
    """The derivatives by the second input are a hundredth of those by the first."""
    for seed in range(50):
        torch.manual_seed(seed)
        found = quality(TorchFunction(objects.Pilot().eval()), 2)
        assert found.good, f"seed {seed}: {found}"
        assert found.compared == 4


def test_a_wrong_derivative_is_found() -> None:
    assert quality(NumpyFunction(objects.shoot, objects.shoot_vjp), 3).good
    assert not quality(NumpyFunction(objects.shoot, objects.half_vjp), 3).good


def test_a_function_that_rounds_has_nothing_to_compare_with() -> None:
    found = quality(NumpyFunction(lambda x: np.round(x[:, 0], 1), lambda x, up: 0 * x), 3)
    assert found.error == 0 or not found.compared
