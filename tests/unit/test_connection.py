"""Commands as they go over the wire."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import hiredis
import pytest

from roomgrad.errors import ConnectionLost
from roomgrad.redis.connection import _LARGE, Command, Connection, _pieces, packed

LARGE = bytes(_LARGE)


@pytest.mark.parametrize(
    "commands",
    [
        [[b"PING"]],
        [[b"SET", b"a", b""], packed(b"GET", b"a"), [b"DEL", b"a"]],
        [[b"SET", b"a", LARGE]],
        [
            [b"SET", LARGE, LARGE],
            packed(b"GET", LARGE),
            [b"XADD", b"s", b"*", b"f", LARGE, b"g", b""],
        ],
    ],
)
def test_pieces_are_the_commands_as_redis_wants_them(commands: list[Command]) -> None:
    """Byte for byte, whatever is sent apart."""
    whole = [c if isinstance(c, bytes) else hiredis.pack_command(tuple(c)) for c in commands]
    assert b"".join(_pieces(commands)) == b"".join(whole)


def test_a_large_word_is_not_copied() -> None:
    """It is sent from where it stands."""
    assert any(piece is LARGE for piece in _pieces([[b"SET", b"a", LARGE]]))


@contextlib.contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[Connection]:
    """A connection to a server that behaves like this; it is patient for 0.6 s."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ended = threading.Event()

        def serve() -> None:
            with listener.accept()[0] as accepted, contextlib.suppress(OSError):
                behave(accepted)
                ended.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        connection = Connection(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        connection.connect()
        connection.grace_s = 0.6
        assert connection.handle is not None
        connection.handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        try:
            yield connection
        finally:
            connection.close()
            ended.set()
            thread.join()


def _is_silent(_: socket.socket) -> None: ...


def test_a_reply_that_does_not_come_is_waited_for_as_long_as_said() -> None:
    """Then the connection counts as lost."""
    with server(_is_silent) as connection:
        connection.send([b"PING"])
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="timed out"):
            connection.read(0.7)
        assert time.monotonic() - began >= 1.2
        assert not connection.connected


def test_a_server_that_takes_nothing_or_too_little_is_given_up() -> None:
    """The time for all bytes is limited, not that between two of them."""

    def trickle(accepted: socket.socket) -> None:
        while accepted.recv(1024):
            time.sleep(0.05)

    for behave in (_is_silent, trickle):
        with server(behave) as connection:
            with pytest.raises(ConnectionLost, match="timed out"):
                connection.send([b"SET", b"a", bytes(400_000)])
            assert not connection.connected


def test_a_signal_loses_neither_what_is_sent_nor_what_is_read() -> None:
    """Its handler runs, then the call goes on."""
    large, signals = bytes(2 * 1024 * 1024), []
    received: list[int] = []

    def answer_late(accepted: socket.socket) -> None:
        time.sleep(0.3)
        expected = len(packed(b"SET", b"a", large))
        while sum(received) < expected:
            received.append(len(accepted.recv(1024 * 1024)))
        time.sleep(0.3)
        accepted.sendall(b"+OK\r\n")

    before = signal.signal(signal.SIGALRM, lambda *_: signals.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with server(answer_late) as connection:
            connection.grace_s = 10.0
            assert connection.call([b"SET", b"a", large]) == b"OK"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(signals) > 2
