"""What the original's server does, the gateway does: rooms, names, commands, the log."""

from __future__ import annotations

import json

import pytest

from roomgrad import codec
from roomgrad_trebuchet.contract import TREBUCHET
from tests.integration.gateway.conftest import MakeGateway
from tests.integration.gateway.gateway_process import GatewayProcess, Peer
from tests.waiting import until


def test_everybody_in_a_room_hears_it_but_who_said_it(gateway: GatewayProcess, room: str) -> None:
    ann, bob, eve = (gateway.peer(f"{name}-{room}", room) for name in ("ann", "bob", "eve"))
    outside = gateway.peer(f"out-{room}", f"other-{room}")
    ann.say(room, "hello")
    assert bob.data() == ["hello"]
    assert eve.data() == ["hello"]
    ann.hears_nothing_before(bob, room, "answer")
    bob.say(f"other-{room}", "you")
    assert outside.data() == ["you"]


def test_a_message_arrives_as_it_was_said(gateway: GatewayProcess, room: str) -> None:
    """Whatever fields it has; what the original leaves away is filled in."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    body = {
        "TYPE": "DATA/CUSTOM",
        "ID": "1",
        "ROOT_ID": "r",
        "SENT_BY": "somebody",
        "MODEL_STATUS": 2,
        "TO_ROOM": room,
        "DATA": [[1, 2.5], ["ä", None]],
        "GENOMES": {"a": True},
    }
    ann.send(body)
    assert bob.receive() == body
    ann.send({"TYPE": "DATA/TEXT", "TO_ROOM": room})
    filled = bob.receive()
    assert filled["SENT_BY"] == f"ann-{room}"
    assert len(filled["ID"]) == len(filled["ROOT_ID"]) == 32
    assert filled["MODEL_STATUS"] == 1


def test_a_reply_of_a_client_keeps_the_seed_of_its_root(gateway: GatewayProcess, room: str) -> None:
    """Clients hear it, and need not repeat it: those of swergio do not know it."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    ann.say(room, "hello", ROOT_ID="r", SEED=2**63 - 1)
    assert bob.receive()["SEED"] == 2**63 - 1
    bob.say(room, "you", ROOT_ID="r")
    assert ann.receive()["SEED"] == 2**63 - 1
    ann.say(room, "again", ROOT_ID="r", SEED=None)
    assert bob.receive()["SEED"] == 2**63 - 1
    ann.say(room, "unknown", ROOT_ID="other")
    assert "SEED" not in bob.receive()
    ann.say(room, "wrong", SEED="five")
    assert "SEED: expected a whole number from 0 to 2**63 - 1, got 'five'" in ann.error()


def test_any_type_of_the_original_passes(gateway: GatewayProcess, room: str) -> None:
    """Also those that no contract here knows."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    for type_ in ("DATA/REWARD", "COMMAND/SAVEMODELWEIGHTS", "LOG/RUN", "LOG/CUSTOM", "MINE"):
        ann.send({"TYPE": type_, "TO_ROOM": room, "NUMBER": 1})
        assert bob.receive()["TYPE"] == type_


def test_a_client_hears_what_is_said_to_its_name(gateway: GatewayProcess, room: str) -> None:
    """Without a room, as in the original: the message has no TO_ROOM then."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}")
    ann.send({"TYPE": "DATA/TEXT", "TO": f"bob-{room}", "DATA": "psst"})
    body = bob.receive()
    assert body["DATA"] == "psst"
    assert body["TO"] == f"bob-{room}"
    assert "TO_ROOM" not in body


def test_a_client_that_is_named_in_its_room_hears_it_once(
    gateway: GatewayProcess, room: str
) -> None:
    """Outside of it too; the others in the room hear it as well."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    cat, dan = gateway.peer(f"cat-{room}"), gateway.peer(f"dan-{room}", room)
    for name in ("bob", "cat"):
        ann.send({"TYPE": "DATA/TEXT", "TO": f"{name}-{room}", "TO_ROOM": room, "DATA": name})
    ann.say(room, "end")
    assert bob.data(3) == ["bob", "cat", "end"]
    assert dan.data(3) == ["bob", "cat", "end"]
    heard = cat.receive()
    assert (heard["DATA"], heard["TO_ROOM"]) == ("cat", room)


def test_who_is_nobody_cannot_be_written_to(gateway: GatewayProcess, room: str) -> None:
    """The sender is told, and stays."""
    ann = gateway.peer(f"ann-{room}", room)
    ann.send({"TYPE": "DATA/TEXT", "TO": f"nobody-{room}"})
    assert "no client of this name" in ann.error()
    ann.send({"TYPE": "DATA/TEXT", "TO": "simulator"})
    assert "name TO_ROOM" in ann.error()


def test_a_room_that_nobody_has_joined_is_no_trouble(gateway: GatewayProcess, room: str) -> None:
    """The original throws the sender out. Here the message stands in the room's stream."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    ann.say(f"empty-{room}", "anybody?")
    ann.here()
    ann.hears_nothing_before(bob, room, "still here")
    assert [body["DATA"] for body in gateway.stream(f"empty-{room}")] == ["anybody?"]


def test_who_leaves_a_room_hears_it_no_more(gateway: GatewayProcess, room: str) -> None:
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room, f"b-{room}")
    bob.send({"TYPE": "COMMAND/LEAVEROOM", "ROOM": room, "TO_ROOM": "_command"})
    bob.here()
    ann.say(room, "gone?")
    bob.hears_nothing_before(ann, f"b-{room}", "here")
    assert room not in (gateway.seat(f"bob-{room}@gateway") or {})["rooms"]


def test_clients_hear_of_each_other_in_the_room_of_commands(
    gateway: GatewayProcess, room: str
) -> None:
    ann = gateway.peer(f"ann-{room}", "_command")
    bob = gateway.peer(f"bob-{room}", room)
    assert ann.receive()["NAME"] == f"bob-{room}"
    body = ann.receive()
    assert (body["TYPE"], body["ROOM"]) == ("COMMAND/JOINROOM", room)
    assert body["SENT_BY"] == f"bob-{room}"
    bob.send({"TYPE": "COMMAND/CUSTOM", "TO_ROOM": "_command", "CMD": "go"})
    assert ann.receive()["CMD"] == "go"


def test_the_room_of_logs_gets_data_messages(gateway: GatewayProcess, room: str) -> None:
    """Each as LOG/MESSAGES, from all rooms and everybody, to who listens just then."""
    log, ann, bob = gateway.peer(f"log-{room}", "_logging"), gateway.peer(f"ann-{room}", room), None
    bob = gateway.peer(f"bob-{room}", room, "_logging")

    def logged() -> dict[str, object]:
        while (body := log.receive()).get("MESSAGE", {}).get("TO_ROOM") != room:
            pass
        return body

    ann.say(room, [1], ID="1", ROOT_ID="2")
    body = logged()
    assert body["TYPE"] == "LOG/MESSAGES"
    assert body["TO_ROOM"] == "_logging"
    message = body["MESSAGE"]
    assert isinstance(message, dict)
    assert (message["DATA"], message["SENT_BY"]) == ([1], f"ann-{room}")
    ann.send({"TYPE": "COMMAND/CUSTOM", "TO_ROOM": room})
    ann.send({"TYPE": "LOG/KPI", "TO_ROOM": "_logging", "KPI": "loss", "VALUE": 0.5})
    ann.say(room, [2])
    seen = [log.receive() for _ in range(2)]
    assert {body["TYPE"] for body in seen} == {"LOG/KPI", "LOG/MESSAGES"}
    assert bob.data(1) == [[1]]


def test_messages_of_a_contract_stand_in_its_streams(gateway: GatewayProcess) -> None:
    """A trainer's batch looks like one of our own; the answer arrives as lists of numbers."""
    stream = TREBUCHET.stream("input", "DATA/FORWARD")
    trainer, control = gateway.peer("orig-trainer", "input"), gateway.peer("orig-control", "input")
    batch = [[0.5 * i, float(i)] for i in range(100)]
    trainer.send({"TYPE": "DATA/FORWARD", "TO_ROOM": "input", "ID": "a", "DATA": batch})
    assert control.receive()["DATA"] == batch
    found = gateway.client.xrevrange(gateway.names.stream(*stream.key), count=1)
    entry, fields = found[0]  # type: ignore[index]
    flat = [part for pair in fields.items() for part in pair]
    message = codec.decode(entry.decode(), flat, stream)
    assert message.array.dtype == "<f4"
    assert message.array.tolist() == batch
    assert message.sent_by == "orig-trainer"


def test_what_does_not_fit_a_contract_is_refused(gateway: GatewayProcess, room: str) -> None:
    """With the field, what was expected and what came; in room `errors`, too."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    ann.send({"TYPE": "DATA/FORWARD", "TO_ROOM": "input", "DATA": [[1, 2, 3]]})
    assert "DATA: expected shape (batch, 2), got (1, 3)" in ann.error()
    ann.send({"TYPE": "DATA/FORWARD", "TO_ROOM": "input", "DATA": [[1, 2]], "STEP": 1})
    assert "unknown field 'STEP'" in ann.error()
    ann.send({"TYPE": "DATA/TEXT", "TO_ROOM": "input", "DATA": "another TYPE is free"})
    ann.hears_nothing_before(bob, room, "still here")
    texts = [body["TEXT"] for body in gateway.stream("errors", "LOG/ERROR")]
    assert any(f"ann-{room}" in text and "got (1, 3)" in text for text in texts)


def test_a_client_may_take_another_name(gateway: GatewayProcess, room: str) -> None:
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    ann.register(f"eve-{room}")
    ann.here()
    ann.say(room, "I")
    assert bob.receive()["SENT_BY"] == f"eve-{room}"
    bob.say(room, "you")  # it is still in its rooms
    assert ann.data() == ["you"]
    bob.send({"TYPE": "DATA/TEXT", "TO": f"eve-{room}", "DATA": "by name"})
    assert ann.data() == ["by name"]


def test_a_farewell_ends_the_connection(gateway: GatewayProcess, room: str) -> None:
    ann = gateway.peer(f"ann-{room}", room)
    ann.send({"TYPE": "COMMAND/DISCONNECT", "TO_ROOM": "_command"})
    assert ann.is_closed()
    gateway.left(f"ann-{room}")


def test_redis_cli_talks_to_clients(gateway: GatewayProcess, room: str) -> None:
    """A whole message that is published by hand arrives, once by its ID; rubbish hurts nobody."""
    ann = gateway.peer(f"ann-{room}", room)
    body = {"ID": "my-1", "ROOT_ID": "my-1", "TYPE": "DATA/TEXT", "DATA": "by hand"}
    channel = gateway.names.channel(room)
    elsewhere = json.dumps({**body, "ID": "my-0", "DATABASE": 3})
    one = json.dumps({**body, "DATABASE": 0})
    for text in (b"rubbish", b'{"TYPE":"DATA/TEXT"}', elsewhere, one, json.dumps(body)):
        gateway.client.publish(channel, text)
    heard = ann.receive()
    assert (heard["ID"], heard["DATA"], heard["TO_ROOM"]) == ("my-1", "by hand", room)
    ann.hears_nothing_before(gateway.peer(f"bob-{room}", room), room, "end")
    gateway.client.publish(gateway.names.channel("input"), b"rubbish")  # a room of the contract
    ann.hears_nothing_before(gateway.peer(f"cat-{room}", room), room, "still here")


def test_header_and_format_are_settings(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(header_length=8, format="latin-1")
    peers = []
    for name in ("ann", "bob"):
        peer = Peer(gateway.peer().socket)
        for body in (
            {"TYPE": "COMMAND/REGISTER", "NAME": name},
            {"TYPE": "COMMAND/JOINROOM", "ROOM": "cave"},
        ):
            text = json.dumps(body).encode("latin-1")
            peer.socket.sendall(b"%-8d" % len(text) + text)
        peers.append(peer)
    until(lambda: "cave" in (gateway.seat("bob@gateway") or {"rooms": ()})["rooms"])
    text = json.dumps({"TYPE": "DATA/TEXT", "TO_ROOM": "cave", "DATA": "ä€"}, ensure_ascii=False)
    encoded = text.replace("€", "\\u20ac").encode("latin-1")
    peers[0].socket.sendall(b"%-8d" % len(encoded) + encoded)
    bob = peers[1]
    length = int(bob._exactly(8))
    assert json.loads(bob._exactly(length).decode("latin-1"))["DATA"] == "ä€"


@pytest.mark.parametrize("ending", ["", ":2"])
def test_names_may_hold_anything_printable(gateway: GatewayProcess, room: str, ending: str) -> None:
    """Rooms and names are keys, groups and channels, and cannot break out of them."""
    odd = f"{{a}} *ä:{room}{ending}"
    ann, bob = gateway.peer(f"ann {odd}", odd), gateway.peer(f"bob {odd}", odd)
    ann.say(odd, "x")
    assert bob.data() == ["x"]
    bob.send({"TYPE": "DATA/TEXT", "TO": f"ann {odd}", "DATA": "y"})
    assert ann.data() == ["y"]
