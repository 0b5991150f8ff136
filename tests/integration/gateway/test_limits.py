"""What one client may take: rooms, TYPEs, messages a second, tries of a token."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roomgrad.errors import DecodeError
from roomgrad.names import Names
from roomgrad_swergio.gateway import subscriber
from roomgrad_swergio.gateway.registry import MAX_JOINED_ROOMS
from roomgrad_swergio.gateway.rooms import MAX_TYPES
from roomgrad_swergio.gateway.subscriber import Subscriber
from tests.integration.gateway.conftest import MakeGateway
from tests.integration.gateway.gateway_process import GatewayProcess, busy
from tests.waiting import until


def test_a_client_is_in_so_many_rooms(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    ann, bob, eve = gateway.peer("ann", "cave"), gateway.peer("bob", "cave"), gateway.peer("eve")
    for number in range(MAX_JOINED_ROOMS - 1):  # and one in which it hears what is said TO it
        eve.join(f"room-{number}")
    eve.here()
    eve.join("one-more")
    assert f"eve is in {MAX_JOINED_ROOMS} rooms, expected no more: leave one" in eve.error()
    eve.send({"TYPE": "COMMAND/LEAVEROOM", "ROOM": "room-7"})
    eve.join("one-more")
    eve.here()
    ann.say("one-more", 1)
    assert eve.data() == [1]
    busy([ann, bob], "cave", 3)


def test_a_room_has_so_many_types(gateway: GatewayProcess, room: str) -> None:
    """Each of them is a stream, and costs everybody in the room a group."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    for number in range(MAX_TYPES):
        ann.say(room, number, TYPE=f"DATA/X{number}")
    assert bob.data(MAX_TYPES)
    ann.say(room, 0, TYPE="DATA/ONE-MORE")
    assert f"room {room!r} has {MAX_TYPES}, expected no more" in ann.error()
    ann.say(room, 5, TYPE="DATA/X5")
    assert bob.data() == [5]


def test_rings_that_are_forged_make_no_streams_and_no_noise(
    gateway: GatewayProcess, room: str
) -> None:
    """Who may publish can say anything on a channel."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    channel = gateway.names.channel(room)
    until(lambda: gateway.client.pubsub_numsub(channel)[0][1])
    before = len(gateway.lines)
    for payload in (b'{"ring":1,', b'{"ring":1,"TYPE":7}', b'{"ring":1,"TYPE":"A/B","entry":[]}'):
        gateway.client.publish(channel, payload)
    busy([ann, bob], room, 3)
    assert not any("goes on after an error" in line for line in gateway.lines[before:])


def test_a_client_that_sends_too_fast_is_read_more_slowly(make_gateway: MakeGateway) -> None:
    """Nothing of it is lost, and the others do not notice."""
    gateway = make_gateway(max_per_s=20)
    ann, bob, eve = (gateway.peer(name) for name in ("ann", "bob", "eve"))
    for peer in (bob, eve):
        peer.join("cave")
        peer.here()
    began = time.monotonic()
    for number in range(40):
        eve.say("cave", number)
    assert busy([ann, bob], "elsewhere", 0) < 1
    assert bob.data(40) == list(range(40))
    assert time.monotonic() - began > 0.9


def test_a_wrong_token_takes_its_time(make_gateway: MakeGateway, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-token-of-24-characters")
    gateway = make_gateway(token_file=file)
    eve = gateway.peer()
    began = time.monotonic()
    eve.register("eve:wrong")
    assert "the token is missing or wrong" in eve.error()
    assert time.monotonic() - began > 0.4
    assert eve.is_closed()


def test_so_many_channels_are_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of rooms in which nobody is any more make room for others."""
    monkeypatch.setattr(subscriber, "MAX_CHANNELS", 3)
    subscription = SimpleNamespace(rooms={"a": 1, "b": 1, "c": 1})
    nobody: Any = None
    store: Any = SimpleNamespace(me="gateway~1")
    rooms: Any = SimpleNamespace(subscriptions=[subscription])
    found = Subscriber(Names("run"), nobody, rooms, store)

    async def join(room: str) -> None:
        await found.make_space(room)
        await found.subscribe(room)

    async def all_of_it() -> None:
        for room in "abc":
            await join(room)
        with pytest.raises(DecodeError, match="3 rooms are in use, expected no more"):
            await join("d")
        await join("b")
        del subscription.rooms["c"]
        await join("d")

    asyncio.run(all_of_it())
