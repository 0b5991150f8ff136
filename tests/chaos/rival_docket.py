"""The same work with docket: of the queues on Redis streams the one that promises most.

It renews the lease of a task that runs, redelivers those of dead workers, and takes a key once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import redis.asyncio
from docket import Docket, Retry, Worker

from tests.chaos.rivals import CLAIM_S, OWNERS, PARTS, effect

RETRY_S = 1.0  # after a task that failed, and between two attempts to reach the server
ANSWER_S = 5  # without it docket waits for ever on a connection that is half-open


async def declared(number: int) -> None:
    """Stand for a task of another component, of which a sender needs the name alone."""


def tasks_of(component: str, url: str, run: str) -> Docket:
    """Return the tasks of a component, each under the name of what it listens to."""
    tasks = Docket(f"{run}:{component}", f"{url}?socket_timeout={ANSWER_S}")
    tasks.register(declared, names=[hears for hears, _, _ in PARTS[component]])
    return tasks


async def add(tasks: Docket, task: str, number: int) -> None:
    """Add a task under a key, so that docket takes it once while it waits or runs."""
    await tasks.add(task, key=f"{task}-{number}")(number)


async def serve(component: str, url: str, run: str) -> None:
    """docket: a failed task is tried again for ever, one of a dead worker is redelivered."""
    effects: Any = redis.asyncio.Redis.from_url(url)

    def make(log: str, to: str, answers: Docket | None) -> Callable[..., Awaitable[None]]:
        forever = Retry.forever(timedelta(seconds=RETRY_S))

        async def handle(number: int, retry: Retry = forever) -> None:
            if log:
                await effects.xadd(f"{{{run}}}:{log}:log", effect(number))
            if answers is not None:
                await add(answers, to, number)

        return handle

    async with contextlib.AsyncExitStack() as stack:
        own = await stack.enter_async_context(tasks_of(component, url, run))
        for hears, log, to in PARTS[component]:
            answers = None
            if to:
                answers = await stack.enter_async_context(tasks_of(OWNERS[to], url, run))
            own.register(make(log, to, answers), names=[hears])
        worker = Worker(
            own,
            redelivery_timeout=timedelta(seconds=CLAIM_S),
            reconnection_delay=timedelta(seconds=RETRY_S),
        )
        await stack.enter_async_context(worker)
        running = asyncio.create_task(worker.run_forever())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running
