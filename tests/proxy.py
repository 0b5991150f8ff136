"""A TCP proxy before the server, that can do what networks do: refuse, freeze, forget, go deaf."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

CHUNK = 65536


class Link:
    """One connection through the proxy, and which of its directions still flow."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.to_server, self.to_client = asyncio.Event(), asyncio.Event()
        self.to_server.set()
        self.to_client.set()
        self.subscribed = False
        self.lost = False

    def end(self) -> None:
        """Closes both sides; the pumps come to their ends by it."""
        self.client.close()
        self.server.close()

    async def close(self) -> None:
        """The same, and waits until both are closed."""
        self.end()
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                await side.wait_closed()


class Proxy:
    """Listens on a port of its own for a server; its methods may be called from any thread."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._links: set[Link] = set()
        self._frozen = False
        self._loop = asyncio.new_event_loop()
        self._listener: asyncio.Server | None = None
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.mend()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def refuse(self) -> None:
        """Unreachable: every connection is closed, and none is accepted."""

        async def act() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            for link in set(self._links):
                link.end()

        self._do(act)

    def freeze(self) -> None:
        """Unreachable without a word: nothing passes, nothing is closed, packets are lost."""
        self._frozen = True
        self._each(lambda link: (link.to_server.clear(), link.to_client.clear()))

    def mend(self) -> None:
        """Reachable again. What was held up arrives, as what TCP sends again does."""

        async def act() -> None:
            self._frozen = False
            if self._listener is None:
                self._listener = await asyncio.start_server(
                    self._accept, "127.0.0.1", self.port, backlog=512
                )
                self.port = self._listener.sockets[0].getsockname()[1]
            for link in self._links:
                if not link.lost:
                    link.to_server.set()
                    link.to_client.set()

        self._do(act)

    def forget(self, share: Callable[[], bool] = lambda: True) -> int:
        """Half-open: connections of now are dead, and neither side is told. Answers how many."""
        chosen = [link for link in set(self._links) if share()]

        async def act() -> None:
            for link in chosen:
                link.lost = True
                link.to_server.clear()
                link.to_client.clear()

        self._do(act)
        return len(chosen)

    def deafen(self) -> int:
        """Subscriptions stay connected and hear nothing any more. Answers how many."""
        chosen = [link for link in set(self._links) if link.subscribed]

        async def act() -> None:
            for link in chosen:
                link.lost = True
                link.to_client.clear()

        self._do(act)
        return len(chosen)

    def close(self) -> None:
        """Ends every connection and the thread."""

        async def act() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.refuse()
        self._do(act)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def _each(self, act: Callable[[Link], object]) -> None:
        async def acts() -> None:
            for link in set(self._links):
                act(link)

        self._do(acts)

    def _do(self, act: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)  # type: ignore[arg-type]

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while self._frozen:
            await asyncio.sleep(0.01)
        try:
            back, server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            client.close()
            return
        link = Link(client, server)
        self._links.add(link)
        try:
            up = self._pump(link, reader, server, link.to_server)
            down = self._pump(link, back, client, link.to_client)
            await asyncio.gather(up, down)
        except asyncio.CancelledError:  # by `close`, which waits for the end of this
            pass
        finally:
            self._links.discard(link)
            await link.close()

    async def _pump(
        self,
        link: Link,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        flows: asyncio.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if sink is link.server and b"SUBSCRIBE" in data[:40]:
                    link.subscribed = True
                await flows.wait()
                sink.write(data)
                await sink.drain()
        if not link.lost:  # of a half-open connection the other side is told nothing
            link.end()
