"""The TCP server: admits connections, and reads what each client sends until it disconnects."""

from __future__ import annotations

import asyncio
import ipaddress

import structlog

from roomgrad.errors import MessageError, SettingsError

from . import codec, frames
from .connection import Connection
from .dispatcher import Dispatcher
from .registry import Registry, WrongToken
from .settings import GatewaySettings, Network

log = structlog.get_logger("roomgrad")

WRONG_TOKEN_S = 0.5  # delay before a wrong token is refused, against guessing
READ_AHEAD = 256 * 1024  # bytes of a client that are buffered before they are read


class Listener:
    """Accept connections of swergio clients."""

    def __init__(
        self, settings: GatewaySettings, dispatcher: Dispatcher, registry: Registry
    ) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._registry = registry
        self._open: dict[asyncio.Task[None], Connection] = {}

    async def bind(self) -> asyncio.Server:
        """Return the server, not started yet. Raises SettingsError if the port is taken."""
        host, port = self._settings.host, self._settings.port
        try:
            return await asyncio.start_server(
                self._accept, host, port, limit=READ_AHEAD, start_serving=False
            )
        except OSError as error:
            raise SettingsError(
                f"the gateway cannot listen at {host}, port {port}: {error.strerror or error}; "
                "name another one by --port"
            ) from error

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._open[task] = Connection(reader, writer, self._settings)
        try:
            if reason := self._objection(connection):
                log.warning("refused a connection", peer=connection.peer, reason=reason)
                connection.write(codec.refusal("", reason))
            else:
                await self._serve(connection)
        except Exception as error:
            log.error("a connection ends after an error", client=str(connection), exc_info=error)
        finally:
            await self._disconnect(connection)
            del self._open[task]

    def _objection(self, connection: Connection) -> str:
        """Return why a connection is refused, or an empty text."""
        settings = self._settings
        if settings.networks and not _is_within(connection.host, settings.networks):
            return f"{connection.host} is not in the networks that may connect (--allow)"
        if len(self._open) > settings.max_connections:
            return f"{settings.max_connections} clients are connected already (--max-connections)"
        return ""

    async def _serve(self, connection: Connection) -> None:
        while True:
            text = b""
            try:
                text = await connection.next()
                await connection.throttle()
                if not text or not await self._dispatcher.dispatch(
                    connection, codec.parse(text, self._settings.format)
                ):
                    return
            except OSError as error:
                connection.ended = connection.ended or str(error)
                return
            except MessageError as error:
                if isinstance(error, WrongToken):
                    await asyncio.sleep(WRONG_TOKEN_S)
                await self._dispatcher.refuse(connection, error, text)
                if isinstance(error, frames.FrameError | WrongToken):
                    connection.ended = str(error)
                    return

    async def _disconnect(self, connection: Connection) -> None:
        try:
            await self._registry.disconnect(connection)
        except Exception as error:
            log.error("disconnected with an error", client=str(connection), exc_info=error)
        await connection.close()

    async def close(self, within_s: float) -> None:
        """End all connections, and cancel those that take longer than `within_s` seconds."""
        for connection in self._open.values():
            connection.end("the gateway stops")
        if self._open:
            await asyncio.wait(self._open, timeout=within_s)
        for task in self._open:  # the server is away, or a client is held back
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


def _is_within(host: str, networks: tuple[Network, ...]) -> bool:
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in network for network in networks)
