"""The process of a component, or of the members of an ensemble: settings, log, signals."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

import structlog

from roomgrad import log as logs
from roomgrad.component import Component
from roomgrad.ensembles import chosen, ensembles
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError
from roomgrad.flags import load
from roomgrad.redis.server import address
from roomgrad.redis.server_address import AnyAddress
from roomgrad.runtime import health_file
from roomgrad.runtime.replica import LOST, Replica
from roomgrad.settings import RuntimeSettings

log = structlog.get_logger("roomgrad")

MEMBER = "roomgrad_member"  # attribute of an error: the component whose replica it ended


def run(
    component: Component | Sequence[Component],
    settings: RuntimeSettings | None = None,
    url: AnyAddress = "",
) -> NoReturn:
    """Run one replica of a component or of each member, and end the process; see `roomgrad.main`.

    settings: those of this process unless given. url: the server's address, if not theirs.
    """
    components = [component] if isinstance(component, Component) else list(component)
    name = components[0].name
    try:
        settings = settings or load(components[0].settings)
        logs.setup(settings.log_level, settings.log_format)
        url = address(url or settings.redis_url, settings.redis_ca_file)
        replicas = []
        for each in _chosen(components, settings.member):
            name = each.name
            replicas.append(Replica(each, settings, url))
        _stop_on_signal(replicas, settings.stop_s)
        with health_file.renewed(settings.health_file, lambda: _health(replicas)):
            code = replicas[0].run() if len(replicas) == 1 else _run_all(replicas)
    except RoomgradError as error:
        print(f"{getattr(error, MEMBER, name)}: {error}", file=sys.stderr)
        code = 2 if isinstance(error, SettingsError | RunMismatch) else 1
    gc.freeze()  # else Python collects all that torch has loaded, once more: 0.4 s of CPU
    sys.exit(code)


def _health(replicas: Sequence[Replica]) -> health_file.Health:
    return health_file.worst(each.health() for each in replicas)


def _chosen(components: Sequence[Component], text: str) -> Sequence[Component]:
    """Return the components that this process runs. Raises SettingsError."""
    names = [each.name for each in components]
    if len(names) == 1 and not text:
        return components
    if len(names) == 1 and not ensembles(names):
        raise SettingsError(f"--member {text}: {names[0]} is no ensemble")
    wanted = chosen(names, text)
    return [each for each in components if each.name in wanted]


def _run_all(replicas: Sequence[Replica]) -> int:
    """Serve each replica in a thread until all have ended; return the exit code.

    When one ends, for example because its model cannot be loaded, the others are stopped: whatever
    started the process starts all of them again. Raises what ended the first.
    """
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def serve(replica: Replica) -> None:
        member = replica.identity.component.name
        logs.bind(component=member)
        try:
            replica.run()
            ended.put(None)
        except BaseException as error:
            setattr(error, MEMBER, member)
            ended.put(error)

    threads = [threading.Thread(target=serve, args=(each,), daemon=True) for each in replicas]
    for thread in threads:
        thread.start()
    first = ended.get()
    for replica in replicas:
        replica.stop()
    for thread in threads:
        thread.join()
    if first is not None:
        raise first
    return 0


def _stop_on_signal(replicas: Sequence[Replica], stop_s: float) -> None:
    """Ask replicas to stop on the first SIGTERM or SIGINT, and limit the time that it takes."""
    requested: SimpleQueue[None] = SimpleQueue()  # its `put` is safe in a signal handler

    def stop(_signal: int, _frame: FrameType | None) -> None:
        for replica in replicas:
            replica.stop()
        requested.put(None)

    def end_after_limit() -> None:
        requested.get()
        threading.Event().wait(stop_s)
        _end_now(replicas, stop_s)

    threading.Thread(target=end_after_limit, name="deadline", daemon=True).start()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _end_now(replicas: Sequence[Replica], stop_s: float) -> None:
    """End the process while a handler or an unreachable server still blocks a loop."""
    log.warning("not done in time: unfinished messages are handed back", limit_s=stop_s)
    try:
        for replica in replicas:
            replica.give_up()
    except LOST as error:
        log.warning("the server cannot be reached, so the leases have to expire", reason=str(error))
    os._exit(0)
