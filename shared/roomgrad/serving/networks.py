"""A torch network that learns, and its optimizer by name."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from roomgrad.errors import SettingsError

if TYPE_CHECKING:  # which takes seconds, and a numpy function needs none of it
    from torch import nn
    from torch.optim import Optimizer

    from roomgrad.learning import TorchModel

    OptimizerOf = Callable[[list[nn.Parameter]], Optimizer]

OPTIMIZER = "adam:1e-3"


def maker_of(name: str, target: Any) -> Callable[[], nn.Module] | None:
    """Return what makes the network that `target` is; None if it is no network.

    A network is an nn.Module, its class, or a function without arguments that returns one. Raises
    SettingsError if it cannot be made.
    """
    if "torch" not in sys.modules:
        return None
    from torch import nn

    if isinstance(target, nn.Module):
        return lambda: copy.deepcopy(target)
    if inspect.isclass(target) and not issubclass(target, nn.Module):
        return None
    if not inspect.isclass(target) and not (inspect.isroutine(target) and _is_free(target)):
        return None
    make: Callable[[], Any] = target
    try:
        found = make()
    except Exception as error:
        raise SettingsError(
            f"{name}() failed: {type(error).__name__}: {error}; expected a network that is made "
            f"without arguments"
        ) from error
    return make if isinstance(found, nn.Module) else None


def _is_free(function: Any) -> bool:
    """Return whether a function has no parameters."""
    try:
        return not inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a function in C
        return False


def model_maker(
    make: Callable[[], nn.Module], optimizer: str | OptimizerOf, rows: NDArray[Any]
) -> Callable[[], TorchModel]:
    """Return what makes the model of a network. rows: a batch that shapes lazy modules.

    Raises SettingsError for an unknown optimizer.
    """
    from roomgrad.learning import TorchModel

    made = optimizer_of(optimizer) if isinstance(optimizer, str) else optimizer
    return lambda: TorchModel(make(), made, example=rows)


def optimizer_of(text: str) -> OptimizerOf:
    """Return the optimizer that NAME or NAME:RATE names. Raises SettingsError."""
    from torch import optim

    classes = {name.lower(): each for name, each in vars(optim).items() if inspect.isclass(each)}
    known = {
        name: each
        for name, each in classes.items()
        if issubclass(each, optim.Optimizer) and name not in ("optimizer", "lbfgs")
    }
    name, colon, rate = text.lower().partition(":")
    if name not in known:
        raise SettingsError(f"--optimizer {text}: there are {', '.join(sorted(known))}")
    try:
        given: dict[str, Any] = {"lr": float(rate)} if colon else {}
    except ValueError:
        raise SettingsError(
            f"--optimizer {text}: expected a learning rate, like {name}:1e-3"
        ) from None
    return lambda parameters: known[name](parameters, **given)
