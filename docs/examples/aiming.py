import torch
from torch import Tensor, nn


class Net(nn.Module):
    """`(batch, 2)` wind and target in, `(batch, 3)` wind and two logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], self.layers(x / 50 - 1)], dim=1)
