"""The same training in one process: plain torch, and what it has to come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from roomgrad.learning import forward_seed
from tests.systems.models.zoo import MODEL, RUN_SEED, Arrays, Case


@dataclass
class Result:
    """What a training comes to, in numpy and plain values, so that bits can be compared."""

    weights: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Parameters and buffers."""

    optimizer: Any = None
    """The state of the optimizer, and of the scheduler."""

    gradients: list[Arrays] = field(default_factory=list)
    """Of the inputs, one step after the other."""

    answers: list[Arrays] = field(default_factory=list)
    """To a VALIDATE message: one in the middle, one in the end."""


def train(case: Case, steps: int, seed: int = RUN_SEED) -> Result:
    """Train in this process."""
    network = case.make_network()
    if case.lazy:
        network.eval()(to_tensor(case.example()))
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = case.optimizer(network, parameters)
    scheduler = case.scheduler(optimizer) if case.scheduler else None
    result = Result()
    for number in range(steps):
        if number == steps // 2:
            result.answers.append(validate(case, network))
        torch.manual_seed(forward_seed(seed, MODEL, number))
        result.gradients.append(differentiate(case, network, number))
        if (number + 1) % case.accumulate:
            continue
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= case.accumulate
        if case.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, case.max_grad_norm)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        optimizer.zero_grad(set_to_none=True)
    result.answers.append(validate(case, network))
    result.weights = {name: to_numpy(tensor) for name, tensor in network.state_dict().items()}
    result.optimizer = plain([optimizer, scheduler])
    return result


def differentiate(case: Case, network: nn.Module, number: int) -> Arrays:
    """Add the gradients of a batch to those of the parameters; return those of its inputs."""
    network.train()
    inputs = {name: to_tensor(array) for name, array in case.batch(number).items()}
    for tensor in inputs.values():
        tensor.requires_grad_(tensor.is_floating_point())
    outputs = forward(case, network, inputs)
    upstream = case.upstream(number, {name: to_numpy(y) for name, y in outputs.items()})
    torch.autograd.backward(
        [outputs[name] for name in upstream], [to_tensor(each) for each in upstream.values()]
    )
    return {name: to_numpy(x.grad) for name, x in inputs.items() if x.grad is not None}


def forward(case: Case, network: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.autocast("cpu", case.autocast or torch.bfloat16, case.autocast is not None):
        found = network(inputs["DATA"]) if [*inputs] == ["DATA"] else network(**inputs)
    return {"DATA": found} if isinstance(found, Tensor) else found


def validate(case: Case, network: nn.Module) -> Arrays:
    network.eval()
    with torch.no_grad():
        inputs = {name: to_tensor(array) for name, array in case.question().items()}
        return {name: to_numpy(y) for name, y in forward(case, network, inputs).items()}


def to_tensor(array: NDArray[Any]) -> Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.tensor(array.view(np.int16)).view(torch.bfloat16)
    return torch.tensor(array)


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    found = tensor.detach().clone()
    if found.dtype == torch.bfloat16:
        return found.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return found.numpy()


def plain(value: Any) -> Any:
    """Return a state as lists, dicts, numbers and arrays."""
    if isinstance(value, Tensor):
        return to_numpy(value)
    if hasattr(value, "state_dict"):
        return plain(value.state_dict())
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items() if not callable(each)}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def difference(one: Any, other: Any, path: str = "") -> str:
    """Return where two results differ in any bit, or an empty text."""
    if isinstance(one, Result):
        one, other = vars(one), vars(other)
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return f"{path}: {sorted(one)} and {sorted(other)}"
        pairs = [(f"{path}/{key}", one[key], other[key]) for key in one]
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return f"{path}: {len(one)} and {len(other)}"
        pairs = [(f"{path}/{i}", *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        return "" if same(one, other) else f"{path}: {one} and {other}"
    found = (difference(ours, theirs, where) for where, ours, theirs in pairs)
    return next(filter(None, found), "")


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and one.tobytes() == other.tobytes()
    return type(one) is type(other) and bool(one == other)
