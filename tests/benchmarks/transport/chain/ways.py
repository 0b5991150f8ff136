"""The six-hop chain: what each component receives, and where it sends it."""

from __future__ import annotations

import json
import threading
import time

import numpy as np

TRAINER, CONTROL, SIMULATOR = "trainer", "controlmodel", "simulator"
COMPONENTS = (SIMULATOR, CONTROL, TRAINER)
FORWARD, GRADIENT = "FORWARD", "GRADIENT"
LAST = ("input", GRADIENT)  # when the trainer receives it, a round is over

WAYS = {
    CONTROL: {("input", FORWARD): ("model", FORWARD), ("model", GRADIENT): ("input", GRADIENT)},
    SIMULATOR: {("model", FORWARD): ("output", FORWARD), ("output", GRADIENT): ("model", GRADIENT)},
    TRAINER: {("output", FORWARD): ("output", GRADIENT), LAST: ("input", FORWARD)},
}
BATCH = np.arange(200, dtype="<f4").reshape(100, 2) / 7


class Meter:
    """Counts rounds, and prints how many, four times a second."""

    def __init__(self) -> None:
        self.rounds = 0
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        while True:
            time.sleep(0.25)
            print(json.dumps({"rounds": self.rounds, "at": time.monotonic()}), flush=True)
