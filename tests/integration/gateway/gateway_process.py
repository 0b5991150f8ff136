"""A gateway as a process, and clients that speak its protocol over plain sockets."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import Any

import redis

from roomgrad.names import Names
from tests.forked import Forked
from tests.integration.conftest import QUICK
from tests.waiting import until

HEADER = 10


@dataclass
class GatewayProcess:
    """The gateway of one run."""

    url: str
    client: redis.Redis
    names: Names
    stack: contextlib.ExitStack
    port: int = 0
    flags: dict[str, Any] = field(default_factory=dict)
    process: Forked | None = None
    logs: dict[Forked, int] = field(default_factory=dict)
    """How many lines each process had written when the newest was started."""

    def open(self, **flags: Any) -> GatewayProcess:
        """Start the gateway; clients can connect when this returns."""
        self.flags = {**self.flags, **flags}
        self.process = self.spawn(port=self.port, **self.flags)
        until(lambda: self.said("port"))
        self.port = int(self.said("port")[-1])
        return self

    def spawn(self, **flags: Any) -> Forked:
        """Start a gateway process; `lines` are what any writes from now on."""
        quick = {name: value for name, value in QUICK.items() if name.startswith("heartbeat")}
        given = {"run": self.names.run, "redis_url": self.url, **quick, **flags}
        words = [_flag(name, value) for name, value in given.items()]
        process = Forked("roomgrad_swergio.gateway", *words)
        self.stack.callback(process.close)
        self.logs = {each: len(each.lines()) for each in self.logs} | {process: 0}
        return process

    @property
    def lines(self) -> list[str]:
        return [line for each, earlier in self.logs.items() for line in each.lines()[earlier:]]

    def said(self, field: str) -> list[Any]:
        """Return the values of a field in the log."""
        bodies = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [body[field] for body in bodies if field in body]

    def logged(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def peer(self, name: str = "", *rooms: str) -> Peer:
        """Return a registered client that is in these rooms, after the gateway has noted it."""
        peer = Peer(socket.create_connection(("127.0.0.1", self.port)))
        self.stack.callback(peer.socket.close)
        if name:
            peer.register(name)
            for room in rooms:
                peer.join(room)
            peer.here()
        return peer

    def seat(self, group: str) -> dict[str, Any] | None:
        """Return the stored record of a subscription."""
        value: Any = self.client.hget(self.names.table("gateway"), f"seat:{group}")
        return json.loads(value) if value else None

    def left(self, name: str, number: int = 1) -> None:
        """Wait until the gateway knows that the last client of a name has left."""
        group = Names.client_group(name, number)
        until(lambda: (self.seat(group) or {}).get("left_ms"))

    def waiting(self, name: str, room: str, type_: str = "DATA/CUSTOM") -> int:
        """Return the number of messages of a stream that a name has not read yet."""
        groups: Any = self.client.xinfo_groups(self.names.stream(room, type_))
        group = Names.client_group(name).encode()
        return next(int(each["lag"]) for each in groups if each["name"] == group)

    def stream(self, room: str, type_: str = "DATA/CUSTOM") -> list[dict[str, Any]]:
        """Return the messages of a stream."""
        found: Any = self.client.xrange(self.names.stream(room, type_))
        return [json.loads(fields[b"m"]) for _, fields in found]

    def letters(self) -> list[dict[str, Any]]:
        """Return the histories of the dead letters."""
        found: Any = self.client.xrange(self.names.dead())
        return [json.loads(fields[b"history"]) for _, fields in found]


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={value}"


class Peer:
    """A client on a plain socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(60)
        self.name = ""
        self._early: list[dict[str, Any]] = []

    def register(self, name: str, **more: Any) -> None:
        self.name = name
        self.send({"TYPE": "COMMAND/REGISTER", "NAME": name, "TO_ROOM": "_command", **more})

    def join(self, room: str) -> None:
        self.send({"TYPE": "COMMAND/JOINROOM", "ROOM": room, "TO_ROOM": "_command"})

    def here(self) -> None:
        """Wait until the gateway has handled all sent so far: it answers a wrong message.

        What comes before that answer is kept for `receive`.
        """
        self.send({"TYPE": "DATA/CUSTOM", "ID": "here"})
        early = []
        while "neither TO_ROOM" not in (body := self._next()).get("TEXT", ""):
            early.append(body)
        self._early += early

    def say(self, room: str, data: Any = None, **more: Any) -> None:
        self.send({"TYPE": "DATA/CUSTOM", "TO_ROOM": room, "DATA": data, **more})

    def send(self, body: dict[str, Any]) -> None:
        self.frame(json.dumps(body).encode())

    def frame(self, text: bytes) -> None:
        self.socket.sendall(b"%-*d" % (HEADER, len(text)) + text)

    def receive(self) -> dict[str, Any]:
        """Return the next message; raise EOFError if the gateway has closed the connection."""
        return self._early.pop(0) if self._early else self._next()

    def _next(self) -> dict[str, Any]:
        length = int(self._exactly(HEADER))
        body: dict[str, Any] = json.loads(self._exactly(length))
        return body

    def _exactly(self, length: int) -> bytes:
        found = b""
        while len(found) < length:
            try:
                more = self.socket.recv(length - len(found))
            except ConnectionResetError:
                more = b""
            if not more:
                raise EOFError("the gateway closed the connection")
            found += more
        return found

    def data(self, count: int = 1) -> list[Any]:
        """Return the DATA of the next messages that have some."""
        found: list[Any] = []
        while len(found) < count:
            body = self.receive()
            if str(body["TYPE"]).startswith("DATA/"):
                found.append(body.get("DATA"))
        return found

    def error(self) -> str:
        """Return the text of the next LOG/ERROR."""
        while (body := self.receive())["TYPE"] != "LOG/ERROR":
            pass
        return str(body["TEXT"])

    def hears_nothing_before(self, speaker: Peer, room: str, word: str) -> None:
        """Assert that the next message is one that a speaker sends now."""
        speaker.say(room, word)
        assert self.data() == [word]

    def is_closed(self, timeout_s: float = 60.0) -> bool:
        """Return whether the gateway closes this connection in time."""
        self.socket.settimeout(timeout_s)
        try:
            while True:
                self.receive()
        except TimeoutError:
            return False
        except (EOFError, OSError, ValueError):
            return True

    def close(self) -> None:
        self.socket.close()


def busy(peers: list[Peer], room: str, count: int = 20) -> float:
    """Let two peers exchange messages, and return the seconds: nothing may hold them up."""
    began = time.monotonic()
    one, other = peers
    for number in range(count):
        one.say(room, number)
        assert other.data() == [number]
        other.say(room, -number)
        assert one.data() == [-number]
    return time.monotonic() - began
