"""The ledger: what counts as lost or doubled, and the hash of the weights."""

from __future__ import annotations

import hashlib
import math
from contextlib import closing

import numpy as np
import pytest
import redis
from safetensors.numpy import save

from roomgrad import weights
from roomgrad.codec import pack
from roomgrad.names import Names
from roomgrad.testing import throwaway_server
from roomgrad_trebuchet.contract import TRAINER
from roomgrad_trebuchet.ledger import Ledger, progress


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

    def hashed(stored: bytes) -> str:
        return weights.sha256(weights.read(stored))

    assert hashed(save({"b": second, "a": first})) == expected
    assert hashed(save({"a": first, "b": second}, metadata={"step": "3"})) == expected
    assert hashed(save({"a": first + 1, "b": second})) != expected


@pytest.mark.parametrize("stored", [b'{"step":3,"loss":null,"miss_m":null}', None])
def test_a_loss_that_is_not_a_number_is_said_in_words(stored: bytes | None) -> None:
    """As components store it now, and as null, which they stored before."""
    record = stored or pack({"step": 3, "loss": math.nan, "miss_m": math.nan})
    with throwaway_server() as server, closing(redis.Redis.from_url(server.url)) as client:
        names = Names("diverged")
        client.hset(names.counters(TRAINER), "sent", 5)
        client.hset(names.table("losses"), "1", record)
        found = progress(client, names)
        assert found is not None
        assert found.details == ("loss not a number",)
        client.hset(names.table("losses"), "1", pack({"step": 3, "loss": math.inf, "miss_m": 2.5}))
        assert progress(client, names).details == ("loss infinity", "mean miss 2.50 m")
