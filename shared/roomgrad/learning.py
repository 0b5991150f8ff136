"""A torch network as a model in Redis. The only module of roomgrad that needs torch."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from roomgrad.errors import MessageError
from roomgrad.models import ModelState

GRAPHS_KEPT = 64  # forward graphs that wait for their gradient in this process; more are recomputed

Gradient = tuple[Tensor, ...]


def fix_threads(threads: int) -> None:
    """Let torch use so many CPU threads; 0 leaves it alone.

    One thread makes results repeat bit for bit on one machine type. MKL chooses its code path by
    the alignment of the data unless MKL_CBWR is set, which must happen before its first use.
    """
    if threads:
        os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
        torch.set_num_threads(threads)


class TorchModel:
    """A network and its optimizer as `Trainable`.

    network: `(batch, n)` float32 in, `(batch, m)` float32 out.
    optimizer: makes a torch optimizer of the parameters (Adam and its like: state per parameter).
    learning_rate: the rate of the step with this number, from 0.
    max_grad_norm: the norm to which the parameter gradient is clipped; None for no clipping.

    Two sets of parameters: those of the optimizer, and leaf copies in the network that graphs
    refer to. A step makes new copies, so that the graph of an earlier forward stays what it was.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        learning_rate: Callable[[int], float],
        max_grad_norm: float | None = None,
    ) -> None:
        self.network = network
        self._learning_rate = learning_rate
        self._max_grad_norm = max_grad_norm
        self._names = [name for name, _ in network.named_parameters()]
        self._owners = [_owner(network, name) for name in self._names]
        self._masters = [nn.Parameter(p.detach().clone()) for p in network.parameters()]
        self._optimizer = optimizer(self._masters)
        self._step = 0
        self._weights_file = TensorFile()
        self._state_file = TensorFile()
        self._graphs: OrderedDict[str, tuple[str, Tensor, Tensor, list[Tensor]]] = OrderedDict()
        self._share()

    # Trainable

    def initial(self) -> tuple[bytes, bytes]:
        """Return weights and optimizer state of a model that has not learned yet."""
        return self._dump()

    def load(self, state: ModelState) -> None:
        """Load weights, optimizer state and step."""
        self._load_weights(self._masters, state.weights)
        self._load_optimizer(load_tensors(state.optimizer) if state.optimizer else {})
        self._step = state.step
        self._share()

    def forward(self, inputs: NDArray[Any], version: str, key: str | None) -> NDArray[np.float32]:
        """Map `(batch, n)` to `(batch, m)` float32. With a key the graph is kept for `backward`."""
        if key is None:
            with torch.no_grad():
                found: Tensor = self.network(_leaf(inputs))
            return found.numpy()
        x = _leaf(inputs)
        y: Tensor = self.network(x)
        self._graphs[key] = (version, x, y, list(self.network.parameters()))
        if len(self._graphs) > GRAPHS_KEPT:
            self._graphs.popitem(last=False)
        return y.detach().numpy()

    def backward(
        self, key: str, version: str, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[Gradient, NDArray[np.float32]] | None:
        """Return vector-Jacobian products by the graph that `forward` kept, or None without one."""
        found = self._graphs.pop(key, None)
        if found is None or found[0] != version:
            return None
        _, x, y, parameters = found
        return _products(x, y, parameters, upstream)

    def recompute(
        self, weights: bytes, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[Gradient, NDArray[np.float32]]:
        """Return the same products at given weights, by a forward pass of its own."""
        parameters = [torch.empty_like(master) for master in self._masters]
        self._load_weights(parameters, weights)
        named = {n: p.requires_grad_() for n, p in zip(self._names, parameters, strict=True)}
        x = _leaf(inputs)
        y = torch.func.functional_call(self.network, named, (x,))
        return _products(x, y, parameters, upstream)

    def step(self, gradient: Gradient, staleness: int = 0) -> tuple[bytes, bytes]:
        """Take one optimizer step; return the new weights and optimizer state.

        A gradient that is `staleness` steps old counts less: the learning rate is divided by the
        root of 1 + staleness. (Zhang, Gupta, Lian, Liu: Staleness-aware Async-SGD for Distributed
        Deep Learning, IJCAI 2016, divide by the staleness; the trebuchet learns more with the
        root.)

        Raises MessageError for a gradient that is not finite, after which the model could never
        learn.
        """
        for master, part in zip(self._masters, gradient, strict=True):
            master.grad = part.clone()  # clipped in place, while a stale commit may need it again
        norm = nn.utils.get_total_norm([m.grad for m in self._masters if m.grad is not None])
        if not math.isfinite(norm):
            raise MessageError(f"the parameter gradient has the norm {float(norm)}: not learned")
        if self._max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self._masters, self._max_grad_norm, norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate(self._step) / math.sqrt(1 + staleness)
        self._optimizer.step()
        self._step += 1
        self._share()
        return self._dump()

    # tensors

    def _share(self) -> None:
        """Give the network fresh leaf copies of the optimizer's parameters."""
        for (owner, attribute), master in zip(self._owners, self._masters, strict=True):
            owner._parameters[attribute] = nn.Parameter(master.detach().clone())

    def _dump(self) -> tuple[bytes, bytes]:
        weights = {n: m.detach() for n, m in zip(self._names, self._masters, strict=True)}
        state = {
            f"{name}.{key}": value
            for name, master in zip(self._names, self._masters, strict=True)
            for key, value in self._optimizer.state.get(master, {}).items()
            if isinstance(value, Tensor)
        }
        return self._weights_file.bytes_of(weights), self._state_file.bytes_of(state)

    def _load_weights(self, parameters: list[Any], weights: bytes) -> None:
        found = load_tensors(weights)
        with torch.no_grad():
            for name, parameter in zip(self._names, parameters, strict=True):
                parameter.copy_(found[name])

    def _load_optimizer(self, found: dict[str, Tensor]) -> None:
        self._optimizer.state.clear()
        for name, master in zip(self._names, self._masters, strict=True):
            prefix = name + "."
            state = {k[len(prefix) :]: v.clone() for k, v in found.items() if k.startswith(prefix)}
            if state:
                self._optimizer.state[master] = state


class TensorFile:
    """float32 tensors as safetensors bytes (huggingface.co/docs/safetensors, section Format).

    The library writes a header per call and takes 0.4 ms for a small network with Adam; here the
    header of the last call serves while names and shapes stay, which leaves 0.03 ms. It reads them.
    """

    def __init__(self) -> None:
        self._layout: list[tuple[str, torch.Size]] = []
        self._header = b""

    def bytes_of(self, tensors: dict[str, Tensor]) -> bytes:
        """Return the file of these tensors, or nothing if there are none."""
        if not tensors:
            return b""
        layout = [(name, tensor.shape) for name, tensor in tensors.items()]
        if layout != self._layout:
            self._layout, self._header = layout, _header(layout)
        return b"".join((self._header, *[tensor.numpy().tobytes() for tensor in tensors.values()]))


def _header(layout: list[tuple[str, torch.Size]]) -> bytes:
    entries: dict[str, Any] = {}
    at = 0
    for name, shape in layout:
        end = at + 4 * math.prod(shape)
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = orjson.dumps(entries)
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def _owner(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return network.get_submodule(path), attribute


def _leaf(inputs: NDArray[Any]) -> Tensor:
    """Copy into torch's own memory: its alignment, and so the bits of the result, are the same."""
    return torch.tensor(inputs, dtype=torch.float32, requires_grad=True)


def _products(
    x: Tensor, y: Tensor, parameters: list[Tensor], upstream: NDArray[Any]
) -> tuple[Gradient, NDArray[np.float32]]:
    grad = torch.tensor(upstream, dtype=torch.float32)
    of_x, *of_parameters = torch.autograd.grad(y, [x, *parameters], grad)
    return tuple(of_parameters), of_x.numpy()
