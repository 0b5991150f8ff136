"""The gateway as a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time

import structlog

from roomgrad import log as logs
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError, TLSError
from roomgrad.flags import load
from roomgrad.messages import new_id
from roomgrad.names import GATEWAY, Names
from roomgrad.redis.addresses import for_run
from roomgrad.redis.heartbeats import LONGEST_TURN_S
from roomgrad.redis.outage import Outage
from roomgrad.redis.registry import system_of_run, systems
from roomgrad.redis.server import address, connect
from roomgrad.redis.server_address import AnyAddress
from roomgrad.rooms import System
from roomgrad.runtime import runs
from roomgrad.runtime.health_file import AWAY, FAILED, WELL, Health, renewed
from roomgrad.runtime.observe.observers import metrics

from .client import LOST, RedisClient
from .delivery import Delivery
from .dispatcher import Dispatcher
from .lease import LeaderLease
from .listener import Listener
from .registry import Registry
from .retention import Retention
from .rooms import Rooms
from .settings import GatewaySettings
from .store import Replaced, Store
from .subscriber import Subscriber

log = structlog.get_logger("roomgrad")

RETRY_S = 0.25
GRACE_S = 3.0  # from the signal to the end: subscriptions are stored, the server may be away


class Gateway:
    """One gateway, from its connection to the server until its end."""

    def __init__(self, settings: GatewaySettings, url: AnyAddress) -> None:
        self._settings = settings
        self._names = Names(settings.run_name)
        self._system = _installed(settings.system)
        self._has_served = False
        self._url = for_run(url, self._names.run)
        self._redis = RedisClient(url, settings.redis_password_file, self._names.run)
        me = f"{GATEWAY}~{socket.gethostname()}~{os.getpid()}~{new_id()[:8]}"
        self._store = Store(self._names, self._redis, me)
        self._lease = LeaderLease(settings, self._names, self._store)
        self._turn = time.monotonic()  # when the event loop last turned

    def health(self, loop: asyncio.AbstractEventLoop) -> Health:
        """Return how this gateway is, also one that stands by; called by another thread."""
        loop.call_soon_threadsafe(self._turned)
        still_s = time.monotonic() - self._turn
        if still_s > LONGEST_TURN_S:
            return Health(FAILED, f"the loop of {GATEWAY} has not advanced for {still_s:.0f} s")
        answered, longest_s = self._lease.answered, LONGEST_TURN_S
        longest_s += self._settings.heartbeat_interval_s
        if answered is None or time.monotonic() - answered > longest_s:
            return Health(AWAY, f"{GATEWAY} waits for its server")
        return Health(WELL, f"{GATEWAY} is well.")

    def _turned(self) -> None:
        self._turn = time.monotonic()

    async def run(self) -> None:
        """Serve until cancelled. Raises RoomgradError if it cannot serve at all."""
        settings, names, store = self._settings, self._names, self._store
        rooms = Rooms(store, await self._prepared())
        retention = Retention(settings, names, store, rooms)
        subscriber = Subscriber(names, self._redis, rooms, store)
        delivery = Delivery(settings, store, rooms, retention)
        registry = Registry(settings, store, rooms, subscriber, delivery)
        listener = Listener(settings, Dispatcher(settings, store, rooms, registry), registry)
        background = (
            subscriber.run,
            subscriber.forward_live,
            subscriber.watch,
            retention.run,
            self._redis.watch,
        )

        async def start_over() -> None:
            log.warning("the server was emptied: connected clients keep their rooms")
            await self._prepared()
            await self._lease.acquire()
            await rooms.restore()

        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._end)
            await self._lease.acquire()
            await rooms.load()
            server = await listener.bind()
            stack.push_async_callback(listener.close, GRACE_S)
            stack.callback(server.close)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._lease.keep(start_over))
                for work in background:
                    tasks.create_task(work())
                await server.start_serving()
                port = server.sockets[0].getsockname()[1]
                log.info("clients of swergio connect to", host=settings.host, port=port)

    async def _prepared(self) -> System | None:
        """Wait for the server and return `_prepare`'s result. Raises TLSError the first time."""
        outage = Outage()
        while True:
            try:
                system = await asyncio.to_thread(self._prepare)
                self._store.members = system.components if system else ()
                self._has_served = True
                return system
            except LOST as error:
                if isinstance(error, TLSError) and not self._has_served:
                    raise
                if outage.is_news(error):
                    log.warning("no server, trying again", reason=str(error))
                await asyncio.sleep(RETRY_S)

    def _prepare(self) -> System | None:
        """Return the contract of the run, and create the groups of its components."""
        with contextlib.closing(connect(self._url, self._settings.redis_password_file)) as client:
            system = self._system or system_of_run(client, self._names)
            runs.register(client, self._names, GATEWAY, {})
            if system is not None:
                runs.create_groups(client, system, self._names, GATEWAY)
        return system

    async def _end(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self._lease.release()
        await self._redis.close()


def _installed(name: str) -> System | None:
    """Return the contract of a system, or None without a name. Raises SettingsError."""
    known = systems() if name else {}
    if name and name not in known:
        raise SettingsError(
            f"system: expected an installed system ({', '.join(sorted(known)) or 'none is'}), got "
            f"{name!r}: install it, or leave --system out to use the contract of the run"
        )
    return known.get(name)


async def serve(settings: GatewaySettings, url: AnyAddress) -> int:
    """Run a gateway until SIGTERM or SIGINT, and return the exit code."""
    gateway = Gateway(settings, url)
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        with renewed(settings.health_file, lambda: gateway.health(loop)):
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
    """Run the gateway until SIGTERM or SIGINT; exit with 0, or 2 if settings are wrong."""
    try:
        settings = load(GatewaySettings)
        logs.setup(settings.log_level, settings.log_format)
        url = address(settings.redis_url, settings.redis_ca_file)
        with metrics(GATEWAY, settings, Names(settings.run_name), url):
            code = asyncio.run(serve(settings, url))
    except RoomgradError as error:
        print(f"gateway: {error}", file=sys.stderr)
        code = 2 if isinstance(error, SettingsError | RunMismatch) else 1
    sys.exit(code)
