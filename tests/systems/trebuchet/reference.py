"""The trebuchet's training in one process: the same code as the components', without rooms."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from roomgrad import weights
from roomgrad.models import ForwardPass
from roomgrad.tensor_files import is_training_state
from roomgrad_trebuchet.controlmodel.handlers import component
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.simulator import head, physics
from roomgrad_trebuchet.trainer.batches import batch, squared_error


@dataclass(frozen=True)
class Trained:
    """What a training left: the model's state; per step the mean miss and its end."""

    state: bytes
    misses: list[float]
    ended: list[float]

    def seconds_per_step(self, warm_up: int) -> float:
        """Wall time of a step, after the first `warm_up`."""
        return (self.ended[-1] - self.ended[warm_up]) / (len(self.ended) - 1 - warm_up)

    @property
    def sha256(self) -> str:
        return weights_sha256(self.state)


def weights_sha256(state: bytes) -> str:
    """SHA-256 of the parameter bytes in name order, as `roomgrad run --json` reports it."""
    found = [each for each in weights.read(state) if not is_training_state(each.name)]
    return weights.sha256(found)


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
    model = component.make_model(settings)
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
        model.apply(model.prepare(of_parameters, made, moved_on=False, staleness=0))
        lap("step")
        misses.append(miss)
        ended.append(time.perf_counter())
    return Trained(bytes(model.dump()), misses, ended)
