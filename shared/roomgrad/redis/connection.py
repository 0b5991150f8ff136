"""The connection of the hot loop: commands out in one send, replies in as bytes.

redis-py serves everything else. Its cost per command (44 us of wall time, of which the server needs
10) would be the largest part of a message, so this speaks RESP2 through hiredis itself.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from roomgrad.errors import ConnectionLost, MessageError, NoServer, TLSError
from roomgrad.redis import tls
from roomgrad.redis.addresses import publish_command, resolver_of
from roomgrad.redis.passwords import read_password
from roomgrad.redis.sentinels import HELLO, NO_MASTER, Address, MasterResolver, is_master
from roomgrad.redis.server_address import AnyAddress, parse

# A server that is away must not delay the next attempt, which may succeed.
CONNECT_S = 0.5
GREETING_S = 1.0  # a server that takes longer for the login is frozen, or its packets are lost
SLOWEST_BYTES_S = 1e6  # bytes a second that a connection takes at least
REPLY_GRACE_S = 5.0  # how overdue a reply may be before the connection counts as lost
MAX_BYTES = 512 * 1024 * 1024  # in one send; above 1 GiB a server closes the connection
_BUFFER = 128 * 1024
_TIMEVAL = struct.Struct("ll")  # seconds and microseconds, as the kernel takes them
_LARGE = 32 * 1024  # larger words are sent as they are: a copy costs more than the server

Reply = Any
# The type stubs allow tuples of one item and bytes only.
_feed: Callable[[hiredis.Reader, bytearray, int, int], None] = hiredis.Reader.feed  # type: ignore[assignment]
_packed: Callable[[tuple[bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]
ReplyError = hiredis.ReplyError


# The words of a command, or a command that `packed` has prepared for repeated use.
Command = Sequence[bytes] | bytes


def packed(*words: bytes) -> bytes:
    """Return a command as it is sent."""
    return _packed(words)


def _pieces(commands: Sequence[Command]) -> list[bytes]:
    """Return commands as they are sent, each large word as a piece of its own."""
    pieces: list[bytes] = []
    small: list[bytes] = []
    for command in commands:
        if isinstance(command, bytes):
            small.append(command)
        elif max(map(len, command)) < _LARGE:
            small.append(_packed(tuple(command)))
        else:
            small.append(b"*%d\r\n" % len(command))
            for word in command:
                small.append(b"$%d\r\n" % len(word))
                if len(word) >= _LARGE:
                    pieces += [b"".join(small), word]
                    small = []
                else:
                    small.append(word)
                small.append(b"\r\n")
    return [*pieces, b"".join(small)]


class Connection:
    """One connection to Redis. Not safe to share between threads."""

    def __init__(self, url: AnyAddress, password_file: str = "", name: str = "") -> None:
        address = parse(url)
        self._options = address.options()
        self._password_file = password_file
        self.grace_s = REPLY_GRACE_S
        self._resolver = resolver_of(address, password_file)
        self.publish_command = publish_command(address)
        self._tls = address.tls
        self.database = address.database
        self._heard = False  # whether a server has sent anything on this connection
        self._name = name
        self.at: Address | None = None
        """Under Sentinel or in a cluster: the server to which it is, or was, connected."""

        self._socket: socket.socket | None = None
        self._hung_up = False
        self._timeout_s = 0.0
        self._reader = hiredis.Reader()
        self._waiting = 0
        # one buffer for all: a new one of this size for each recv would be mapped and unmapped
        self._buffer = bytearray(_BUFFER)

    @property
    def connected(self) -> bool:
        return self._socket is not None and not self._hung_up

    def connect(self, at: Address | None = None) -> None:
        """Open the connection.

        at: the server, if it is known already; two connections that belong together must not lead
            to two servers during a failover.

        Raises OSError or ReplyError (wrong password, loading...), and TLSError with nothing sent.
        """
        self.close()
        self._reader = hiredis.Reader()
        self._waiting = 0
        self._heard = self._hung_up = False
        if self._resolver is not None:
            self.at = at or self._master(self._resolver)
        try:
            self._socket = self._open()
            self._timeout_s = GREETING_S
            self._greet()
        except BaseException:
            self.close()
            if self._resolver is not None:
                self._resolver.mark_stale()
            raise

    def _master(self, resolver: MasterResolver) -> Address:
        try:
            return resolver.master()
        except TLSError:
            raise
        except NoServer as error:
            raise ConnectionLost(str(error)) from error

    def _greet(self) -> None:
        """Log in, and ask whether the server is a master. A slow reply counts as none."""
        commands = self._greetings()
        self._send(GREETING_S, *commands)
        replies = [self._read(GREETING_S) for _ in commands]
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise reply
        if self._resolver is not None and not is_master(replies[-1]):
            raise ConnectionLost(NO_MASTER)

    def _open(self) -> socket.socket:
        options = self._options
        if path := options.get("path"):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(GREETING_S)
            connection.connect(path)
            return connection
        address = self._address()
        connection = socket.create_connection(address, CONNECT_S)
        connection.settimeout(GREETING_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not self._tls:
            return connection
        try:
            return tls.context(options).wrap_socket(connection, server_hostname=address[0])
        except (OSError, TLSError) as error:
            connection.close()
            raise (self._explain(error) or error) from error

    def _address(self) -> Address:
        options = self._options
        return self.at or (options["host"], options["port"])

    def _explain(self, error: Exception) -> TLSError | None:
        """Return why a server has never answered, if TLS is the reason."""
        address = None if "path" in self._options else self._address()
        return tls.explain(error, address, self._options, tls=self._tls)

    def _greetings(self) -> list[Sequence[bytes]]:
        options = self._options
        commands: list[Sequence[bytes]] = []
        password = options.get("password")
        if self._password_file:  # read each time, since it may change
            password = read_password(self._password_file)
        if password:
            user = options.get("username")
            name = [user.encode()] if user else []
            commands.append([b"AUTH", *name, password.encode()])
        if database := options.get("db"):
            commands.append((b"SELECT", str(database).encode()))
        if self._name:
            commands.append((b"CLIENT", b"SETNAME", self._name.encode()))
        if self._resolver is not None:
            commands.append(HELLO)
        return commands

    def close(self) -> None:
        """Close the connection; `connect` opens it again."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None

    def hang_up(self) -> None:
        """Shut the connection down while another thread waits for it."""
        connection = self._socket
        if connection is not None:
            self._hung_up = True
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def send(self, *commands: Command) -> None:
        """Send commands in one go; each is answered by one `read`, in order.

        Raises MessageError, with nothing sent, for more than any server accepts at once.
        """
        self._send(self.grace_s, *commands)

    def _send(self, timeout_s: float, *commands: Command) -> None:
        if self._socket is None:
            raise ConnectionLost("not connected")
        pieces = _pieces(commands)
        size = sum(map(len, pieces))
        if size > MAX_BYTES:
            raise MessageError(
                f"a commit has {size} bytes, expected at most {MAX_BYTES}: "
                f"write less with one message"
            )
        try:
            self._send_all(self._socket, pieces, timeout_s + size / SLOWEST_BYTES_S)
        except OSError as error:
            self._lose(error)
        self._waiting += len(commands)

    def _send_all(self, connection: socket.socket, pieces: list[bytes], timeout_s: float) -> None:
        self._set_timeout(timeout_s)
        due = time.monotonic() + timeout_s
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[connection.send(rest) :]
                if rest and time.monotonic() > due:  # not for TLS or a signal, but a slow server
                    raise TimeoutError("timed out")

    def read(self, due_s: float = 0.0) -> Reply:
        """Return the next reply, due in so many seconds; a server's error is returned, too."""
        return self._read(due_s + self.grace_s)

    def _read(self, timeout_s: float) -> Reply:
        try:
            reply = self._reader.gets()
            while reply is False:
                self._fill(timeout_s)
                reply = self._reader.gets()
        except (OSError, hiredis.ProtocolError) as error:
            self._lose(error)
        self._waiting -= 1
        if isinstance(reply, ReplyError) and self._resolver and str(reply).startswith("MOVED"):
            self._resolver.mark_stale()  # the process that was asked does not know yet
        return reply

    def _fill(self, timeout_s: float) -> None:
        if self._socket is None:
            raise ConnectionLost("not connected")
        self._set_timeout(timeout_s)
        self._feed(self._socket)

    def _feed(self, connection: socket.socket) -> None:
        count = connection.recv_into(self._buffer)
        if not count:
            raise ConnectionLost("the server closed the connection")
        self._heard = True
        _feed(self._reader, self._buffer, 0, count)

    def _set_timeout(self, seconds: float) -> None:
        """Set the socket's timeout, unless it is about right: that would cost a system call.

        The kernel keeps it, except for TLS: Python's own costs a `poll` before each call.
        """
        connection = self._socket
        if connection is None or seconds <= self._timeout_s <= 2 * seconds:
            return
        self._timeout_s = seconds
        connection.settimeout(seconds if self._tls else None)
        limit = _TIMEVAL.pack(*divmod(max(1, int(seconds * 1e6)), 1_000_000))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, limit)

    def call(self, command: Command) -> Reply:
        """Send one command and return its reply."""
        self.send(command)
        return self.read()

    def drain(self) -> list[Reply]:
        """Return everything that a subscription has received by now, without waiting."""
        if self._socket is None:
            raise ConnectionLost("not connected")
        self._socket.setblocking(False)
        try:
            while True:
                self._feed(self._socket)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            self._lose(error)
        replies = []
        while (reply := self._reader.gets()) is not False:
            replies.append(reply)
        return replies

    @property
    def handle(self) -> socket.socket | None:
        """The socket, for `poll`."""
        return self._socket

    @property
    def waiting(self) -> int:
        """How many replies are still to be read."""
        return self._waiting

    def _lose(self, error: Exception) -> None:
        self.close()
        if isinstance(error, BlockingIOError):  # the kernel's word for a timeout
            error = TimeoutError("timed out")
        if not self._heard and (reason := self._explain(error)):
            raise reason from error
        raise ConnectionLost(str(error) or type(error).__name__) from error
