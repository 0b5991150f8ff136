"""What a batch changes in a model: its gradient, and the update that is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from roomgrad.errors import ModelError
from roomgrad.learning.tensors import bytes_of


@dataclass(frozen=True)
class Gradient:
    """What a batch changes: a gradient for each trainable parameter, None if it was not used."""

    parameters: list[Tensor | None]
    norm: Tensor
    """Of the parameters' gradients together; it is finite."""

    buffers: dict[str, Tensor]


@dataclass(frozen=True)
class Update:
    """What a gradient changes in a state."""

    gradients: dict[str, Tensor]
    """Of the parameters that were used: finished and clipped, or the sum until now."""

    buffers: dict[str, Tensor]
    completes: bool
    """Whether the weights change, or the gradient is only added to the sum."""

    staleness: int

    @property
    def nbytes(self) -> int:
        """How many bytes its tensors have."""
        return sum(each.nbytes for each in (*self.gradients.values(), *self.buffers.values()))


def clipped(gradients: dict[str, Tensor], most: float, norm: Tensor) -> dict[str, Tensor]:
    """Return gradients clipped as `clip_grad_norm_` does; copies, as they may be needed again."""
    if float(torch.clamp(most / (norm + 1e-6), max=1.0)) == 1.0:  # its factor
        return gradients
    holders: Any = [SimpleNamespace(grad=each.clone()) for each in gradients.values()]
    nn.utils.clip_grads_with_norm_(holders, most, norm)
    return {name: each.grad for name, each in zip(gradients, holders, strict=True)}


def encode(update: Update, trainable: Mapping[str, nn.Parameter]) -> dict[str, Any]:
    """Return an update as a record: the bytes of its gradients and buffers, in their order.

    trainable: the parameters by name; the record has the numbers of those that were not used.
    """
    unused = [number for number, name in enumerate(trainable) if name not in update.gradients]
    tensors = [update.gradients[name] for name in trainable if name in update.gradients]
    tensors += update.buffers.values()
    joined = torch.cat([bytes_of(each) for each in tensors]) if tensors else torch.empty(0)
    return {
        "unused": unused,
        "buffers": list(update.buffers),
        "completes": update.completes,
        "staleness": update.staleness,
        "values": joined.to(torch.uint8).numpy(),
    }


def decode(
    record: Mapping[str, Any],
    trainable: Mapping[str, nn.Parameter],
    own: Mapping[str, Tensor],
    device: torch.device,
) -> Update:
    """Return the update of a record.

    own: parameters and buffers by name, whose dtypes and shapes those of the record are.

    Raises ModelError if the record is of another network.
    """
    unused = set(record["unused"])
    names = [name for number, name in enumerate(trainable) if number not in unused]
    raw, at = torch.from_numpy(record["values"]), 0
    found = []
    for name in (*names, *record["buffers"]):
        if name not in own or at + own[name].nbytes > raw.nbytes:
            raise ModelError(f"the record is one of another network: it does not fit {name}")
        end = at + own[name].nbytes
        part = raw[at:end].clone().view(own[name].dtype).reshape(own[name].shape)
        found.append(part.to(device))
        at = end
    if at != raw.nbytes:
        raise ModelError(
            f"the record is one of another network: {raw.nbytes - at:,} bytes too many"
        )
    gradients = dict(zip(names, found, strict=False))
    buffers = dict(zip(record["buffers"], found[len(names) :], strict=True))
    return Update(gradients, buffers, record["completes"], record["staleness"])
