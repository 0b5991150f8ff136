"""What networks do to connections: half-open, deaf, silent. Nothing waits for ever."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
import structlog

from roomgrad import Context, Message
from roomgrad.redis.addresses import resolver_of
from roomgrad.redis.connection import Connection
from roomgrad.runtime.failover import FailoverWatch
from tests.integration.conftest import EchoRun, OwnServer, make_echo_run
from tests.integration.echo import REQUESTS, echo_component, repeat
from tests.proxy import Proxy
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def proxy(own_server: OwnServer) -> Iterator[Proxy]:
    made = Proxy(own_server.process.port)
    yield made
    made.close()


@pytest.fixture
def echo(own_server: OwnServer) -> Iterator[EchoRun]:
    """A run whose test speaks to the server directly."""
    yield from make_echo_run(own_server.url)


def test_half_open_connections_are_given_up(echo: EchoRun, proxy: Proxy) -> None:
    """Nothing passes and nobody is told: the replica finds out, and handles what was sent."""
    replica = echo.start(echo_component(), url=proxy.url)
    echo.wait_reply(echo.send(1))
    assert proxy.forget() >= 3
    message = echo.send(2)
    echo.wait_reply(message, timeout_s=30.0)
    until(lambda: echo.client.exists(echo.names.alive(replica.consumer)))
    assert echo.counter("received") == 2


def test_attempts_to_reconnect_stay_close_together(echo: EchoRun, proxy: Proxy) -> None:
    """What a server that is back waits for at most, however long it was away."""
    replica = echo.start(echo_component(), url=proxy.url)
    echo.wait_reply(echo.send(1))
    proxy.refuse()
    attempts: list[float] = []
    name = f"{replica.consumer}~loop".encode()
    with until(lambda: listener_at(proxy.port)) as listener:
        while len(attempts) < 12:
            with listener.accept()[0] as connection:
                if name in connection.recv(4096):
                    attempts.append(time.monotonic())
    proxy.mend()
    late = attempts[6:]
    assert min(b - a for a, b in pairwise(late)) < 0.2
    echo.wait_reply(echo.send(2))


def listener_at(port: int) -> socket.socket | None:
    """Return a listener, or None while the one before it is not closed yet."""
    with contextlib.suppress(OSError):
        return socket.create_server(("127.0.0.1", port))
    return None


def test_an_idle_connection_to_a_master_that_was_replaced_is_left_once(embedded_url: str) -> None:
    """It is closed at its next use, maybe never: it was said every half second until then."""
    resolver = resolver_of("redis+sentinel://127.0.0.1:1/rooms/0")
    assert resolver is not None
    connection = Connection(embedded_url)
    connection.connect()
    watch = FailoverWatch(resolver, [connection])
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            watch._leave_others(("127.0.0.1", 1))
    assert [line["event"] for line in lines] == ["the master was replaced"]
    assert not connection.connected
    connection.connect()
    assert connection.call([b"PING"]) == b"PONG"
    connection.close()


def test_a_replica_that_connects_into_silence_tries_again(echo: EchoRun, proxy: Proxy) -> None:
    """The network goes silent while it connects; afterwards all is well."""
    proxy.freeze()
    with structlog.testing.capture_logs() as lines:
        replica_is_there = threading.Event()

        def start() -> None:
            echo.start(echo_component(), url=proxy.url)
            replica_is_there.set()

        threading.Thread(target=start, daemon=True).start()
        until(lambda: any("lost the server" in line["event"] for line in lines))
    proxy.mend()
    echo.wait_reply(echo.send(1), timeout_s=30.0)
    assert replica_is_there.wait(30)


def test_every_connection_of_a_start_may_turn_out_dead(echo: EchoRun, proxy: Proxy) -> None:
    """Each connection dies without a word soon after it was made, for a while."""
    stop = threading.Event()

    def forget() -> None:
        while not stop.wait(0.02):
            proxy.forget()

    forgetting = threading.Thread(target=forget, daemon=True)
    forgetting.start()
    starting = threading.Thread(
        target=lambda: echo.start(echo_component(), url=proxy.url), daemon=True
    )
    starting.start()
    assert not stop.wait(2)
    stop.set()
    forgetting.join()
    echo.wait_reply(echo.send(1), timeout_s=40.0)
    starting.join(60)


def test_a_deaf_subscription_is_made_again(echo: EchoRun, proxy: Proxy) -> None:
    """It is connected and hears nothing: a replica that misses its own heartbeat notices."""
    echo.start(echo_component(), url=proxy.url)
    channel, taken = echo.names.channel("input"), echo.names.taken()

    def answered(text: bytes) -> bool:
        echo.client.publish(channel, text)
        mark = f"refused:{hashlib.sha1(text).hexdigest()}"
        return echo.client.zscore(taken, mark) is not None

    def noticed(text: bytes) -> bool:
        with structlog.testing.capture_logs() as lines:
            assert proxy.deafen() >= 1
            until(lambda: answered(text))
        return any("were published and did not arrive" in str(e.get("reason")) for e in lines)

    until(lambda: answered(b"before"))
    # A slow machine may lose the connection in another way.
    assert any(noticed(b"after %d" % number) for number in range(5))


def test_what_a_lost_read_was_given_is_found_by_its_owner(echo: EchoRun) -> None:
    """The server answers a read whose connection is dead; the replica lives and never got it."""
    replica = echo.start(echo_component())
    echo.wait_reply(echo.send(1))
    key = echo.names.stream(*REQUESTS.key)
    with echo.client.pipeline(transaction=True) as together:  # nobody else reads in between
        together.xadd(key, {"m": b"placeholder"})
        together.xreadgroup("echo", replica.consumer, {key: ">"}, count=1)
        together.execute()
    until(lambda: len(echo.dead_letters()) == 1)  # it is found, and cannot be read
    assert echo.pending() == 0


def test_the_living_keep_their_work_through_an_outage(own_server: OwnServer, echo: EchoRun) -> None:
    """All heartbeats expire with the server; who comes back first believes nobody dead."""
    inside, release = threading.Event(), threading.Event()
    owners: list[str] = []

    def slow(message: Message, context: Context) -> Message:
        owners.append(threading.current_thread().name)
        inside.set()
        assert release.wait(60)
        return repeat(message, context)

    echo.start(echo_component(slow))
    message = echo.send(1)
    assert inside.wait(60)
    own_server.kill()
    time.sleep(1.0)  # longer than a heartbeat lives and a lease lasts
    own_server.restart()
    echo.start(echo_component(slow))
    pending = echo.client.xpending_range(echo.names.stream(*REQUESTS.key), "echo", "-", "+", 1)
    assert pending[0]["times_delivered"] == 1
    time.sleep(1.5)  # the other one has looked for orphans by now, several times
    pending = echo.client.xpending_range(echo.names.stream(*REQUESTS.key), "echo", "-", "+", 1)
    assert pending[0]["times_delivered"] == 1
    assert len(set(owners)) == 1
    release.set()
    echo.wait_reply(message)
    assert echo.counter("received") == 1


def test_a_handler_of_ten_leases_keeps_its_message(echo: EchoRun) -> None:
    """While its process lives nobody else gets it, and nothing is delivered twice."""
    owners: list[str] = []

    def slow(message: Message, context: Context) -> Message:
        owners.append(threading.current_thread().name)
        time.sleep(10 * 0.3)
        return repeat(message, context)

    for _ in range(2):
        echo.start(echo_component(slow), lease_s=0.3)
    echo.wait_reply(echo.send(1), timeout_s=20.0)
    assert len(owners) == 1
    assert echo.counter("received") == 1
