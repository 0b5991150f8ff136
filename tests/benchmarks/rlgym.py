"""How well and how fast the ensemble learns CartPole-v1, seed by seed.

    python -m tests.benchmarks.rlgym [--seeds 0 1 2 3 4] [--members 20] [--aim 475] [--kill]

The mean return of a validation, 128 episodes, is to reach the aim within 300 s. With --kill all
members or the environments are killed every 20,000 to 60,000 steps. If stable-baselines3 is
installed, its A2C then takes as many steps in as many environments, in one process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import redis

from roomgrad import exact_json
from roomgrad.names import Names
from roomgrad.redis import heartbeats
from roomgrad.redis.server import connect
from roomgrad.testing import throwaway_server
from roomgrad_rlgym.contract import CARTPOLE, ENVS

LIMIT_S = 300.0
BETWEEN_KILLS = (10_000, 30_000)  # steps of the environments: a slow machine has as many kills
RUN = "rlgym"


class Killer(threading.Thread):
    """Kills a process of the run again and again, until it is stopped."""

    def __init__(self, client: redis.Redis, seed: int) -> None:
        super().__init__(daemon=True)
        self._client, self._random = client, random.Random(seed)
        self.stopped = threading.Event()
        self.killed = 0

    def run(self) -> None:
        due = self._random.randint(*BETWEEN_KILLS)
        while not self.stopped.wait(0.1):
            if (steps := self._steps()) < due:
                continue
            name = self._random.choice(("policy.0", CARTPOLE))
            for each in heartbeats.find(self._client, Names(RUN)):
                if each.component == name and not self.stopped.is_set():
                    os.kill(each.pid, signal.SIGKILL)
                    self.killed += 1
                    due = steps + self._random.randint(*BETWEEN_KILLS)

    def _steps(self) -> int:
        return int(self._client.hget(Names(RUN).counters(CARTPOLE), "steps") or 0)  # type: ignore[arg-type]


def trained(seed: int, members: int, aim: float = 475.0, *, kill: bool = False) -> dict[str, Any]:
    """Train an ensemble; return its mean return, and how long that took."""
    with throwaway_server() as server, tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "roomgrad", "run", "rlgym", "--members", str(members)]
        command += ["--run", RUN, "--redis", server.url, "--set", f"control.aim={aim}"]
        began = time.monotonic()
        with connect(server.url) as client:
            killer = Killer(client, seed)
            if kill:
                killer.start()
            subprocess.run(
                command,
                check=True,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "ROOMGRAD_SEED": str(seed), "ROOMGRAD_STATE": folder},
            )
            killer.stopped.set()
            seconds = time.monotonic() - began
            names = Names(RUN)
            found = client.hgetall(names.table("generations")).values()
            newest = max(map(exact_json.loads, found), key=lambda each: each["generation"])
            counters = client.hgetall(names.counters(CARTPOLE))
            return {
                **newest,
                "seed": seed,
                "seconds": seconds,
                "episodes": int(counters[b"episodes"]),
                "steps": int(counters[b"steps"]),
                "dead_letters": client.xlen(names.dead()),
                "killed": killer.killed,
            }


def alone(seed: int, steps: int) -> dict[str, Any]:
    """Return how long A2C of stable-baselines3 takes for as many steps."""
    import torch
    from stable_baselines3 import A2C
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    class Ended(BaseCallback):  # type: ignore[misc, unused-ignore]
        count = 0

        def _on_step(self) -> bool:
            self.count += sum("episode" in info for info in self.locals["infos"])
            return True

    torch.set_num_threads(1)
    environments = make_vec_env("CartPole-v1", n_envs=ENVS, seed=seed)
    model, ended = A2C("MlpPolicy", environments, seed=seed, device="cpu"), Ended()
    began = time.monotonic()
    model.learn(steps, callback=ended)
    seconds = time.monotonic() - began
    return {"seconds": seconds, "episodes": ended.count, "steps": model.num_timesteps}


def rates(found: dict[str, Any]) -> str:
    return (
        f"{found['seconds']:.0f} s, {found['episodes'] / found['seconds']:.1f} episodes/s, "
        f"{found['steps'] / found['seconds']:,.0f} steps/s"
    )


def main() -> None:
    """Print a line per training; exit 1 if one does not reach the aim in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--aim", type=float, default=475.0)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = []
    for seed in arguments.seeds:
        result = trained(seed, arguments.members, arguments.aim, kill=arguments.kill)
        print(
            f"seed {seed}: mean return {result['mean_return']:.1f} after {result['generation']} "
            f"generations, {rates(result)}, {result['killed']} kills, "
            f"load {os.getloadavg()[0]:.1f}",
            file=sys.stderr,
            flush=True,
        )
        if importlib.util.find_spec("stable_baselines3"):
            result["a2c"] = alone(seed, result["steps"])
            print(f"  A2C alone: {rates(result['a2c'])}", file=sys.stderr, flush=True)
        results.append(result)
    if arguments.json:
        print(json.dumps(results))
    within = [
        each["mean_return"] >= arguments.aim and each["seconds"] <= LIMIT_S for each in results
    ]
    sys.exit(0 if all(within) else 1)


if __name__ == "__main__":
    main()
