"""Batches and gradients that a model refuses, and models that refuse some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from roomgrad import Array
from tests.systems.models.networks import INPUTS, OUTPUTS, WIDTH, WORDS
from tests.systems.models.zoo import TIME, Arrays, Case, rows, with_optimizer

MARK = 1000.0  # no input of a good batch is so large
LARGE = 1e4  # nor is the gradient of a parameter


class Marked(nn.Module):
    """A network that goes wrong for marked batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.body = nn.Embedding(WORDS, WIDTH), nn.Linear(INPUTS, WIDTH)
        self.norm, self.last = nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, OUTPUTS)

    def forward(self, image: Tensor, ids: Tensor) -> Tensor:
        mark = float(image.detach()[0, 0])
        words = nn.functional.embedding(ids, self.words.weight, sparse=mark >= MARK)
        hidden = self.norm(self.body(image.clamp(-1, 1)) + words.mean(1))
        outputs = self.last(torch.tanh(hidden))
        return outputs.double() if mark <= -MARK else outputs


class Hoarder(optim.SGD):
    """An optimizer that stores an object, which no file can hold, with a large gradient."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        for parameter, gradient in large(self):
            self.state[parameter]["seen"] = object() if gradient else None


class Halfway(optim.SGD):
    """An optimizer that fails with a large gradient, when it has updated the parameters."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        if any(gradient for _, gradient in large(self)):
            raise RuntimeError("no step with a large gradient")


def large(optimizer: optim.Optimizer) -> list[tuple[nn.Parameter, bool]]:
    """Return each parameter, and whether its gradient is large."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return [(p, p.grad is not None and bool(p.grad.abs().max() > LARGE)) for p in parameters]


def marked(optimizer: Any) -> Case:
    return Case(
        Marked,
        with_optimizer(optimizer, lr=0.05, momentum=0.9),
        inputs={"image": rows("<f4", INPUTS), "ids": rows("<i8", TIME)},
        outputs={"DATA": Array("<f4", ("batch", "n"))},
    )


REFUSING: dict[str, Case] = {
    "plain": marked(optim.SGD),
    "hoarder": marked(Hoarder),
    "halfway": marked(Halfway),
    "scalars": Case(nn.Identity, inputs={"DATA": Array("<f4", ())}),
}


@dataclass(frozen=True)
class Refusal:
    """What is done to a batch or to the gradient of its outputs, and why that is refused."""

    reason: str
    batch: Callable[[Arrays], Arrays] = dict
    upstream: Callable[[Arrays], Arrays] | None = None
    """What is done to the gradient; None if the batch is refused."""


def mark(value: float) -> Callable[[Arrays], Arrays]:
    def change(batch: Arrays) -> Arrays:
        batch["image"][0, 0] = value
        return batch

    return change


def each(change: Callable[[Any], Any]) -> Callable[[Arrays], Arrays]:
    """Return a function that changes all arrays."""
    return lambda arrays: {name: change(array) for name, array in arrays.items()}


REFUSALS: dict[str, Refusal] = {
    "an empty batch": Refusal("image: expected a batch of at least one row", each(lambda x: x[:0])),
    "a word that the embedding lacks": Refusal(
        "index out of range", lambda batch: {**batch, "ids": batch["ids"] + WORDS}
    ),
    "outputs of another dtype": Refusal("DATA: expected dtype <f4, got <f8", mark(-MARK)),
    "a sparse gradient": Refusal("words.weight is sparse", mark(MARK), upstream=dict),
    "rows that are missing": Refusal(r"\(6, 3\).*\(5, 3\)", upstream=each(lambda x: x[:-1])),
    "columns that are missing": Refusal(r"\(6, 3\).*\(6, 2\)", upstream=each(lambda x: x[:, :-1])),
    "a gradient that overflows": Refusal(
        "last.weight", upstream=each(lambda x: np.full_like(x, 3e38))
    ),
}

# Optimizers that go wrong with a large gradient, when its step is committed already.
FAILING: dict[str, str] = {
    "hoarder": r"seen of words\.weight is a object, which cannot be stored",
    "halfway": "step 1 of model .* cannot be applied here .*no step with a large gradient",
}


def enlarged(upstream: Arrays) -> Arrays:
    return {name: array * 1e6 for name, array in upstream.items()}
