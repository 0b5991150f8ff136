"""Models of every kind, each trained through rooms and in one process with the same result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from roomgrad import Array, MessageType, Room, Stream, System, dtypes
from tests.systems.models import networks
from tests.systems.models.networks import INPUTS, OUTPUTS, WORDS

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
ENTER, LEAVE = Room("enter"), Room("leave")
MODEL, TRAINER = "model", "trainer"
ROWS, TIME = 6, 5
INITIAL_SEED = 3  # of the weights
RUN_SEED = 11

Arrays = dict[str, NDArray[Any]]
MakeOptimizer = Callable[[nn.Module, list[nn.Parameter]], optim.Optimizer]


def rows(dtype: str, *shape: int | str) -> Array:
    return Array(dtype, ("batch", *shape))


@dataclass(frozen=True)
class Case:
    """A model, how it is trained, and the arrays that it maps to each other.

    without: what is replaced to leave out the feature that the case is there for, which has to
        change the result; {} if it must not change it.
    """

    network: Callable[[], nn.Module] = networks.mlp
    optimizer: MakeOptimizer = lambda _, parameters: optim.SGD(parameters, lr=0.05)
    scheduler: Callable[[optim.Optimizer], LRScheduler] | None = None
    max_grad_norm: float | None = None
    accumulate: int = 1
    autocast: torch.dtype | None = None
    inputs: Mapping[str, Array] = field(default_factory=lambda: {"DATA": rows("<f4", INPUTS)})
    outputs: Mapping[str, Array] = field(default_factory=lambda: {"DATA": rows("<f4", OUTPUTS)})
    lazy: bool = False
    draws: bool = False
    """Whether its forward pass draws random numbers."""

    question_rows: int = 2
    without: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> Case:
        """The case without its feature."""
        return replace(self, **self.without)

    def make_network(self) -> nn.Module:
        torch.manual_seed(INITIAL_SEED)
        return self.network()

    def batch(self, number: int, rows: int = ROWS) -> Arrays:
        """Return the inputs of a batch, a function of its number."""
        random = np.random.default_rng([number, 0])
        return {name: draw(random, array, rows) for name, array in self.inputs.items()}

    def example(self) -> NDArray[Any] | Arrays | None:
        """Return what a lazy network needs to know its shapes."""
        found = self.batch(0)
        return found.get("DATA", found) if self.lazy else None

    def question(self) -> Arrays:
        """Return the inputs of a VALIDATE message."""
        return self.batch(1_000_000, self.question_rows)

    def upstream(self, number: int, outputs: Arrays) -> Arrays:
        """Return the gradient of the mean squared distance of the outputs to a random target."""
        random = np.random.default_rng([number, 1])
        found = {}
        for name, value in outputs.items():
            if dtypes.kind_of(value.dtype) == "f":
                target = random.standard_normal(value.shape)
                found[name] = (2 * (value - target) / len(value)).astype(value.dtype)
        return found

    def contract(self) -> System:
        streams = (
            Stream(ENTER, FORWARD, self.inputs, (MODEL,)),
            Stream(LEAVE, FORWARD, self.outputs, (TRAINER,)),
            Stream(LEAVE, GRADIENT, gradients(self.outputs), (MODEL,)),
            Stream(ENTER, GRADIENT, gradients(self.inputs), (TRAINER,)),
        )
        return System("zoo", streams, (MODEL, TRAINER))


def is_float(dtype: str) -> bool:
    return dtypes.kind_of(dtypes.from_name(dtype)) == "f"


def gradients(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the schema of gradients. Integers have none; their sender gets no array."""
    found = {n: replace(a, optional=True) for n, a in arrays.items() if is_float(a.dtype)}
    return found or {"DATA": Array("<f4", ("batch",), optional=True)}


def draw(random: np.random.Generator, array: Array, rows: int) -> NDArray[Any]:
    """Return random values of an array's dtype and shape."""
    shape = [n if isinstance(n, int) else rows for n in array.shape]
    dtype = dtypes.from_name(array.dtype)
    match dtypes.kind_of(dtype):
        case "b":
            return random.random(shape) < 0.7
        case "i":
            return random.integers(0, WORDS, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


# optimizers and schedulers


def with_optimizer(kind: Any, **options: Any) -> MakeOptimizer:
    return lambda _, parameters: kind(parameters, **options)


def groups(network: Any, _: list[nn.Parameter]) -> optim.Optimizer:
    """The head learns faster, and is not pulled to zero."""
    first, _, last = network
    body = {"params": list(first.parameters()), "lr": 1e-3, "weight_decay": 0.1}
    head = {"params": list(last.parameters()), "lr": 1e-2, "weight_decay": 0.0}
    return optim.AdamW([body, head])


def halves(step: int) -> float:
    return 0.5 ** (step // 10)


def stays(step: int) -> float:
    return 1.0


def sequential(optimizer: optim.Optimizer) -> LRScheduler:
    warmup = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=10)
    decay = lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    return lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[10])


def optimized(kind: Any, plain: dict[str, Any] | None = None, **options: Any) -> Case:
    """Return the case of an optimizer: with these options it differs from one without them."""
    before = with_optimizer(kind, **plain) if plain else with_optimizer(optim.SGD, lr=0.05)
    return Case(optimizer=with_optimizer(kind, **options), without={"optimizer": before})


def scheduled(scheduler: Callable[[optim.Optimizer], LRScheduler]) -> Case:
    momentum = with_optimizer(optim.SGD, lr=0.05, momentum=0.9)
    return Case(optimizer=momentum, scheduler=scheduler, without={"scheduler": None})


ADAM = with_optimizer(optim.Adam, lr=1e-2)
NO_DECAY = with_optimizer(optim.AdamW, lr=1e-2, weight_decay=0.1)
LIST = {"DATA": rows("<i8", TIME)}
NAMED_IN = {"image": rows("<f4", INPUTS), "ids": rows("<i8", TIME), "mask": rows("|b1", TIME)}
WEIGHTED_IN = {
    "DATA": rows("<f4", INPUTS),
    "inputs": rows("<f4", INPUTS),
    "weights": rows("<f4", 1),
    "answers": rows("|b1"),
}
NAMED_OUT = {"scores": rows("<f4", OUTPUTS), "code": rows("<f8", 2), "best": rows("<i8")}


def of_dtype(dtype: str, network: Callable[[], nn.Module], optimizer: MakeOptimizer) -> Case:
    inputs, outputs = {"DATA": rows(dtype, INPUTS)}, {"DATA": rows(dtype, OUTPUTS)}
    return Case(network, optimizer, inputs=inputs, outputs=outputs)


CASES: dict[str, Case] = {
    "tied weights": Case(
        networks.Tied, ADAM, without={"network": lambda: networks.Tied(tied=False)}
    ),
    "frozen parameters": Case(
        networks.frozen, NO_DECAY, without={"network": lambda: networks.frozen(layers=0)}
    ),
    "unused parameters": Case(
        networks.Switch, NO_DECAY, without={"network": lambda: networks.Switch(zeros=True)}
    ),
    "parameter groups": Case(
        optimizer=groups,
        scheduler=lambda optimizer: lr_scheduler.LambdaLR(optimizer, [halves, stays]),
        without={"optimizer": with_optimizer(optim.AdamW, lr=1e-2), "scheduler": None},
    ),
    "lazy modules": Case(networks.lazy, ADAM, lazy=True),
    "batch norm": Case(
        networks.normalized,
        ADAM,
        question_rows=1,
        without={"network": lambda: networks.normalized(track=False), "question_rows": 2},
    ),
    "a layer made in evaluation mode": Case(networks.half_evaluating, ADAM),
    "average of the weights": Case(
        networks.Averaged, ADAM, without={"network": lambda: networks.Averaged(decay=0.5)}
    ),
    "dropout": Case(
        networks.dropout, ADAM, draws=True, without={"network": lambda: networks.dropout(p=0.0)}
    ),
    "noise": Case(
        networks.Noisy, ADAM, draws=True, without={"network": lambda: networks.Noisy(noise=0.0)}
    ),
    "parametrizations": Case(
        networks.parametrized, ADAM, without={"network": lambda: networks.parametrized(apply=False)}
    ),
    "lstm": Case(
        networks.Recurrent,
        ADAM,
        inputs={"DATA": rows("<f4", TIME, INPUTS)},
        draws=True,
        without={"network": lambda: networks.Recurrent(p=0.0)},
    ),
    "named arrays": Case(
        networks.Named,
        ADAM,
        inputs=NAMED_IN,
        outputs=NAMED_OUT,
        draws=True,
        without={"network": lambda: networks.Named(masked=False)},
    ),
    "names of memory records": Case(networks.Weighted, ADAM, inputs=WEIGHTED_IN),
    "integer inputs": Case(networks.Words, ADAM, inputs=LIST),
    "float64": of_dtype("<f8", lambda: networks.normalized().double(), ADAM),
    "float16": of_dtype(
        "<f2", lambda: networks.mlp().half(), with_optimizer(optim.SGD, lr=0.05, momentum=0.9)
    ),
    "bfloat16": of_dtype(
        "bfloat16",
        lambda: networks.mlp().bfloat16(),
        with_optimizer(optim.SGD, lr=0.05, momentum=0.9),
    ),
    "bfloat16 inside": Case(lambda: networks.Cast(networks.mlp(), torch.bfloat16), ADAM),
    "momentum": optimized(optim.SGD, {"lr": 0.05}, lr=0.05, momentum=0.9, nesterov=True),
    "adam": optimized(optim.Adam, {"lr": 1e-2}, lr=1e-2, amsgrad=True),
    "fused adam": optimized(optim.Adam, lr=1e-2, fused=True),
    "adamw": optimized(optim.AdamW, {"lr": 1e-2}, lr=1e-2, weight_decay=0.3),
    "adagrad": optimized(optim.Adagrad, {"lr": 0.05}, lr=0.05, lr_decay=0.1),
    "rmsprop": optimized(optim.RMSprop, {"lr": 1e-2}, lr=1e-2, momentum=0.5, centered=True),
    "nadam": optimized(optim.NAdam, {"lr": 1e-2}, lr=1e-2, momentum_decay=0.1),
    "step rate": scheduled(lambda o: lr_scheduler.StepLR(o, step_size=7, gamma=0.7)),
    "lambda rate": scheduled(lambda o: lr_scheduler.LambdaLR(o, halves)),
    "one cycle": scheduled(lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=100)),
    "warm restarts": scheduled(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 8, 2)),
    "sequential rates": scheduled(sequential),
    "clipping": Case(max_grad_norm=0.5, without={"max_grad_norm": None}),
    "accumulation": Case(
        networks.dropout,
        ADAM,
        scheduler=lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.7),
        max_grad_norm=0.5,
        accumulate=4,
        draws=True,
        without={"accumulate": 1},
    ),
    "autocast": Case(networks.Outward, ADAM, autocast=torch.bfloat16, without={"autocast": None}),
    "compile eager": Case(lambda: torch.compile(networks.normalized(), backend="eager"), ADAM),
    "compile aot": Case(lambda: torch.compile(networks.mlp(), backend="aot_eager"), ADAM),
}
