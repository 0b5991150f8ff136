"""The gateway as a process: one serves a run, and another one stands by until that is gone."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import sys
import time
from typing import Any

import orjson
import structlog

from roomgrad import log as logs
from roomgrad.commit import Commit
from roomgrad.errors import MessageError, RoomgradError, RunMismatch, SettingsError
from roomgrad.messages import new_id
from roomgrad.names import GATEWAY, Names
from roomgrad.rooms import System
from roomgrad.runtime import runs
from roomgrad.server import address, connect
from roomgrad.settings import load
from services.gateway import bodies, frames
from services.gateway.bounds import Bounds
from services.gateway.connection import Connection
from services.gateway.contracts import contract_of
from services.gateway.delivery import Delivery
from services.gateway.ears import Ears
from services.gateway.hub import Hub, WrongToken
from services.gateway.link import LOST, Client, Link
from services.gateway.rooms import Rooms
from services.gateway.settings import GatewaySettings
from services.gateway.store import Replaced, Store

log = structlog.get_logger("roomgrad")

STAND_BY_S = 0.25
READ_AHEAD = 256 * 1024  # bytes of a client that are taken before they are looked at
GRACE_S = 3.0  # from the signal to the end: seats are written down, the server may be away


class Gateway:
    """One gateway. `run` serves until `stop`."""

    def __init__(self, settings: GatewaySettings, url: str) -> None:
        self.settings = settings
        self.names = Names(settings.rooms_of)
        self.me = f"{GATEWAY}~{socket.gethostname()}~{os.getpid()}~{new_id()[:8]}"
        self.url = url
        self.port = 0
        self._link = Link(url, settings.redis_password_file)
        self._store = Store(self.names, self._link, self.me)
        self._hub: Hub
        self._ears: Ears
        self._began = time.time()
        self._talking: dict[asyncio.Task[None], Connection] = {}

    async def run(self) -> None:
        """Serves until it is cancelled. Raises RoomgradError when it cannot serve at all."""
        system = await self._prepared()
        rooms = Rooms(self._store, system)
        bounds = Bounds(self.settings, self.names, self._store, rooms)
        self._ears = Ears(self.names, self._link, rooms, self._store)
        delivery = Delivery(self.settings, self._store, rooms, bounds)
        self._hub = Hub(self.settings, self._store, rooms, self._ears, delivery)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._leave)
            await self._stand_by()
            await rooms.load()
            door = await self._door()
            stack.callback(door.close)
            async with asyncio.TaskGroup() as tasks:
                for work in (self._beat, self._ears.run, self._ears.pass_on, bounds.run):
                    tasks.create_task(work())
                tasks.create_task(self._link.watch())
                await door.start_serving()
                log.info("clients of swergio connect to", host=self.settings.host, port=self.port)

    async def _prepared(self) -> System | None:
        """What `_prepare` answers, once the server is there."""
        told = False
        while True:
            try:
                return await asyncio.to_thread(self._prepare)
            except LOST as error:
                if not told:
                    told = True
                    log.warning("no server, trying again", reason=str(error))
                await asyncio.sleep(STAND_BY_S)

    def _prepare(self) -> System | None:
        """The contract of the run, whose groups are there from now on."""
        with contextlib.closing(connect(self.url, self.settings.redis_password_file)) as client:
            system = contract_of(client, self.names, self.settings.system)
            runs.register(client, self.names, GATEWAY, {})
            if system is not None:
                runs.create_groups(client, system, self.names)
        return system

    # one gateway for a run

    async def _stand_by(self) -> None:
        """Waits until no other gateway serves this run, and takes it over."""
        told = False
        while not await self._take_over():
            if not told:
                told = True
                log.info("another gateway serves this run; standing by", run=self.names.run)
            await asyncio.sleep(STAND_BY_S)

    async def _take_over(self) -> bool:
        table, mine = self._store.table, self.me.encode()
        holder = await self._link.do(lambda client: client.hget(table, "holder"))
        if holder == mine:
            return True
        if holder is not None:
            alive = self.names.alive(holder.decode())
            if await self._link.do(lambda client: client.exists(alive)):
                return False
        commit = Commit()
        commit.same(table, b"holder", holder)
        commit.do(b"HSET", table, b"holder", mine)
        await self._store.commit(commit, guarded=False)
        await self._heartbeat()
        return bool(await self._link.do(lambda client: client.hget(table, "holder")) == mine)

    async def _beat(self) -> None:
        while True:
            await self._heartbeat()
            await self._ears.look_after()
            holder = await self._link.do(lambda client: client.hget(self._store.table, "holder"))
            if holder is None:
                await self._begin_again()
            elif holder != self.me.encode():
                raise Replaced(f"{holder.decode()} serves this run now")
            await asyncio.sleep(self.settings.heartbeat_interval_s)

    async def _begin_again(self) -> None:
        log.warning("the server was emptied: the clients that are here keep their rooms")
        await self._prepared()
        await self._stand_by()
        await self._hub.rooms.restore()

    async def _heartbeat(self) -> None:
        now = time.time()
        beat = {"component": GATEWAY, "replica": "", "host": socket.gethostname()}
        more = {"pid": os.getpid(), "started": self._began, "turn": now, "handling": None}
        value = orjson.dumps({**beat, **more, "version": ""})
        lives_ms = round(self.settings.heartbeat_lives_s * 1000)
        name = self.names.alive(self.me)

        async def attempt(client: Client) -> Any:
            async with client.pipeline(transaction=False) as pipe:
                pipe.set(name, value, px=lives_ms)
                pipe.publish(name, self.me)
                return await pipe.execute()

        await self._link.do(attempt)

    async def _leave(self) -> None:
        """Writes down that everybody is gone, so that the next gateway need not wait."""
        for connection in self._talking.values():
            connection.end("the gateway stops")
        table, name = self._store.table, self.names.alive(self.me)

        async def attempt(client: Client) -> None:
            if await client.hget(table, "holder") == self.me.encode():
                await client.hdel(table, "holder")
            await client.delete(name)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                if self._talking:
                    await asyncio.wait(self._talking)
                await self._link.do(attempt)
        for task in self._talking:  # the server is away, or somebody is held back
            task.cancel()
        await asyncio.gather(*self._talking, return_exceptions=True)
        await self._link.close()

    # the door

    async def _door(self) -> asyncio.Server:
        """Where clients come in. Raises SettingsError where it cannot be."""
        host, port = self.settings.host, self.settings.port
        try:
            door = await asyncio.start_server(
                self._enter, host, port, limit=READ_AHEAD, start_serving=False
            )
        except OSError as error:
            raise SettingsError(
                f"the gateway cannot listen at {host}, port {port}: {error.strerror or error}; "
                "name another one by --port"
            ) from error
        self.port = int(door.sockets[0].getsockname()[1])
        return door

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._talking[task] = Connection(reader, writer, self.settings)
        try:
            if why := self._turned_away(connection):
                log.warning("turned a connection away", peer=connection.peer, reason=why)
                connection.write(bodies.refusal("", why))
            else:
                await self._talk(connection)
        except Exception as error:
            log.error("a connection ends after an error", client=str(connection), exc_info=error)
        finally:
            await self._see_off(connection)
            del self._talking[task]

    def _turned_away(self, connection: Connection) -> str:
        settings = self.settings
        if settings.networks and not _within(connection.host, settings):
            return f"{connection.host} is not in the networks that may connect (--allow)"
        if len(self._talking) > settings.max_connections:
            return f"{settings.max_connections} clients are connected already (--max-connections)"
        return ""

    async def _talk(self, connection: Connection) -> None:
        while True:
            text = b""
            try:
                text = await connection.next()
                if not text or not await self._hub.take(
                    connection, bodies.parsed(text, self.settings.format)
                ):
                    return
            except OSError as error:
                connection.ended = connection.ended or str(error)
                return
            except MessageError as error:
                await self._hub.refuse(connection, error, text)
                if isinstance(error, frames.FrameError | WrongToken):
                    connection.ended = str(error)
                    return

    async def _see_off(self, connection: Connection) -> None:
        try:
            await self._hub.leave(connection)
        except Exception as error:
            log.error("a client left with an error", client=str(connection), exc_info=error)
        await connection.close()


def _within(host: str, settings: GatewaySettings) -> bool:
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in network for network in settings.networks)


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
        code = asyncio.run(serve(settings, address(settings.redis_url)))
    except RoomgradError as error:
        print(f"gateway: {error}", file=sys.stderr)
        code = 2 if isinstance(error, SettingsError | RunMismatch) else 1
    sys.exit(code)
