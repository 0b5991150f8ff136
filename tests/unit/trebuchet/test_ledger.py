"""The ledger: what counts as lost or doubled, and the hash of the weights."""

from __future__ import annotations

import hashlib

import numpy as np
from safetensors.numpy import save

from roomgrad_trebuchet.ledger import Ledger, hash_parameters


def test_batches_that_are_nowhere_are_lost() -> None:
    """Every batch is finished, open or dead."""
    assert Ledger(sent=10, finished=7, dead=1, open=2).lost == 0
    assert Ledger(sent=10, finished=7, dead=1, open=1).lost == 1


def test_steps_that_were_applied_twice_are_duplicates() -> None:
    """The second counts applications, the first counts roots."""
    assert Ledger(applied=10, distinct=10).duplicates == 0
    assert Ledger(applied=11, distinct=10).duplicates == 1


def test_weights_are_hashed_in_the_order_of_their_names() -> None:
    """The file's own order and its metadata do not matter, only names and values do."""
    first, second = np.arange(4, dtype="<f4"), np.ones((2, 3), dtype="<f8")
    expected = hashlib.sha256(first.tobytes() + second.tobytes()).hexdigest()
    assert hash_parameters(save({"b": second, "a": first})) == expected
    assert hash_parameters(save({"a": first, "b": second}, metadata={"step": "3"})) == expected
    assert hash_parameters(save({"a": first + 1, "b": second})) != expected
