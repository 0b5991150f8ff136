"""Parameters and buffers of a network: one copy for each version that a graph still needs.

The optimizer changes the parameters in place. The network computes with leaves that share their
memory, so that a graph does not notice a step that needs none of its values; while a graph is open,
`unshare` moves the parameters to new memory, and the graph keeps the old.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from roomgrad.errors import ModelError, SchemaError
from roomgrad.learning.tensors import DTYPES, same

Home = tuple[nn.Module, str]  # where a network finds a tensor: a module and its attribute


class Weights:
    """The tensors of a network by the names of its `state_dict`, a tied one by its first name."""

    def __init__(self, network: nn.Module) -> None:
        inner: nn.Module = getattr(network, "_orig_mod", network)  # of a network that is compiled
        self.parameters: dict[str, nn.Parameter] = dict(inner.named_parameters())
        self.trainable = {n: p for n, p in self.parameters.items() if p.requires_grad}
        names = {id(p): name for name, p in self.trainable.items()}
        self._homes: list[tuple[Home, str]] = []
        self._buffers: dict[str, list[Home]] = {}
        self._persistent: set[str] = set()
        first: dict[int, str] = {}
        for path, module in inner.named_modules(remove_duplicate=False):
            for attribute, parameter in module._parameters.items():
                if parameter is not None and id(parameter) in names:
                    self._homes.append(((module, attribute), names[id(parameter)]))
            for attribute, buffer in module._buffers.items():
                if buffer is not None:
                    name = first.setdefault(id(buffer), ".".join(filter(None, (path, attribute))))
                    self._buffers.setdefault(name, []).append((module, attribute))
                    if attribute not in module._non_persistent_buffers_set:
                        self._persistent.add(name)
        self._check()
        self.leaves = list(self.trainable.values())

    def _check(self) -> None:
        buffers = {name: self._buffer(name) for name in self._buffers}
        for name, tensor in (self.parameters | buffers).items():
            if is_lazy(tensor):
                raise ModelError(
                    f"{name} has no shape before the first forward pass: give TorchModel an "
                    f"example=, an array or arrays by name as they come in messages"
                )
            if tensor.dtype not in DTYPES or tensor.is_sparse:
                raise ModelError(
                    f"{name} has the dtype {tensor.dtype}, which cannot be stored: expected a "
                    f"dense tensor of {', '.join(str(each) for each in DTYPES)}"
                )

    def tensors(self) -> dict[str, Tensor]:
        """Return all parameters, and the buffers that `state_dict` has, by name."""
        buffers = {name: self._buffer(name) for name in self._buffers if name in self._persistent}
        return {n: p.detach() for n, p in self.parameters.items()} | buffers

    def untrained(self) -> dict[str, Tensor]:
        """Return what an older release did not store: buffers and frozen parameters, by name."""
        return {n: t for n, t in self.tensors().items() if n not in self.trainable}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy values into the parameters and buffers. Raises ModelError for other tensors."""
        own = self.tensors()
        check_same_tensors(own, tensors)
        with torch.no_grad():
            for name, tensor in own.items():
                given = tensors[name].to(tensor.device)
                if not same(tensor, given):  # graphs hold on to frozen parameters
                    tensor.copy_(given)

    # graphs

    def unshare(self) -> None:
        """Move the parameters to memory of their own, since a graph needs the present values."""
        for parameter in self.trainable.values():
            parameter.data = parameter.data.clone()
        self.share()

    def share(self) -> None:
        """Give the network leaves with the parameters' memory, and a version counter of their own.

        So a step in place does not invalidate graphs of which no saved value changes. The optimizer
        is made before: it may take the parameters from the network.
        """
        self.leaves = [nn.Parameter(p.data) for p in self.trainable.values()]
        self._place(self.leaves)

    def _place(self, leaves: Sequence[nn.Parameter]) -> None:
        by_name = dict(zip(self.trainable, leaves, strict=True))
        for (module, attribute), name in self._homes:
            setattr(module, attribute, by_name[name])  # not `_parameters`: an nn.LSTM has a list

    @contextlib.contextmanager
    def at(self, tensors: Mapping[str, Tensor]) -> Iterator[list[nn.Parameter]]:
        """Let the network compute with other values in the block; yield their leaves.

        Raises ModelError for tensors of another network.
        """
        check_same_tensors(self.tensors(), tensors)
        leaves = [nn.Parameter(_copy(tensors[n], p.device)) for n, p in self.trainable.items()]
        buffers = {name: self._buffer(name) for name in self._persistent}
        try:
            self._place(leaves)
            self.set_buffers({name: _copy(tensors[name], b.device) for name, b in buffers.items()})
            yield leaves
        finally:
            self._place(self.leaves)
            self.set_buffers(buffers)

    # buffers

    def _buffer(self, name: str) -> Tensor:
        module, attribute = self._buffers[name][0]
        buffer = module._buffers[attribute]
        assert buffer is not None
        return buffer

    def set_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Put these buffers into the network in place of its own."""
        for name, buffer in buffers.items():
            for module, attribute in self._buffers[name]:
                module._buffers[attribute] = buffer

    @contextlib.contextmanager
    def buffers_unchanged(self) -> Iterator[dict[str, Tensor]]:
        """Let a forward pass change copies of the buffers; fill the dict with those it changed."""
        changed: dict[str, Tensor] = {}
        before = {name: self._buffer(name) for name in self._buffers}
        self.set_buffers({name: buffer.clone() for name, buffer in before.items()})
        try:
            yield changed
            for name in self._persistent:
                now, old = self._buffer(name).detach(), before[name]
                if (now.dtype, now.shape) != (old.dtype, old.shape):
                    raise SchemaError(
                        f"the forward pass turned {name} from {_describe(old)} into "
                        f"{_describe(now)}: a buffer keeps its dtype and shape"
                    )
                if not same(now, old):
                    changed[name] = now
        finally:
            self.set_buffers(before)


def _copy(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a stored tensor into torch's own memory: its alignment decides the bits of results."""
    return tensor.to(device, copy=True)


def check_same_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise ModelError with the first tensor that differs in name, shape or dtype."""
    for name in dict.fromkeys([*own, *given]):
        mine, other = own.get(name), given.get(name)
        if mine is None or other is None or (mine.dtype, mine.shape) != (other.dtype, other.shape):
            raise ModelError(
                f"the stored model is of another network than this one: {name} is "
                f"{_describe(other)} there, and {_describe(mine)} here; start this network in "
                f"another run, or the one that is stored"
            )


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return "missing"
    return f"{DTYPES.get(tensor.dtype, tensor.dtype)} {tuple(tensor.shape)}"
