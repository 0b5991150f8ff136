"""What networks do to connections: half-open, deaf, silent. Nothing waits for ever."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator

import pytest
import structlog

from roomgrad import Context, Message
from tests.integration.conftest import Cage, OwnServer, make_cage
from tests.integration.parrots import HEARD, parrot, repeat
from tests.proxy import Proxy
from tests.waiting import until

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def proxy(own_server: OwnServer) -> Iterator[Proxy]:
    made = Proxy(own_server.process.port)
    yield made
    made.close()


@pytest.fixture
def cage(own_server: OwnServer) -> Iterator[Cage]:
    """A run whose test speaks to the server directly."""
    yield from make_cage(own_server.url)


def test_half_open_connections_are_given_up(cage: Cage, proxy: Proxy) -> None:
    """Nothing passes and nobody is told: the replica finds out, and handles what was sent."""
    replica = cage.start(parrot(), url=proxy.url)
    cage.heard(cage.say(1))
    assert proxy.forget() >= 3
    message = cage.say(2)
    cage.heard(message, timeout_s=30.0)
    until(lambda: cage.client.exists(cage.names.alive(replica.consumer)))
    assert cage.counter("heard") == 2


def test_a_replica_that_connects_into_silence_tries_again(cage: Cage, proxy: Proxy) -> None:
    """The network goes silent while it connects; afterwards all is well."""
    proxy.freeze()
    with structlog.testing.capture_logs() as lines:
        replica_is_there = threading.Event()

        def start() -> None:
            cage.start(parrot(), url=proxy.url)
            replica_is_there.set()

        threading.Thread(target=start, daemon=True).start()
        until(lambda: any("lost the server" in line["event"] for line in lines), 30)
    proxy.mend()
    cage.heard(cage.say(1), timeout_s=30.0)
    assert replica_is_there.wait(30)


def test_every_connection_of_a_start_may_turn_out_dead(cage: Cage, proxy: Proxy) -> None:
    """Each connection dies without a word soon after it was made, for a while."""
    stop = threading.Event()

    def forget() -> None:
        while not stop.wait(0.02):
            proxy.forget()

    forgetting = threading.Thread(target=forget, daemon=True)
    forgetting.start()
    starting = threading.Thread(target=lambda: cage.start(parrot(), url=proxy.url), daemon=True)
    starting.start()
    assert not stop.wait(2)
    stop.set()
    forgetting.join()
    cage.heard(cage.say(1), timeout_s=40.0)
    starting.join(30)


def test_a_deaf_subscription_is_made_again(cage: Cage, proxy: Proxy) -> None:
    """It is connected and hears nothing: a replica that misses its own heartbeat notices."""
    cage.start(parrot(), url=proxy.url)
    channel, taken = cage.names.channel("cage"), cage.names.taken()

    def answered(text: bytes) -> bool:
        cage.client.publish(channel, text)
        mark = f"refused:{hashlib.sha1(text).hexdigest()}"
        return cage.client.zscore(taken, mark) is not None

    until(lambda: answered(b"before"))
    assert proxy.deafen() == 1
    until(lambda: answered(b"after"), 20)


def test_what_a_lost_read_was_given_is_found_by_its_owner(cage: Cage) -> None:
    """The server answers a read whose connection is dead; the replica lives and never got it."""
    replica = cage.start(parrot())
    cage.heard(cage.say(1))
    key = cage.names.stream(*HEARD.key)
    with cage.client.pipeline(transaction=True) as together:  # nobody else reads in between
        together.xadd(key, {"m": b"placeholder"})
        together.xreadgroup("parrot", replica.consumer, {key: ">"}, count=1)
        together.execute()
    until(lambda: len(cage.dead()) == 1)  # it is found, and cannot be read
    assert cage.pending() == 0


def test_the_living_keep_their_work_through_an_outage(own_server: OwnServer, cage: Cage) -> None:
    """All heartbeats expire with the server; who comes back first believes nobody dead."""
    inside, release = threading.Event(), threading.Event()
    owners: list[str] = []

    def slow(message: Message, context: Context) -> Message:
        owners.append(threading.current_thread().name)
        inside.set()
        assert release.wait(60)
        return repeat(message, context)

    cage.start(parrot(slow))
    message = cage.say(1)
    assert inside.wait(10)
    own_server.kill()
    time.sleep(1.0)  # longer than a heartbeat lives and a lease lasts
    own_server.restart()
    cage.start(parrot(slow))
    pending = cage.client.xpending_range(cage.names.stream(*HEARD.key), "parrot", "-", "+", 1)
    assert pending[0]["times_delivered"] == 1
    time.sleep(1.5)  # the other one has looked for orphans by now, several times
    pending = cage.client.xpending_range(cage.names.stream(*HEARD.key), "parrot", "-", "+", 1)
    assert pending[0]["times_delivered"] == 1
    assert len(set(owners)) == 1
    release.set()
    cage.heard(message)
    assert cage.counter("heard") == 1


def test_a_handler_of_ten_leases_keeps_its_message(cage: Cage) -> None:
    """While its process lives nobody else gets it, and nothing is delivered twice."""
    owners: list[str] = []

    def slow(message: Message, context: Context) -> Message:
        owners.append(threading.current_thread().name)
        time.sleep(10 * 0.3)
        return repeat(message, context)

    for _ in range(2):
        cage.start(parrot(slow), lease_s=0.3)
    cage.heard(cage.say(1), timeout_s=20.0)
    assert len(owners) == 1
    assert cage.counter("heard") == 1
