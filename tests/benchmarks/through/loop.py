"""The training loop of a contestant: it prints what a step takes, or what a killed component costs.

    python loop.py {local,through,raw,tesseract,ray} ADDRESS SECONDS

One file for all, since the Python of the rival does not have roomgrad.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 100
DISTANCE_M = 60.0
Cannon = Callable[[Tensor], Tensor]


def local(_: str) -> Cannon:
    return lambda controls: (25 + 5 * controls[:, 2]) ** 2 / 9.81 + controls[:, 0]


def through(url: str) -> Cannon:
    from roomgrad.torch import Through
    from tests.benchmarks.through.cannon import CANNON

    return Through(CANNON, "aim", "shot", redis_url=url, timeout_s=30)


def tesseract(url: str) -> Cannon:
    from tesseract_core import Tesseract
    from tesseract_torch import apply_tesseract

    served = Tesseract.from_url(url)
    return lambda controls: apply_tesseract(served, {"controls": controls})["distance"]


def actor(_: str) -> Cannon:
    import ray
    from ray_actor import Cannon, Shot

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    started = Cannon.remote()
    PROCESSES.append(ray.get(started.pid.remote()))
    return lambda controls: Shot.apply(controls, started)


def training(cannon: Cannon) -> Callable[[], float]:
    """Return one step of a network that learns to aim."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = torch.nn.Linear(3, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-5)
    inputs = torch.rand(ROWS, 3)

    def step() -> float:
        optimizer.zero_grad()
        loss = (cannon(net(inputs)) - DISTANCE_M).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def raw(url: str) -> Callable[[], float]:
    """Return two round trips of ours with arrays of the same size, and nothing else."""
    import numpy as np

    from roomgrad.messages import Message
    from roomgrad.redis.client import Client
    from roomgrad.redis.guest_client import GuestClient
    from tests.benchmarks.through.cannon import AIM, CANNON, GRADIENT, SHOT

    guest = GuestClient(Client(CANNON, "cannon", url))
    controls, ones = np.ones((ROWS, 3), "<f4"), np.ones(ROWS, "<f4")

    def step() -> float:
        guest.open(root := Message.open(AIM, controls), SHOT)
        answer = guest.wait(root.root_id)
        guest.send(answer.reply(SHOT, ones, type=GRADIENT, id=answer.id))
        return float(guest.wait(root.root_id, GRADIENT).array[0, 0])

    return step


KINDS = {"local": local, "through": through, "tesseract": tesseract, "ray": actor}
PROCESSES: list[int] = []  # that the loop itself has started


def main(kind: str, address: str, seconds: float) -> None:
    """Print how long steps take; an error ends the loop, and is printed."""
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Ray prints, too
    step = raw(address) if kind == "raw" else training(KINDS[kind](address))
    for _ in range(20):
        step()
    print(json.dumps({"processes": PROCESSES}), file=results)
    took, losses, error = [], [], ""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not error:
        began = time.perf_counter()
        try:
            losses.append(step())
        except Exception as caught:
            error = type(caught).__name__
        took.append(time.perf_counter() - began)
    found = {"steps": len(took), "median_ms": statistics.median(took) * 1000, "error": error}
    found |= {"longest_s": max(took), "loss": losses[-1] if losses else None}
    print(json.dumps(found), file=results)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
