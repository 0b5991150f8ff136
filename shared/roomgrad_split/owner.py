"""An owner of features: embeds the rows that it is asked for, and learns from the gradient."""

import torch
from torch import Tensor, nn

from roomgrad import Component, RuntimeSettings, backprop
from roomgrad.learning import TorchModel
from roomgrad_split.contract import EMBEDDED, ROWS, SPLIT, WIDTH
from roomgrad_split.table import features


class OwnerNetwork(nn.Module):
    """A network of 15-16-8 units, which reads the columns itself: rows in, embeddings out."""

    def __init__(self, columns: Tensor) -> None:
        super().__init__()
        self.columns = columns  # no buffer: these are never stored with the weights
        self.layers = nn.Sequential(
            nn.Linear(columns.shape[1], 16), nn.Tanh(), nn.Linear(16, WIDTH)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Return `(batch, 8)` embeddings of `(batch,)` rows."""
        embeddings: Tensor = self.layers(self.columns[rows])
        return embeddings


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer that all three components use."""
    return torch.optim.Adam(parameters, lr=3e-3)


def owner(name: str) -> Component:
    """Return the component of an owner."""
    return Component(
        name,
        SPLIT,
        RuntimeSettings,
        handlers=backprop.handlers(ROWS, EMBEDDED),
        model=lambda _: TorchModel(OwnerNetwork(features(name)), adam),
    )
