"""Small networks, each with something that an ordinary `nn.Sequential` lacks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

INPUTS, WIDTH, OUTPUTS = 4, 8, 3
WORDS = 10  # of an embedding


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Tanh(), nn.Linear(WIDTH, OUTPUTS))


class Tied(nn.Module):
    """One parameter under two names, used twice."""

    def __init__(self, *, tied: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, INPUTS)
        self.last = nn.Linear(INPUTS, OUTPUTS)
        if tied:
            self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


def frozen(*, layers: int = 1) -> nn.Sequential:
    """A network whose first layers are not trained."""
    network = nn.Sequential(*mlp(), nn.Tanh(), nn.Linear(OUTPUTS, OUTPUTS))
    for layer in network[:layers]:
        layer.requires_grad_(False)
    return network


class Switch(nn.Module):
    """Two heads, of which a batch uses one. An unused head either has no gradient, or zeros."""

    def __init__(self, *, zeros: bool = False) -> None:
        super().__init__()
        self.body = nn.Linear(INPUTS, WIDTH)
        self.heads = nn.ModuleList([nn.Linear(WIDTH, OUTPUTS) for _ in range(2)])
        self.zeros = zeros

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.body(x))
        used, unused = self.heads if x[0, 0] > 0 else reversed(self.heads)
        return used(hidden) + 0.0 * unused(hidden) if self.zeros else used(hidden)


def lazy() -> nn.Sequential:
    return nn.Sequential(
        nn.LazyLinear(WIDTH), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(OUTPUTS)
    )


def normalized(*, track: bool = True) -> nn.Sequential:
    """A network with BatchNorm, with or without running statistics."""
    norm = nn.BatchNorm1d(WIDTH, track_running_stats=track)
    return nn.Sequential(nn.Linear(INPUTS, WIDTH), norm, nn.Tanh(), nn.Linear(WIDTH, OUTPUTS))


def half_evaluating() -> nn.Sequential:
    """A network that is made in training mode, except for one layer: TRAIN trains that, too."""
    network = normalized()
    network[1].eval()
    return network


class Averaged(nn.Module):
    """A network that is evaluated with a moving average of its weights, held in buffers."""

    def __init__(self, *, decay: float = 0.9) -> None:
        super().__init__()
        self.layer = nn.Linear(INPUTS, OUTPUTS)
        self.decay = decay
        self.register_buffer("mean_weight", self.layer.weight.detach().clone())
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.mean_weight: Tensor
        self.seen: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.functional.linear(x, self.mean_weight, self.layer.bias)
        self.mean_weight.lerp_(self.layer.weight.detach(), 1 - self.decay)
        self.seen = self.seen + 1  # a new tensor under the old name
        return self.layer(x)


def dropout(*, p: float = 0.3) -> nn.Sequential:
    first, tanh, last = mlp()
    return nn.Sequential(first, nn.Dropout(p), tanh, nn.Dropout(p), last)


class Noisy(nn.Module):
    """Noise on the inputs and random gates on the units while it is trained."""

    def __init__(self, *, noise: float = 0.1, keep: float = 0.7) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, OUTPUTS)
        self.noise, self.keep = noise, keep

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.last(torch.tanh(self.first(x)))
        hidden = torch.tanh(self.first(x + self.noise * torch.randn_like(x)))
        gates = torch.bernoulli(torch.full_like(hidden, self.keep))
        return self.last(hidden * gates)


def parametrized(*, apply: bool = True) -> nn.Sequential:
    """Spectral norm, which moves buffers with each forward pass, and weight norm."""
    first, tanh, last = mlp()
    if apply:
        first = parametrizations.spectral_norm(first)
        last = parametrizations.weight_norm(last)
    return nn.Sequential(first, tanh, last)


class Recurrent(nn.Module):
    """Two layers of an LSTM with dropout between them: `(batch, time, 4)` to `(batch, 3)`."""

    def __init__(self, *, p: float = 0.2) -> None:
        super().__init__()
        self.lstm = nn.LSTM(INPUTS, WIDTH, num_layers=2, dropout=p, batch_first=True)
        self.last = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.lstm(x)
        return self.last(hidden[:, -1])


class Named(nn.Module):
    """Several arrays in, several out: floats, integers and booleans."""

    def __init__(self, *, masked: bool = True) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, INPUTS)
        self.body = nn.Linear(2 * INPUTS, WIDTH)
        self.scores, self.code = nn.Linear(WIDTH, OUTPUTS), nn.Linear(WIDTH, 2).double()
        self.drop = nn.Dropout(0.2)
        self.masked = masked

    def forward(self, *, image: Tensor, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        words = self.words(ids)  # (batch, time, 4)
        if self.masked:
            words = words * mask[..., None]
        hidden = torch.tanh(self.body(torch.cat([image, words.sum(1)], dim=1)))
        scores = self.scores(self.drop(hidden))
        return {"scores": scores, "code": self.code(hidden.double()), "best": scores.argmax(1)}


class Weighted(nn.Module):
    """Inputs with names that memory records use."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(INPUTS, OUTPUTS)

    def forward(self, *, DATA: Tensor, inputs: Tensor, weights: Tensor, answers: Tensor) -> Tensor:
        outputs = self.layer(DATA + inputs) * weights
        return torch.where(answers[:, None], outputs, 2 * outputs)


class Words(nn.Module):
    """Integers in, nothing else: `(batch, time)` words to `(batch, 3)`."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, OUTPUTS)

    def forward(self, ids: Tensor) -> Tensor:
        return self.last(self.words(ids).mean(1))


class Cast(nn.Module):
    """A network that computes in another dtype than its inputs and outputs have."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner.to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.to(self.dtype)).to(x.dtype)


class Outward(nn.Module):
    """Returns float32 whatever autocast made of the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = normalized()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).float()
