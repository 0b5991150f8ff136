"""The training in one process, as a loop without rooms: `... .alone WIDENING THREADS`.

The process prints when its steps end, until it is killed.
"""

from __future__ import annotations

import itertools
import sys

import torch
from torch.nn.functional import mse_loss

from tests.benchmarks.model_size.network import network
from tests.benchmarks.model_size.task import RATE, TREBUCHET, batch
from tests.benchmarks.model_size.ticks import Clock


def widened(widening: int) -> None:
    """Train a network of any size on the loss that costs nothing."""
    model = network(widening)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    clock = Clock()
    for number in itertools.count():
        inputs = torch.from_numpy(batch(number))
        loss = mse_loss(model(inputs), torch.sin(inputs))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        clock.tick()


def trebuchet() -> None:
    """Train the trebuchet's network through its simulator."""
    from roomgrad_trebuchet.controlmodel.model import network as control_network
    from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
    from roomgrad_trebuchet.simulator import head, physics
    from roomgrad_trebuchet.trainer.batches import batch as shots
    from roomgrad_trebuchet.trainer.batches import squared_error

    settings = ControlModelSettings()
    torch.manual_seed(settings.seed)
    model = control_network(settings.preset)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    clock = Clock()
    for number in itertools.count():
        data = shots(settings.seed, number, 100)
        aim = model(torch.from_numpy(data))
        controls = head.controls(aim.detach().numpy())
        shot = physics.shoot(controls.wind, controls.angle_rad, controls.weight_kg)
        jacobian = head.jacobian(shot.d_wind, shot.d_angle, shot.d_weight, controls)
        _, _, gradient = squared_error(shot.distance_m.astype("<f4"), data[:, 1])
        upstream = head.vector_jacobian(gradient, jacobian).astype("<f4")
        optimizer.zero_grad()
        aim.backward(torch.from_numpy(upstream))
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        clock.tick()


if __name__ == "__main__":
    wanted, threads = map(int, sys.argv[1:])
    if threads:
        torch.set_num_threads(threads)
    if wanted == TREBUCHET:
        trebuchet()
    else:
        widened(wanted)
