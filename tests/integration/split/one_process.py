"""The same network in one process, with one backward pass and without rooms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from roomgrad.learning.tensors import initialized
from roomgrad_split.contract import HEAD, OWNERS
from roomgrad_split.labelhead.handlers import HeadNetwork
from roomgrad_split.owner import OwnerNetwork, adam
from roomgrad_split.table import HELD_OUT, batch, batches, features, labels

BATCH = 32


@dataclass
class OneProcess:
    """What a training in one process gives."""

    networks: dict[str, nn.Module]
    losses: list[float]
    accuracies: list[float]

    def weights(self, name: str) -> dict[str, bytes]:
        """Return the bytes of each parameter of a network."""
        found = self.networks[name].state_dict().items()
        return {key: each.numpy().tobytes() for key, each in found}


def train(epochs: int) -> OneProcess:
    """Train from seed 0, which each component begins with."""
    networks: dict[str, nn.Module] = {}
    for name in (*OWNERS, HEAD):
        with initialized(0, 1):
            networks[name] = HeadNetwork() if name == HEAD else OwnerNetwork(features(name))
    found = OneProcess(networks, [], [])
    optimizers = [adam(list(each.parameters())) for each in networks.values()]
    for number in range(epochs * batches(BATCH)):
        rows = batch(0, number, BATCH)
        loss = binary_cross_entropy_with_logits(logits(networks, rows), labels()[rows])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        found.losses.append(loss.item())
        if (number + 1) % batches(BATCH) == 0:
            with torch.no_grad():
                right = (logits(networks, HELD_OUT) > 0) == labels()[HELD_OUT].bool()
            found.accuracies.append(right.double().mean().item())
    return found


def logits(networks: dict[str, nn.Module], rows: object) -> torch.Tensor:
    """Pass rows of the table through all three networks."""
    numbers = torch.as_tensor(rows)
    result: torch.Tensor = networks[HEAD](**{name: networks[name](numbers) for name in OWNERS})
    return result
