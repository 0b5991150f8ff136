"""The candidates: melodies that nobody has rated yet, and what the network says of them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.genome import BITS, Genomes, distinct, packed, texts, unpacked

RATINGS = 6


@dataclass(frozen=True)
class Pool:
    """Canonical melodies, different by sound, oldest first. Changes make a new pool.

    genomes: `(n, 128)` uint8. probs: `(n, 6)` float32, all by one version of the network where
    `scored` `(n,)`; scores of another version never stand beside them.
    """

    genomes: Genomes
    probs: NDArray[np.float32]
    scored: NDArray[np.bool_]

    @classmethod
    def empty(cls) -> Pool:
        """No candidates."""
        none = np.empty((0, BITS), np.uint8)
        return cls(none, np.empty((0, RATINGS), np.float32), np.empty(0, bool))

    @classmethod
    def of(cls, record: dict[str, Any] | None) -> Pool:
        """The pool of a record that `record()` made."""
        if record is None:
            return cls.empty()
        return cls(unpacked(record["genomes"]), record["probs"], record["scored"])

    def record(self) -> dict[str, Any]:
        """The pool as a record of a table, packed: 41 bytes a melody."""
        return {"genomes": packed(self.genomes), "probs": self.probs, "scored": self.scored}

    def __len__(self) -> int:
        return len(self.genomes)

    def add(self, melodies: Genomes, limit: int) -> Pool:
        """With canonical melodies `(m, 128)` that it lacks, not scored; the oldest leave."""
        known, different = set(texts(self.genomes)), distinct(melodies)
        fresh = [i for i, n in enumerate(texts(melodies)) if different[i] and n not in known]
        none = np.zeros((len(fresh), RATINGS), np.float32)
        grown = Pool(
            np.concatenate([self.genomes, melodies[fresh]]),
            np.concatenate([self.probs, none]),
            np.concatenate([self.scored, np.zeros(len(fresh), bool)]),
        )
        return grown.only(np.arange(max(0, len(grown) - limit), len(grown)))

    def score(self, melodies: Genomes, probs: NDArray[np.float32]) -> Pool:
        """With the PROBS `(m, 6)` of those of the melodies that it holds."""
        place = {name: i for i, name in enumerate(texts(self.genomes))}
        pairs = [(place[n], j) for j, n in enumerate(texts(melodies)) if n in place]
        mine, theirs = [i for i, _ in pairs], [j for _, j in pairs]
        all_probs, scored = self.probs.copy(), self.scored.copy()
        all_probs[mine], scored[mine] = probs[theirs], True
        return Pool(self.genomes, all_probs, scored)

    def unscored(self) -> Pool:
        """The same melodies, of which nothing is known: the network has changed."""
        return Pool(self.genomes, self.probs, np.zeros(len(self), bool))

    def without(self, names: Container[str]) -> Pool:
        """Without these melodies, named by their 128 characters."""
        keep = [i for i, name in enumerate(texts(self.genomes)) if name not in names]
        return self.only(np.array(keep, np.int64))

    def only(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Pool:
        """The chosen ones, in their order."""
        return Pool(self.genomes[chosen], self.probs[chosen], self.scored[chosen])
