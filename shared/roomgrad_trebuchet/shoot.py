"""Ask a running system to shoot: pairs of wind and target in, shots out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad.errors import NoAnswer
from roomgrad.redis.client import Client
from roomgrad.rooms import ModelStatus
from roomgrad_trebuchet.contract import FORWARD, INPUT, OUTPUT

Float32 = NDArray[np.float32]

HELD_OUT_SEED = 20_000_101  # never a trainer's seed: those draw from (seed, batch number)
BATCH = 1000

TRAINED = {"wind": (-20.0, 20.0, "m/s"), "target": (20.0, 100.0, "m")}
"""What the trainer draws pairs from: wind up to four standard deviations, targets uniformly."""


@dataclass(frozen=True)
class Shots:
    """Shots of the trained trebuchet; every field has the shape `(batch,)` and is float32."""

    wind: Float32
    """m/s"""
    target: Float32
    """m"""
    angle: Float32
    """degrees"""
    weight: Float32
    """kg"""
    distance: Float32
    """m"""
    status: NDArray[np.int8]
    """0, or the simulator's code for why the trebuchet did not shoot."""
    trajectories: Float32 | None = None
    """`(batch, frames, 2)`: x and y in m from the pivot."""

    @property
    def miss(self) -> Float32:
        """Distance between each shot and its target, in m."""
        miss: Float32 = np.abs(self.distance - self.target)
        return miss

    def row(self, index: int) -> dict[str, float | int]:
        """Return one shot by the names in the printed answer and the CSV file."""
        return {
            "angle_deg": round(float(self.angle[index]), 3),
            "weight_kg": round(float(self.weight[index]), 3),
            "distance_m": round(float(self.distance[index]), 3),
            "miss_m": round(float(self.miss[index]), 3),
            "status": int(self.status[index]),
        }


def ask(client: Client, pairs: Float32, *, frames: int = 0, timeout_s: float = 10.0) -> Shots:
    """Return shots at `pairs`, `(batch, 2)` of wind in m/s and target in m. Raises NoAnswer."""
    fields = {"FRAMES": np.array(frames, dtype="<i8")} if frames else {}
    answer = client.ask(
        INPUT,
        FORWARD,
        np.ascontiguousarray(pairs, dtype="<f4"),
        answer=(OUTPUT, FORWARD),
        status=ModelStatus.VALIDATE,
        timeout_s=timeout_s,
        fields=fields,
    )
    return shots_of(pairs, answer.data, answer.fields)


def ask_many(client: Client, pairs: Float32, *, timeout_s: float = 10.0) -> list[Shots]:
    """Ask in batches, so that the messages stay small."""
    starts = range(0, len(pairs), BATCH)
    return [ask(client, pairs[at : at + BATCH], timeout_s=timeout_s) for at in starts]


def outside(wind: float, target: float) -> str:
    """Return a remark on a question outside of what was trained; empty for any other."""
    found = [
        f"{name} {value:g} {unit} is outside of {low:g} to {high:g} {unit}"
        for value, (name, (low, high, unit)) in zip((wind, target), TRAINED.items(), strict=True)
        if not low <= value <= high
    ]
    return f"{' and '.join(found)}, where it was trained: the shot is a guess" if found else ""


def held_out(count: int = 1000) -> Float32:
    """Return pairs `(count, 2)` that no training sees, always the same."""
    random = np.random.default_rng(HELD_OUT_SEED)
    wind = random.standard_normal(count) * 5.0
    target = random.uniform(20.0, 100.0, count)
    return np.stack([wind, target], axis=1).astype(np.float32)


def spread(pairs: Float32, count: int = 8) -> Float32:
    """Return a few pairs, `(count, 2)`, with targets far apart, the nearest first."""
    wanted = np.linspace(24.0, 96.0, count)
    chosen = [int(np.abs(pairs[:, 1] - each).argmin()) for each in wanted]
    return pairs[chosen]


def shots_of(pairs: Float32, distance: Any, fields: Any) -> Shots:
    """Return the shots in an answer. Raises NoAnswer if a field is missing."""
    if missing := [name for name in ("ANGLE", "WEIGHT", "STATUS") if name not in fields]:
        raise NoAnswer(f"the simulator's answer has no {', '.join(missing)}: update or replace it")
    return Shots(
        wind=pairs[:, 0],
        target=pairs[:, 1],
        angle=fields["ANGLE"],
        weight=fields["WEIGHT"],
        distance=distance,
        status=fields["STATUS"],
        trajectories=fields.get("TRAJECTORIES"),
    )
