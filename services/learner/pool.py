"""The candidates: melodies without a label, and the network's scores of them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.contract import HEADS
from roomgrad_melody.genome import BITS, Genomes, distinct, packed, texts, unpacked


@dataclass(frozen=True)
class Pool:
    """Distinct canonical melodies, oldest first. Immutable: each change returns a new pool.

    genomes: uint8 `(n, 128)`. scores: float32 `(n, 16)`, valid where `scored` `(n,)` is True, and
    all by one version of the network.
    """

    genomes: Genomes
    scores: NDArray[np.float32]
    scored: NDArray[np.bool_]

    @classmethod
    def empty(cls) -> Pool:
        """Return a pool without candidates."""
        none = np.empty((0, BITS), np.uint8)
        return cls(none, np.empty((0, HEADS), np.float32), np.empty(0, bool))

    @classmethod
    def of(cls, record: dict[str, Any] | None) -> Pool:
        """Return the pool of a record that `record()` made; an empty one for None."""
        if record is None:
            return cls.empty()
        return cls(unpacked(record["genomes"]), record["scores"], record["scored"])

    def record(self) -> dict[str, Any]:
        """Return the pool as a record of a table, packed: 81 bytes per melody."""
        return {"genomes": packed(self.genomes), "scores": self.scores, "scored": self.scored}

    def __len__(self) -> int:
        return len(self.genomes)

    def add(self, melodies: Genomes, limit: int) -> Pool:
        """Add new canonical melodies `(m, 128)`, unscored; drop the oldest above `limit`."""
        known, different = set(texts(self.genomes)), distinct(melodies)
        fresh = [i for i, n in enumerate(texts(melodies)) if different[i] and n not in known]
        none = np.zeros((len(fresh), HEADS), np.float32)
        grown = Pool(
            np.concatenate([self.genomes, melodies[fresh]]),
            np.concatenate([self.scores, none]),
            np.concatenate([self.scored, np.zeros(len(fresh), bool)]),
        )
        return grown.only(np.arange(max(0, len(grown) - limit), len(grown)))

    def score(self, melodies: Genomes, scores: NDArray[np.float32]) -> Pool:
        """Set the SCORES `(m, 16)` of those melodies that it contains."""
        place = {name: i for i, name in enumerate(texts(self.genomes))}
        pairs = [(place[n], j) for j, n in enumerate(texts(melodies)) if n in place]
        mine, theirs = [i for i, _ in pairs], [j for _, j in pairs]
        all_scores, scored = self.scores.copy(), self.scored.copy()
        all_scores[mine], scored[mine] = scores[theirs], True
        return Pool(self.genomes, all_scores, scored)

    def find(self, name: str) -> NDArray[np.float32] | None:
        """Return the scores `(16,)` of a melody, named by its 128 characters; None if unknown."""
        place = {one: i for i, one in enumerate(texts(self.genomes))}.get(name)
        return self.scores[place] if place is not None and self.scored[place] else None

    def unscored(self) -> Pool:
        """Mark all melodies as unscored, as the network has changed."""
        return Pool(self.genomes, self.scores, np.zeros(len(self), bool))

    def without(self, names: Container[str]) -> Pool:
        """Remove these melodies, named by their 128 characters."""
        keep = [i for i, name in enumerate(texts(self.genomes)) if name not in names]
        return self.only(np.array(keep, np.int64))

    def only(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Pool:
        """Select melodies by indices or a mask."""
        return Pool(self.genomes[chosen], self.scores[chosen], self.scored[chosen])
