"""A torch function: its vector-Jacobian product is found by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from roomgrad.errors import SettingsError, format_value
from roomgrad.learning.tensors import drawing, tensor_of, to_array
from roomgrad.serving.functions import Array, Seeded

CPU = torch.device("cpu")


class TorchFunction:
    """A function of tensors of the dtype on the wire; torch draws from the seed of the message."""

    kind, precise = "a torch function", False

    def __init__(self, function: Callable[..., Any]) -> None:
        self.calls = 0
        self._function = Seeded(function)

    def __call__(self, x: Array, seed: int) -> Array:
        """Return the outputs, without a graph."""
        with torch.no_grad():
            return to_array(self._outputs(tensor_of("DATA", x, CPU), seed))

    def vjp(self, x: Array, upstream: Array, seed: int) -> Array:
        """Return the gradient of x; zeros if the outputs do not depend on it."""
        leaf = tensor_of("DATA", x, CPU).requires_grad_()
        outputs = self._outputs(leaf.clone(), seed)  # the function may change it in place
        given = tensor_of("DATA", upstream, CPU).to(outputs.dtype)
        found = torch.autograd.grad(outputs, leaf, given, allow_unused=True)[0]
        return to_array(torch.zeros_like(leaf) if found is None else found)

    def _outputs(self, x: Tensor, seed: int) -> Tensor:
        with drawing(seed, CPU):
            found = self._function(x, seed=seed)
        if not isinstance(found, Tensor):
            raise TypeError(f"it returned {format_value(found)}, expected a tensor (batch, ...)")
        return found


def network_function(name: str, network: nn.Module, rows: Array) -> tuple[TorchFunction, Array]:
    """Return a network in evaluation mode as a function, and its outputs for some rows.

    Raises SettingsError if it cannot be called with them.
    """
    function = TorchFunction(network.eval())
    function.kind = "a network that learns"
    try:
        return function, function(rows, 0)
    except Exception as error:
        raise SettingsError(
            f"{name} cannot be called with rows of shape {rows.shape}: "
            f"{type(error).__name__}: {error}"
        ) from error
