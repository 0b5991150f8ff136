"""What brings the original's server down or to a standstill hurts only who does it."""

from __future__ import annotations

import json
import socket
import time

import psutil
import pytest

from tests.integration.gateway.conftest import MakeGateway
from tests.integration.gateway.gateway_process import GatewayProcess, Peer, busy
from tests.waiting import until

WRONG = {
    "no JSON": (b"{oops", "not JSON"),
    "a list": (b"[1]", "expected a JSON object, got list"),
    "nothing": (b"", "not JSON"),
    "no text": (b"\xff\xfe{}", "not JSON"),
    "NaN": (b'{"TYPE":"DATA/TEXT","TO_ROOM":"x","DATA":NaN}', "NaN and Infinity are not JSON"),
    "no TYPE": (b'{"TO_ROOM":"x"}', "TYPE: expected one like DATA/FORWARD, got None"),
    "a TYPE that is no text": (b'{"TYPE":[1],"TO_ROOM":"x"}', "TYPE: expected one like"),
    "a TYPE that is a path": (b'{"TYPE":"A/B:C","TO_ROOM":"x"}', "TYPE: expected one like"),
    "no room": (b'{"TYPE":"DATA/TEXT"}', "neither TO_ROOM nor TO"),
    "a room that is no text": (b'{"TYPE":"DATA/TEXT","TO_ROOM":7}', "TO_ROOM: expected a text"),
    "an empty room": (b'{"TYPE":"DATA/TEXT","TO_ROOM":""}', "TO_ROOM: expected a text"),
    "a room as long as a book": (
        json.dumps({"TYPE": "DATA/TEXT", "TO_ROOM": "x" * 1000}).encode(),
        "TO_ROOM: expected a text of 1 to 64 characters",
    ),
    "another's inbox": (b'{"TYPE":"DATA/TEXT","TO_ROOM":"@trainer"}', "hears what is said TO it"),
    "another's ear": (
        b'{"TYPE":"COMMAND/JOINROOM","ROOM":"@trainer"}',
        "names of other rooms may not begin with @",
    ),
    "JOINROOM of no room": (b'{"TYPE":"COMMAND/JOINROOM"}', "ROOM: expected a text"),
    "REGISTER without a name": (b'{"TYPE":"COMMAND/REGISTER"}', "NAME: expected a text"),
    "a name of the protocol": (b'{"TYPE":"DATA/TEXT","TO_ROOM":"x","m":1}', "m: this name is"),
    "an ID that is a list": (b'{"TYPE":"DATA/TEXT","TO_ROOM":"x","ID":[]}', "ID: expected a text"),
    "a status of its own": (
        b'{"TYPE":"DATA/TEXT","TO_ROOM":"x","MODEL_STATUS":9}',
        "MODEL_STATUS: expected 1 (train), 2 (validate) or 3 (differentiate), got 9",
    ),
    "depth": (b'{"TYPE":"DATA/TEXT","TO_ROOM":"x","DATA":' + b"[" * 5000, "not JSON"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_message_is_answered_and_its_sender_stays(
    gateway: GatewayProcess, room: str, what: str
) -> None:
    """With what was expected. The messages behind it are still understood."""
    text, reason = WRONG[what]
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    ann.frame(text)
    assert reason in ann.error()
    ann.say(room, "next")
    assert bob.data() == ["next"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"hello worl", "expected the length of the message as a decimal number"),
        (b"-5        ", "expected the length of the message"),
        (b"1e3       ", "expected the length of the message"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "expected the length of the message"),
        (b"          ", "expected the length of the message"),
        (b"104857600 ", "a message of 104857600 bytes: allowed are 8388608"),
        (b"9999999999", "allowed are 8388608"),
        (b"GET / HTTP", "expected the length of the message"),
    ],
)
def test_a_header_that_is_none_ends_its_connection(
    gateway: GatewayProcess, room: str, header: bytes, reason: str
) -> None:
    """Where the next message begins is not known any more; the others do not notice."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    eve = gateway.peer(f"eve-{room}", room)
    eve.socket.sendall(header + b" and more")
    assert reason in eve.error()
    assert eve.is_closed()
    busy([ann, bob], room)


def test_who_does_not_register_is_shown_the_door(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(handshake_s=0.3)
    silent, late = gateway.peer(), gateway.peer()
    late.say("cave", "before a name")
    assert "expected COMMAND/REGISTER first" in late.error()
    for peer in (silent, late):
        assert "no REGISTER within 0.3 s" in peer.error()
        assert peer.is_closed()
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    time.sleep(0.5)  # longer than the handshake: who has registered may be silent
    busy([ann, bob], "cave", 3)


@pytest.mark.parametrize("begun", [b"12", b"100       ", b"100       {half"])
def test_a_message_that_does_not_end_is_not_waited_for(
    make_gateway: MakeGateway, begun: bytes
) -> None:
    gateway = make_gateway(frame_s=0.3)
    ann, bob, eve = (gateway.peer(name, "cave") for name in ("ann", "bob", "eve"))
    eve.socket.sendall(begun)
    assert busy([ann, bob], "cave") < 5
    assert "did not arrive within 0.3 s" in eve.error()
    assert eve.is_closed()
    gateway.left("eve")


def test_a_connection_that_ends_within_a_message_is_no_trouble(
    gateway: GatewayProcess, room: str
) -> None:
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    for begun in (b"1", b"100       ", b"100       {half"):
        eve = gateway.peer(f"eve-{room}")
        eve.socket.sendall(begun)
        eve.close()
        gateway.left(f"eve-{room}")
    busy([ann, bob], room)


def test_announced_bytes_cost_nothing_until_they_come(make_gateway: MakeGateway) -> None:
    """Sixty connections announce 8 MiB each and send none of it."""
    gateway = make_gateway()
    assert gateway.process is not None
    process = psutil.Process(gateway.process.pid)
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    before = process.memory_info().rss
    for number in range(60):
        gateway.peer(f"eve-{number}").socket.sendall(b"%-10d" % (8 * 1024 * 1024))
    busy([ann, bob], "cave")
    assert process.memory_info().rss - before < 40 * 1024 * 1024


def test_no_more_connections_than_allowed(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(max_connections=3)
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    eve = gateway.peer()
    late = Peer(socket.create_connection(("127.0.0.1", gateway.port)))
    assert "3 clients are connected already (--max-connections)" in late.error()
    assert late.is_closed()
    eve.close()
    busy([ann, bob], "cave")
    late.close()

    def admitted() -> bool:
        peer = gateway.peer()
        peer.register("late")
        peer.send({"TYPE": "DATA/CUSTOM"})
        return "neither" in peer.error()

    until(admitted)


def test_a_message_as_large_as_allowed_arrives(gateway: GatewayProcess, room: str) -> None:
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    text = "x" * (7 * 1024 * 1024)
    ann.say(room, text)
    assert bob.data() == [text]


def test_a_flood_of_rubbish_is_answered_and_hurts_nobody_else(
    gateway: GatewayProcess, room: str
) -> None:
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    eve = gateway.peer(f"eve-{room}", room)
    eve.socket.sendall(b"5         oops!" * 2000)
    assert busy([ann, bob], room) < 10
    eve.here()


def test_a_direct_message_reaches_a_client_as_the_original_sends_it(
    gateway: GatewayProcess, room: str
) -> None:
    """The original's client ends at it, as it looks for TO_ROOM. Nobody else is concerned."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    eve = gateway.peer(f"eve-{room}", room)
    ann.send({"TYPE": "DATA/TEXT", "TO": f"eve-{room}", "DATA": 1})
    assert eve.data() == [1]
    eve.close()
    busy([ann, bob], room)
