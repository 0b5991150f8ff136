"""The gateway dies, the server dies, two gateways serve one run: nothing that was taken is lost."""

from __future__ import annotations

import signal
import threading
import time

import psutil

from tests.integration.conftest import OwnServer
from tests.integration.gateway.conftest import MakeGateway
from tests.integration.gateway.gateway_process import Peer, busy
from tests.proxy import Proxy
from tests.waiting import until


def test_a_gateway_that_is_killed_and_started_again(make_gateway: MakeGateway) -> None:
    """Who comes back finds what waited, what it had not answered, and its rooms."""
    gateway = make_gateway()
    ann, bob, cat = (gateway.peer(name, "cave") for name in ("ann", "bob", "cat"))
    ann.say("cave", "not answered", ROOT_ID="r0")
    assert bob.data() == cat.data() == ["not answered"]
    cat.close()
    gateway.left("cat")
    ann.say("cave", "for cat", ROOT_ID="r1")
    assert bob.data() == ["for cat"]
    bob.say("cave", "answered", ROOT_ID="r1")
    assert ann.data() == ["answered"]
    gateway.kill()
    assert ann.is_closed()
    gateway.open()
    ann, bob, cat = (gateway.peer(name, "cave") for name in ("ann", "bob", "cat"))
    assert bob.data() == ["not answered"]
    assert cat.data(3) == ["not answered", "for cat", "answered"]
    assert ann.data() == ["answered"]
    busy([ann, bob], "cave", 5)


def test_what_comes_while_the_gateway_is_down_waits(make_gateway: MakeGateway) -> None:
    """A message that somebody else puts into the stream meanwhile."""
    gateway = make_gateway()
    ann = gateway.peer("ann", "cave")
    ann.say("cave", "the stream exists")
    ann.here()
    gateway.kill()
    body = b'{"ID":"i","ROOT_ID":"r","TYPE":"DATA/CUSTOM","TO_ROOM":"cave","DATA":"meanwhile"}'
    fields = {"ID": "i", "ROOT_ID": "r", "m": body}
    gateway.client.xadd(gateway.names.stream("cave", "DATA/CUSTOM"), fields)  # type: ignore[arg-type]
    gateway.open()
    assert gateway.peer("ann", "cave").data() == ["meanwhile"]


def test_it_stops_cleanly(make_gateway: MakeGateway) -> None:
    """Exit code 0; everybody is written down as away, and the next one need not wait."""
    gateway = make_gateway()
    ann = gateway.peer("ann", "cave")
    assert gateway.kill(signal.SIGTERM) == 0
    assert ann.is_closed()
    assert (gateway.seat("ann@gateway") or {})["left_ms"]
    assert gateway.client.hget(gateway.names.table("gateway"), "holder") is None
    assert not gateway.client.keys(f"{gateway.names.alive('gateway')}*")


def test_one_gateway_serves_a_run_and_another_one_stands_by(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    ann = gateway.peer("ann", "cave")
    first, lines = gateway.process, list(gateway.lines)
    second = gateway.spawn(port=gateway.port)
    until(lambda: gateway.logged("standing by"))
    assert first is not None
    assert second.poll() is None
    assert lines
    first.kill()
    first.wait()
    assert ann.is_closed()
    until(lambda: gateway.said("port"))
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    busy([ann, bob], "cave", 3)


def test_a_gateway_that_was_frozen_too_long_gives_way(make_gateway: MakeGateway) -> None:
    """Another one has taken over; the first one ends when it wakes up, and sends nothing twice."""
    gateway = make_gateway()
    frozen = gateway.process
    assert frozen is not None
    ann = gateway.peer("ann", "cave")
    old, port = psutil.Process(frozen.pid), gateway.port
    old.suspend()
    ann.say("cave", "into the ice")
    gateway.port = 0
    gateway.open()
    assert gateway.port != port
    new, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    old.resume()
    assert frozen.wait(60) == 1
    assert ann.is_closed()
    busy([new, bob], "cave", 3)
    assert "into the ice" not in [body["DATA"] for body in gateway.stream("cave")]


def test_an_outage_of_the_server_loses_nothing(
    own_server: OwnServer, own_gateway: MakeGateway
) -> None:
    """Clients stay connected and may go on talking; all of it arrives, once, in its order."""
    gateway = own_gateway()
    gateway.client.config_set("appendfsync", "always")  # else a slow disk loses up to two seconds
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    talker = threading.Thread(target=_count, args=(ann, 300))
    talker.start()
    assert bob.data(20) == list(range(20))
    own_server.kill()
    until(lambda: gateway.logged("lost the server"))
    own_server.restart()
    assert bob.data(280) == list(range(20, 300))
    talker.join()
    bob.say("cave", "answer", ROOT_ID="r0")
    assert ann.data() == ["answer"]


def test_a_lost_reply_does_not_change_the_order(
    own_server: OwnServer, own_gateway: MakeGateway
) -> None:
    """What the server handed over in the lost reply is delivered before what came later."""
    proxy = Proxy(own_server.process.port)
    try:
        gateway = own_gateway(redis_url=proxy.url)
        ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
        busy([ann, bob], "cave", 1)
        for number in range(0, 20, 2):
            proxy.lose_reply(b"XREADGROUP")
            ann.say("cave", number, ROOT_ID=f"r{number}")
            until(lambda: proxy.has_lost_reply)
            ann.say("cave", number + 1, ROOT_ID=f"r{number + 1}")
        assert bob.data(20) == list(range(20))
    finally:
        proxy.close()


def _count(peer: Peer, most: int) -> None:
    for number in range(most):
        peer.say("cave", number, ROOT_ID=f"r{number}")


def test_an_emptied_server_is_no_end(own_server: OwnServer, own_gateway: MakeGateway) -> None:
    """Clients stay where they are; only what stood in the server is gone."""
    gateway = own_gateway()
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    busy([ann, bob], "cave", 3)
    gateway.client.flushall()
    ann.say("cave", "hello again")
    assert bob.data() == ["hello again"]
    busy([ann, bob], "cave", 3)
    until(lambda: (gateway.seat("bob@gateway") or {}).get("rooms", {}).get("cave"))


def test_a_deaf_subscription_is_noticed(make_gateway: MakeGateway) -> None:
    """Rings are lost without a sign; messages come all the same, and rings are heard again."""
    gateway = make_gateway()
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    busy([ann, bob], "cave", 2)
    for each in gateway.client.client_list(_type="pubsub"):
        gateway.client.client_kill_filter(_id=each["id"])
    busy([ann, bob], "cave", 5)


def test_clients_stay_connected_while_memory_is_full(
    own_gateway: MakeGateway, own_server: OwnServer
) -> None:
    """The lease is renewed, answers go through, and new work waits for memory."""
    gateway = own_gateway()
    ann, bob = (gateway.peer(name, "cave") for name in ("ann", "bob"))
    ann.say("cave", "before", ROOT_ID="r1")
    assert bob.data() == ["before"]
    gateway.client.config_set("maxmemory", "1mb")
    bob.say("cave", "answer", ROOT_ID="r1")
    assert ann.data() == ["answer"]
    ann.say("cave", "new work", ROOT_ID="r2")
    until(lambda: gateway.logged("the server refuses"))
    cat = gateway.peer("cat")  # its subscription is stored
    until(lambda: gateway.seat("cat@gateway"))
    time.sleep(4)  # more than a lease
    assert gateway.client.keys(f"{gateway.names.alive('gateway')}*")
    assert gateway.process is not None
    assert gateway.process.poll() is None
    assert not ann.is_closed(0.2)
    assert not cat.is_closed(0.2)
    gateway.client.config_set("maxmemory", "0")
    assert bob.data() == ["new work"]
