"""The table that is split: breast cancer in Wisconsin, as scikit-learn ships it."""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor

from roomgrad_split.contract import LEFT, RIGHT, TABLE_ROWS

COLUMNS = {LEFT: range(15), RIGHT: range(15, 30)}
HELD_OUT = np.arange(0, TABLE_ROWS, 5)
TRAINED = np.setdiff1d(np.arange(TABLE_ROWS), HELD_OUT)


def features(owner: str) -> Tensor:
    """Return the columns of an owner, float32 `(569, 15)`, standardized by the trained rows."""
    values = load_breast_cancer().data[:, COLUMNS[owner]]
    trained = values[TRAINED]
    return torch.tensor((values - trained.mean(0)) / trained.std(0), dtype=torch.float32)


def labels() -> Tensor:
    """Return 1 for a benign and 0 for a malignant tumor, float32 `(569,)`."""
    return torch.tensor(load_breast_cancer().target, dtype=torch.float32)


def batch(seed: int, number: int, size: int) -> np.ndarray:
    """Return the rows of batch `number`, int64 `(size,)`; the last of an epoch may have fewer."""
    epoch, at = divmod(number, batches(size))
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return random.permutation(TRAINED)[at * size : (at + 1) * size]


def batches(size: int) -> int:
    """Return how many batches an epoch has."""
    return -(-len(TRAINED) // size)
