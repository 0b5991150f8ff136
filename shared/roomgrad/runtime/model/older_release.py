"""What an older release stored of a model: weights and optimizer state, as two files."""

from __future__ import annotations

from roomgrad.errors import ModelError
from roomgrad.models import Trainable


def load(trainable: Trainable, weights: bytes, optimizer: bytes = b"", steps: int = 0) -> None:
    """Continue from such files, of a model that has taken so many steps.

    Raises ModelError if they are of another network.
    """
    from roomgrad.learning.files import merged

    try:
        trainable.load(merged(weights, optimizer, steps))
    except ValueError as error:
        raise ModelError(
            f"the model that an older release wrote cannot be read: {error}"
        ) from error
