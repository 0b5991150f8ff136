"""A TCP proxy before the server, which fails as networks do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

CHUNK = 65536


class Link:
    """One connection through the proxy: two sockets, and the directions that still flow."""

    def __init__(
        self, client: socket.socket, server: socket.socket, cut: Callable[[bytes], bool]
    ) -> None:
        self._cut = cut
        self.client = client
        self.server = server
        self.to_server, self.to_client = threading.Event(), threading.Event()
        self.to_server.set()
        self.to_client.set()
        self.subscribed = False
        self.lost = False
        self.loses_reply = False
        self.over = False

    def end(self) -> None:
        """End both sides, and release what waits to flow."""
        self.over = True
        for flows in (self.to_server, self.to_client):
            flows.set()
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """Forward until both sides have ended, and close them."""
        up = threading.Thread(target=self._pump, args=(self.client, self.server, self.to_server))
        up.start()
        self._pump(self.server, self.client, self.to_client)
        up.join()
        self.client.close()
        self.server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, flows: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if sink is self.server and b"SUBSCRIBE" in data[:40]:
                    self.subscribed = True
                flows.wait()
                if sink is self.server and self._cut(data):
                    self.loses_reply = True
                if self.over or (sink is self.client and self.loses_reply):
                    break
                sink.sendall(data)
        if not self.lost:  # of a half-open connection the other side is told nothing
            self.end()


class Proxy:
    """A proxy that listens on a port of its own; its methods are thread-safe."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._links: set[Link] = set()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._thawed = threading.Event()
        self._closed = False
        self._command = b""
        self._listener: socket.socket | None = None
        self.port = 0
        self.mend()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    # what happens to the network

    def refuse(self) -> None:
        """Close every connection, and accept none."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in accept, and closes it
        for link in self._now():
            link.end()

    def freeze(self) -> None:
        """Pass nothing on, and close nothing, as if packets were lost."""
        self._thawed.clear()
        for link in self._now():
            link.to_server.clear()
            link.to_client.clear()

    def mend(self) -> None:
        """Forward again. What was held up arrives, as TCP retransmits it."""
        self._thawed.set()
        for link in self._now():
            if not link.lost:
                link.to_server.set()
                link.to_client.set()
        with self._lock:
            if self._listener is None:
                self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
                self.port = self._listener.getsockname()[1]
                self._start(self._listen, self._listener)

    def forget(self, share: Callable[[], bool] = lambda: True) -> int:
        """Leave connections half-open: dead, without an end on either side. Return their number."""
        chosen = [link for link in self._now() if share()]
        for link in chosen:
            link.lost = True
            link.to_server.clear()
            link.to_client.clear()
        return len(chosen)

    def deafen(self) -> int:
        """Pass nothing on to subscribed connections, which stay open. Return their number."""
        chosen = [link for link in self._now() if link.subscribed]
        for link in chosen:
            link.lost = True
            link.to_client.clear()
        return len(chosen)

    def lose_reply(self, command: bytes) -> None:
        """Close the next connection that sends this command, between its reply and the client."""
        self._command = command

    @property
    def has_lost_reply(self) -> bool:
        return not self._command

    def close(self) -> None:
        """End every connection, and wait for it."""
        self._closed = True
        self._thawed.set()
        self.refuse()
        while self._threads:
            for link in self._now():  # one that came just now
                link.end()
            for thread in list(self._threads):
                if thread.is_alive():  # else it has ended, or is about to begin
                    thread.join(0.05)

    # how it does it

    def _cut(self, data: bytes) -> bool:
        with self._lock:
            cuts = bool(self._command) and self._command in data
            if cuts:
                self._command = b""
        return cuts

    def _now(self) -> list[Link]:
        with self._lock:
            return list(self._links)

    def _start(self, work: Callable[[socket.socket], None], with_: socket.socket) -> None:
        def run() -> None:
            work(with_)
            self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, daemon=True)
        self._threads.add(thread)
        thread.start()

    def _listen(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):
            while True:
                self._start(self._serve, listener.accept()[0])

    def _serve(self, client: socket.socket) -> None:
        with client:
            self._thawed.wait()
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                return
            with server:
                self._link(Link(client, server, self._cut))

    def _link(self, link: Link) -> None:
        for side in (link.client, link.server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._links.add(link)
        if self._closed or self._listener is None:  # it was refused meanwhile
            link.end()
        link.run()
        with self._lock:
            self._links.discard(link)
