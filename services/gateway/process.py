"""The gateway as a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

import structlog

from roomgrad import log as logs
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError, TLSError
from roomgrad.messages import new_id
from roomgrad.names import GATEWAY, Names
from roomgrad.redis.addresses import for_run
from roomgrad.redis.registry import system_of_run, systems
from roomgrad.redis.server import address, connect
from roomgrad.rooms import System
from roomgrad.runtime import runs
from roomgrad.runtime.observe.observers import metrics
from roomgrad.settings import load

from .bounds import Bounds
from .delivery import Delivery
from .door import Door
from .ears import Ears
from .holder import Holder
from .hub import Hub
from .link import LOST, Link
from .members import Members
from .rooms import Rooms
from .settings import GatewaySettings
from .store import Replaced, Store

log = structlog.get_logger("roomgrad")

RETRY_S = 0.25
GRACE_S = 3.0  # from the signal to the end: seats are written down, the server may be away


class Gateway:
    """One gateway, from the server that it finds to its end."""

    def __init__(self, settings: GatewaySettings, url: str) -> None:
        self._settings = settings
        self._names = Names(settings.rooms_of)
        self._served = False
        self._url = for_run(url, self._names.run)
        self._link = Link(url, settings.redis_password_file, self._names.run)
        me = f"{GATEWAY}~{socket.gethostname()}~{os.getpid()}~{new_id()[:8]}"
        self._store = Store(self._names, self._link, me)
        self._holder = Holder(settings, self._names, self._store, self._link)

    async def run(self) -> None:
        """Serves until it is cancelled. Raises RoomgradError when it cannot serve at all."""
        settings, names, store = self._settings, self._names, self._store
        rooms = Rooms(store, await self._prepared())
        bounds = Bounds(settings, names, store, rooms)
        ears = Ears(names, self._link, rooms, store)
        delivery = Delivery(settings, store, rooms, bounds)
        members = Members(settings, store, rooms, ears, delivery)
        door = Door(settings, Hub(settings, store, rooms, members), members)

        async def begin_again() -> None:
            log.warning("the server was emptied: the clients that are here keep their rooms")
            await self._prepared()
            await self._holder.take()
            await rooms.restore()

        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._end)
            await self._holder.take()
            await rooms.load()
            listening = await door.open()
            stack.push_async_callback(door.close, GRACE_S)
            stack.callback(listening.close)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._holder.keep(begin_again))
                for work in (ears.run, ears.pass_on, ears.look_after, bounds.run, self._link.watch):
                    tasks.create_task(work())
                await listening.start_serving()
                port = listening.sockets[0].getsockname()[1]
                log.info("clients of swergio connect to", host=settings.host, port=port)

    async def _prepared(self) -> System | None:
        """What `_prepare` answers, once the server is there. Raises Untrusted the first time."""
        told = False
        while True:
            try:
                system = await asyncio.to_thread(self._prepare)
                self._served = True
                return system
            except LOST as error:
                if isinstance(error, TLSError) and not self._served:
                    raise
                if not told:
                    told = True
                    log.warning("no server, trying again", reason=str(error))
                await asyncio.sleep(RETRY_S)

    def _prepare(self) -> System | None:
        """The contract of the run, whose groups are there from now on."""
        with contextlib.closing(connect(self._url, self._settings.redis_password_file)) as client:
            named = systems().get(self._settings.system)
            system = named or system_of_run(client, self._names)
            runs.register(client, self._names, GATEWAY, {})
            if system is not None:
                runs.create_groups(client, system, self._names, GATEWAY)
        return system

    async def _end(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self._holder.give_up()
        await self._link.close()


async def serve(settings: GatewaySettings, url: str) -> int:
    """One gateway until SIGTERM or SIGINT; the exit code."""
    gateway = Gateway(settings, url)
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await gateway.run()
    except asyncio.CancelledError:
        log.info("stopped", component=GATEWAY)
    except ExceptionGroup as group:
        _, others = group.split(Replaced)
        if others is not None:
            raise
        log.error("this gateway ends", reason=str(group.exceptions[0]))
        return 1
    return 0


def main() -> None:
    """Runs the gateway until SIGTERM or SIGINT; exits 0, or 2 for wrong settings."""
    try:
        settings = load(GatewaySettings)
        logs.setup(settings.log_level, settings.log_format)
        url = address(settings.redis_url, settings.redis_ca_file)
        with metrics(GATEWAY, settings, Names(settings.rooms_of), url):
            code = asyncio.run(serve(settings, url))
    except RoomgradError as error:
        print(f"gateway: {error}", file=sys.stderr)
        code = 2 if isinstance(error, SettingsError | RunMismatch) else 1
    sys.exit(code)
