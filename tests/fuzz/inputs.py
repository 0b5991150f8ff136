"""The inputs: seeded mutations of valid examples, and what hypothesis generates."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import APART, Target

BY_HYPOTHESIS = 0.02  # of all inputs: it takes its time to think

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
NAMES = ("ID", "ROOT_ID", "TYPE", "DATA", "MODEL_STATUS", "v", "TO_ROOM", "WHO", "RATINGS", "entry")
NAMES += ("genome", "rating", "rater", "at", "data", "annotations", "components", "__metadata__")
objects = st.dictionaries(st.sampled_from(NAMES), values, max_size=6)


def thought_of(target: Target) -> st.SearchStrategy[bytes]:
    """Return a strategy: any bytes, JSON with known names, reordered pieces of examples."""
    pieces = [each[i : i + 40] for each in target.examples for i in range(0, len(each), 40)]
    texts = objects.map(lambda body: json.dumps(body).encode(errors="surrogatepass"))
    entries = st.tuples(texts, st.binary(max_size=40)).map(
        lambda both: APART.join((b"m", both[0], b"DATA", both[1]))
    )
    return (
        st.binary(max_size=300)
        | texts
        | entries
        | st.lists(st.sampled_from(pieces) | st.binary(max_size=8), max_size=12).map(b"".join)
    )


def feed(target: Target, count: int, number: int, run: Callable[[bytes], None]) -> None:
    """Yield inputs for a target; the same ones for the same seed."""
    thought = max(1, round(count * BY_HYPOTHESIS))

    @seed(number)
    @settings(
        max_examples=thought,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(thought_of(target))
    def think(data: bytes) -> None:
        run(data)

    for example in target.examples:
        run(example)
    think()
    chance = random.Random(f"{target.name} {number}")
    for _ in range(count - thought - len(target.examples)):
        run(mutated(target.examples, chance))
