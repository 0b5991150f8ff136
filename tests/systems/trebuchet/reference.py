"""The trebuchet's training in one process: the same code as the components', without rooms."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from safetensors import deserialize

from roomgrad.models import ForwardPass, ModelState
from roomgrad_trebuchet.controlmodel.handlers import make_model
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.simulator import head, physics
from roomgrad_trebuchet.trainer.batches import batch, squared_error


@dataclass(frozen=True)
class Trained:
    """What a training left: weights as safetensors bytes; per step the mean miss and its end."""

    weights: bytes
    misses: list[float]
    ended: list[float]

    def seconds_per_step(self, warm_up: int) -> float:
        """Wall time of a step, after the first `warm_up`."""
        return (self.ended[-1] - self.ended[warm_up]) / (len(self.ended) - 1 - warm_up)

    @property
    def sha256(self) -> str:
        return weights_sha256(self.weights)


def weights_sha256(weights: bytes) -> str:
    """SHA-256 of the parameter bytes in name order, as `roomgrad run --json` reports it."""
    digest = hashlib.sha256()
    for _, tensor in sorted(deserialize(weights)):
        digest.update(bytes(tensor["data"]))
    return digest.hexdigest()


def train(
    steps: int,
    *,
    seed: int = 0,
    preset: str = "learn",
    batch_size: int = 100,
    lap: Callable[[str], None] = lambda part: None,
) -> Trained:
    """Trains for `steps` batches of a seed, one after the other, on one CPU thread.

    lap: told the name of each part of a step when it is done.
    """
    settings = ControlModelSettings(train_steps=steps, seed=seed, preset=preset, threads=1)
    model = make_model(settings)
    weights, optimizer = model.initial()
    model.load(ModelState("0", 0, weights, optimizer))
    weight_head = "plus200" if preset == "original" else "smooth"
    misses, ended = [], []
    for number in range(steps):
        data = batch(seed, number, batch_size)
        lap("batch")
        made = ForwardPass({"DATA": data}, 0, "")
        aim = model.forward(made, "key")["DATA"]
        lap("aim")
        controls = head.controls(aim, weight_head)
        shots = physics.shoot(controls.wind, controls.angle_rad, controls.weight_kg)
        jacobian = head.jacobian(shots.d_wind, shots.d_angle, shots.d_weight, controls)
        lap("shoot")
        _, miss, gradient = squared_error(shots.distance_m.astype("<f4"), data[:, 1])
        lap("loss")
        upstream = head.vector_jacobian(gradient, jacobian).astype("<f4")
        lap("product")
        of_parameters, _ = model.backward("key", made, {"DATA": upstream}, lambda: None)
        lap("backward")
        weights, _ = model.step(of_parameters, made, False, 0)
        lap("step")
        misses.append(miss)
        ended.append(time.perf_counter())
    return Trained(weights, misses, ended)
