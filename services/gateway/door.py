"""The door: who may come in, and the conversation with each client."""

from __future__ import annotations

import asyncio
import ipaddress

import structlog

from roomgrad.errors import MessageError, SettingsError

from . import bodies, frames
from .connection import Connection
from .hub import Hub
from .members import Members, WrongToken
from .settings import GatewaySettings

log = structlog.get_logger("roomgrad")

WRONG_TOKEN_S = 0.5  # until a client hears that its token is wrong, so that none can try many
READ_AHEAD = 256 * 1024  # bytes of a client that are taken before they are looked at


class Door:
    """Where clients come in, and how each is dealt with until it leaves."""

    def __init__(self, settings: GatewaySettings, hub: Hub, members: Members) -> None:
        self._settings = settings
        self._hub = hub
        self._members = members
        self._talking: dict[asyncio.Task[None], Connection] = {}

    async def open(self) -> asyncio.Server:
        """The server that clients connect to, not started yet. Raises SettingsError."""
        host, port = self._settings.host, self._settings.port
        try:
            door = await asyncio.start_server(
                self._enter, host, port, limit=READ_AHEAD, start_serving=False
            )
        except OSError as error:
            raise SettingsError(
                f"the gateway cannot listen at {host}, port {port}: {error.strerror or error}; "
                "name another one by --port"
            ) from error
        return door

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._talking[task] = Connection(reader, writer, self._settings)
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
        settings = self._settings
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
                await connection.paced()
                if not text or not await self._hub.take(
                    connection, bodies.parsed(text, self._settings.format)
                ):
                    return
            except OSError as error:
                connection.ended = connection.ended or str(error)
                return
            except MessageError as error:
                if isinstance(error, WrongToken):
                    await asyncio.sleep(WRONG_TOKEN_S)
                await self._hub.refuse(connection, error, text)
                if isinstance(error, frames.FrameError | WrongToken):
                    connection.ended = str(error)
                    return

    async def _see_off(self, connection: Connection) -> None:
        try:
            await self._members.leave(connection)
        except Exception as error:
            log.error("a client left with an error", client=str(connection), exc_info=error)
        await connection.close()

    async def close(self, within_s: float) -> None:
        """Ends all conversations: those that are not done in time without a farewell."""
        for connection in self._talking.values():
            connection.end("the gateway stops")
        if self._talking:
            await asyncio.wait(self._talking, timeout=within_s)
        for task in self._talking:  # the server is away, or somebody is held back
            task.cancel()
        await asyncio.gather(*self._talking, return_exceptions=True)


def _within(host: str, settings: GatewaySettings) -> bool:
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in network for network in settings.networks)
