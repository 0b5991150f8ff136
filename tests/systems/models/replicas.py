"""Processes that compute: replicas of a model, and the training in one process beside them.

Each is forked, by the server of `tests.forked`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from roomgrad import Component, RuntimeSettings, backprop
from roomgrad import log as logs
from roomgrad.inspect import models
from roomgrad.learning import TorchModel, fix_threads
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.runtime.model import log
from roomgrad.runtime.replica import Replica
from tests.forked import FORK_SERVER, LIBRARIES
from tests.systems.models import reference
from tests.systems.models.reference import Result
from tests.systems.models.refused import REFUSING
from tests.systems.models.zoo import CASES, ENTER, LEAVE, MODEL, Case

STEPS = 50
EVERY = CASES | REFUSING
FORK_SERVER.set_forkserver_preload([*LIBRARIES, __name__])


def component(case: Case) -> Component:
    """Return the component that answers forward passes and learns from gradients."""

    handlers = backprop.handlers(ENTER, LEAVE, inputs=tuple(case.inputs))
    return Component(
        MODEL, case.contract(), RuntimeSettings, handlers, model=lambda _: make_model(case)
    )


def make_model(case: Case, made: list[Any] | None = None) -> TorchModel:
    """Return the model of a case; append its optimizer and scheduler to `made`."""
    network, parts = case.make_network(), made if made is not None else []

    def keep(part: Any) -> Any:
        parts.append(part)
        return part

    scheduler = case.scheduler
    return TorchModel(
        network,
        lambda parameters: keep(case.optimizer(network, parameters)),
        scheduler=scheduler and (lambda optimizer: keep(scheduler(optimizer))),
        max_grad_norm=case.max_grad_norm,
        accumulate=case.accumulate,
        autocast=case.autocast,
        example=case.example(),
    )


# in the processes


def serve(case: Case, options: RuntimeSettings, url: str, records: str, go: Connection) -> None:
    """Run a replica as soon as `go` says so, until the process is killed.

    records: the kind of its step records; of itself it writes gradients, which are small here.
    """
    if records == log.BATCH:
        log.AT_MOST = 0
    go.recv()
    Replica(component(case), options, url).run()


def stored(case: Case, names: Names, url: str) -> Result:
    """Return the stored state as a model that continues from it holds it."""
    with contextlib.closing(connect(url)) as client:
        found = models.stored(client, names, MODEL)
    assert not found.behind
    made: list[Any] = []
    model = make_model(case, made)
    model.load(found.content)
    weights = {n: reference.to_numpy(t) for n, t in model.network.state_dict().items()}
    return Result(weights, reference.plain(made if len(made) == 2 else [*made, None]))


def main(name: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function with the case of this name, which cannot be sent, on one thread."""
    fix_threads(1)
    logs.setup("error", "pretty")
    function(EVERY[name], *arguments)


# in the test


@cache
def one_process(name: str) -> Result:
    """Return what a case comes to in one process."""
    found: Result = ask(name, reference.train, STEPS)
    return found


def ask(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function of a case returns in a process of its own."""
    receiver, sender = FORK_SERVER.Pipe(duplex=False)
    with receiver, start(name, tell, sender, function, *arguments):
        sender.close()
        return receiver.recv()


def tell(case: Case, sender: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    sender.send(function(case, *arguments))


@contextlib.contextmanager
def start(name: str, function: Callable[..., Any], *arguments: Any) -> Iterator[ForkServerProcess]:
    """Run a function of a case in a process that is killed after the block."""
    process = FORK_SERVER.Process(target=main, args=(name, function, *arguments), daemon=True)
    process.start()
    try:
        yield process
    finally:
        kill(process)


def kill(process: ForkServerProcess) -> None:
    """kill -9."""
    process.kill()
    process.join()
