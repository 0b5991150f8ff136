"""What an older release stored of a model: weights and optimizer state, as two files."""

from __future__ import annotations

from roomgrad.errors import ModelError
from roomgrad.models import Trainable


def load(trainable: Trainable, weights: bytes, optimizer: bytes = b"") -> None:
    """Continue from such files. Raises ModelError if they are of another network."""
    from roomgrad.learning.files import merged

    try:
        trainable.load(merged(weights, optimizer))
    except ValueError as error:
        raise ModelError(
            f"the model that an older release wrote cannot be read: {error}"
        ) from error
