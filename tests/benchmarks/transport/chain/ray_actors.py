"""Ray: an actor for each component, in a process of its own; results pass from actor to actor."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.benchmarks.transport.chain.ways import BATCH, CONTROL, SIMULATOR, Meter


def ray_actors(_component: str, _url: str) -> None:
    """Run the trainer, which makes the other two, until the process is killed."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    actor: Any = ray.remote(num_cpus=0)(_Actor)
    control, simulator = (
        actor.options(name=CONTROL).remote(),
        actor.options(name=SIMULATOR).remote(),
    )
    ray.get([control.forward.remote(BATCH), simulator.forward.remote(BATCH)])
    meter = Meter()
    while True:
        shot = ray.get(simulator.forward.remote(control.forward.remote(BATCH)))
        ray.get(control.backward.remote(simulator.backward.remote(shot)))
        meter.rounds += 1


class _Actor:
    def forward(self, array: Any) -> Any:
        return np.asarray(array)

    def backward(self, array: Any) -> Any:
        return np.asarray(array)
