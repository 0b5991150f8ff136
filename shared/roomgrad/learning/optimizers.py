"""An optimizer and its scheduler: what they store, and one update of the weights."""

from __future__ import annotations

import contextlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from roomgrad.errors import ModelError
from roomgrad.learning.tensors import DTYPES
from roomgrad.tensor_files import OPTIMIZER


class Updater:
    """Updates named parameters by an optimizer, and the optimizer's rates by a scheduler.

    Raises ModelError for an optimizer or a scheduler that a room cannot drive, or whose state
    cannot be stored.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None,
    ) -> None:
        self._parameters = parameters
        self._optimizer = optimizer(list(parameters.values()))
        self._names = {id(p): name for name, p in parameters.items()}
        self._check_optimizer()
        self._layout: dict[str, tuple[torch.Size, torch.device]] = {}
        self._try_step()
        self._scheduler = scheduler(self._optimizer) if scheduler is not None else None
        if isinstance(self._scheduler, ReduceLROnPlateau):
            raise ModelError(
                "ReduceLROnPlateau needs the loss, which is known at the other end of the rooms: "
                "choose a scheduler that counts steps"
            )

    def _check_optimizer(self) -> None:
        name = type(self._optimizer).__name__
        closure = inspect.signature(type(self._optimizer).step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise ModelError(
                f"{name} computes the loss several times in a step, and a room answers each "
                f"forward message once: choose an optimizer that needs one gradient, like AdamW"
            )
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in self._names:
                    raise ModelError(
                        f"{name} has a parameter of shape {tuple(parameter.shape)} that is none "
                        f"of the network's, or is frozen: give it parameters of the network"
                    )

    def _try_step(self) -> None:
        """Take a step and undo it, so that a state that cannot be stored is found at the start."""
        parameters = self._parameters.values()
        before = [parameter.detach().clone() for parameter in parameters]
        state = {p: dict(values) for p, values in self._optimizer.state.items()}
        groups = [dict(group) for group in self._optimizer.param_groups]
        tensors = {k: v.clone() for k, v in self.tensors().items()}
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._optimizer.step()
        self._layout = {name: (t.shape, t.device) for name, t in self.tensors().items()}
        self._check_scalars()
        with torch.no_grad():
            for parameter, values in zip(parameters, before, strict=True):
                parameter.copy_(values)
                parameter.grad = None
        self._optimizer.state.clear()
        self._optimizer.state.update(state)
        for group, options in zip(self._optimizer.param_groups, groups, strict=True):
            group.clear()
            group.update(options)
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def update(self, gradients: list[Tensor | None], staleness: int = 0) -> None:
        """Update the parameters in place by one step; a parameter without a gradient stays."""
        for parameter, gradient in zip(self._parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        with self._slower(staleness):
            self._optimizer.step()
        self._optimizer.zero_grad()
        if self._scheduler is not None:
            self._scheduler.step()

    def skip(self, updates: int) -> None:
        """Let the scheduler count updates that were made without it."""
        if self._scheduler is not None:
            with warnings.catch_warnings():  # that the optimizer has made none
                warnings.simplefilter("ignore")
                for _ in range(updates):
                    self._scheduler.step()

    @contextlib.contextmanager
    def _slower(self, staleness: int) -> Iterator[None]:
        """Divide the learning rates by the root of 1 + staleness within the block."""
        groups = self._optimizer.param_groups if staleness else []
        rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] / math.sqrt(1 + staleness)
        try:
            yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate

    # state

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the optimizer's state. Raises ModelError for other objects."""
        found = {}
        for name, key, value in self._entries():
            if isinstance(value, Tensor):
                if value.dtype not in DTYPES or value.is_sparse:
                    raise self._not_stored(name, key, value.dtype)
                found[f"{OPTIMIZER}{name}/{key}"] = value.detach()
        return found

    def scalars(self) -> dict[str, Any]:
        """Return what else there is, for JSON: numbers of the state, groups, and the scheduler.

        Raises ModelError for other objects.
        """
        self._check_scalars()
        state: dict[str, dict[str, Any]] = {}
        for name, key, value in self._entries():
            if not isinstance(value, Tensor):
                state.setdefault(name, {})[key] = value
        groups = [
            _storable({k: _number(v) for k, v in group.items() if k != "params"})
            for group in self._optimizer.param_groups
        ]
        found: dict[str, Any] = {"state": state, "groups": groups}
        if self._scheduler is not None:
            found["scheduler"] = _storable(self._scheduler.state_dict())
        return found

    def _check_scalars(self) -> None:
        for name, key, value in self._entries():
            if not isinstance(value, Tensor) and _storable(value) is _DROPPED:
                raise self._not_stored(name, key, type(value).__name__)

    def _entries(self) -> Iterator[tuple[str, str, Any]]:
        for parameter, values in self._optimizer.state.items():
            name = self._names.get(id(parameter))
            if name is None:
                raise ModelError(
                    f"{type(self._optimizer).__name__} stores {str(parameter)[:60]!r} beside the "
                    f"state of its parameters, which cannot be stored"
                )
            for key, value in values.items():
                yield name, str(key), value

    def _not_stored(self, name: str, key: str, kind: object) -> ModelError:
        return ModelError(
            f"{type(self._optimizer).__name__}: {key} of {name} is a {kind}, which cannot be "
            f"stored; expected tensors, numbers, texts and lists of them"
        )

    def load(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Continue from a state that `tensors` and `scalars` returned, perhaps elsewhere.

        Raises ModelError for the state of another optimizer.
        """
        optimizer = self._optimizer
        given = {name: t for name, t in tensors.items() if name.startswith(OPTIMIZER)}
        self._check_same(given)
        optimizer.state.clear()
        for name, parameter in self._parameters.items():
            values: dict[str, Any] = dict(scalars.get("state", {}).get(name, {}))
            prefix = f"{OPTIMIZER}{name}/"
            for key in (each for each in given if each.startswith(prefix)):
                device = self._layout[key][1]
                values[key.removeprefix(prefix)] = given[key].to(device, copy=True)
            if values:
                optimizer.state[parameter] = values
        for group, options in zip(optimizer.param_groups, scalars.get("groups", ()), strict=False):
            for key, value in options.items():
                if isinstance(group.get(key), Tensor):  # a rate in a tensor
                    group[key].fill_(value)
                else:
                    group[key] = _merged(group.get(key), value)
        if self._scheduler is not None and "scheduler" in scalars:
            own = self._scheduler.state_dict()
            self._scheduler.load_state_dict(_merged(own, scalars["scheduler"]))

    def _check_same(self, given: Mapping[str, Tensor]) -> None:
        """Raise ModelError unless this optimizer makes such a state of parameters that it used."""
        used = {_parameter(name) for name in given}
        expected = {n: shape for n, (shape, _) in self._layout.items() if _parameter(n) in used}
        for name in dict.fromkeys([*expected, *given]):
            shape = given[name].shape if name in given else None
            if shape != expected.get(name):
                parameter, key = name.removeprefix(OPTIMIZER).rsplit("/", 1)
                raise ModelError(
                    f"the stored state is of another optimizer than "
                    f"{type(self._optimizer).__name__}: {key} of {parameter} is "
                    f"{_shape(shape)} there, and {_shape(expected.get(name))} here; start this "
                    f"optimizer in another run, or the one that is stored"
                )


def _parameter(name: str) -> str:
    return name.rpartition("/")[0]


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(tuple(shape))


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


_DROPPED = object()


def _storable(value: Any) -> Any:
    """Return what JSON can hold of a value; the rest, like functions, is made by its factory."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return _DROPPED
        items = {key: _storable(each) for key, each in value.items()}
        return {key: each for key, each in items.items() if each is not _DROPPED}
    if isinstance(value, list | tuple):
        found = [_storable(each) for each in value]
        return _DROPPED if _DROPPED in found else found
    return value if value is None or isinstance(value, bool | int | float | str) else _DROPPED


def _merged(own: Any, stored: Any) -> Any:
    """Return a value with what is stored of it in place of its own."""
    if isinstance(own, dict) and isinstance(stored, dict):
        return own | {key: _merged(own.get(key), each) for key, each in stored.items()}
    if isinstance(own, list | tuple) and isinstance(stored, list) and len(own) == len(stored):
        return type(own)(_merged(*pair) for pair in zip(own, stored, strict=True))
    return tuple(stored) if isinstance(own, tuple) else stored
