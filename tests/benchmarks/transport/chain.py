"""One component of the six-hop chain, for `tests.benchmarks.transport`.

The trainer sends a batch of 100 pairs, which goes there and back as in the trebuchet; each
component passes on what it hears. What differs is only how it gets from one to the other. The
trainer prints how many rounds it has finished, four times a second.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import redis

TRAINER, CONTROL, SIMULATOR = "trainer", "controlmodel", "simulator"
COMPONENTS = (SIMULATOR, CONTROL, TRAINER)
FORWARD, GRADIENT = "FORWARD", "GRADIENT"

# What each component receives, and where it sends it. The trainer's last line ends a round.
WAYS = {
    CONTROL: {("input", FORWARD): ("model", FORWARD), ("model", GRADIENT): ("input", GRADIENT)},
    SIMULATOR: {("model", FORWARD): ("output", FORWARD), ("output", GRADIENT): ("model", GRADIENT)},
    TRAINER: {("output", FORWARD): ("output", GRADIENT), ("input", GRADIENT): ("input", FORWARD)},
}
BATCH = np.arange(200, dtype="<f4").reshape(100, 2) / 7


class Meter:
    """Counts rounds, and says how many."""

    def __init__(self) -> None:
        self.rounds = 0
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        while True:
            time.sleep(0.25)
            print(json.dumps({"rounds": self.rounds, "at": time.monotonic()}), flush=True)


# the limit: bytes over sockets, and nothing else


def sockets(component: str, url: str) -> None:
    """Three connections, one for each room; a message is a byte for its type and the array."""
    port = int(url)
    rooms = {room: port + number for number, room in enumerate(("input", "model", "output"))}
    owners = {"input": CONTROL, "model": SIMULATOR, "output": TRAINER}
    mine = {room for way in (*WAYS[component], *WAYS[component].values()) for room in way[:1]}
    links: dict[str, socket.socket] = {}
    doors = {}
    for room in mine:
        if owners[room] == component:
            doors[room] = socket.create_server(("127.0.0.1", rooms[room]))
    for room in mine - set(doors):
        links[room] = _connected(rooms[room])
    for room, door in doors.items():
        links[room] = door.accept()[0]
    for link in links.values():
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    names = {link: room for room, link in links.items()}
    meter = Meter() if component == TRAINER else None
    size = 1 + BATCH.nbytes
    if meter is not None:
        links["input"].sendall(b"F" + BATCH.tobytes())
    while True:
        for link in select.select(list(names), [], [])[0]:
            data = link.recv(size, socket.MSG_WAITALL)
            heard = (names[link], FORWARD if data[:1] == b"F" else GRADIENT)
            room, type_ = WAYS[component][heard]
            if meter is not None and heard == ("input", GRADIENT):
                meter.rounds += 1
            links[room].sendall(type_[:1].encode() + data[1:])


def _connected(port: int) -> socket.socket:
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            time.sleep(0.02)


# redis-py, as its documentation shows it


def pubsub(component: str, url: str, as_json: bool) -> None:
    """Use SUBSCRIBE and PUBLISH: a component that is away misses messages without notice."""
    client = redis.Redis.from_url(url)
    ways = {f"{room}:{type_}".encode(): way for (room, type_), way in WAYS[component].items()}
    listener = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    listener.subscribe(*(name.decode() for name in ways))
    meter = Meter() if component == TRAINER else None
    if meter is not None:
        wait_heard(client, stream=False)
        client.publish("input:FORWARD", _packed(BATCH, as_json))
    for message in listener.listen():
        room, type_ = ways[message["channel"]]
        array = _unpacked(message["data"], as_json)
        if meter is not None and message["channel"] == b"input:GRADIENT":
            meter.rounds += 1
        client.publish(f"{room}:{type_}", _packed(array, as_json))


def wait_heard(client: redis.Redis, stream: bool) -> None:
    """Wait until all components listen: an earlier message would be lost."""
    rooms = [":".join(heard) for ways in WAYS.values() for heard in ways]
    while True:
        try:
            if stream:
                heard: Any = [client.xinfo_groups(room) for room in rooms]
            else:
                heard = [count for _, count in client.pubsub_numsub(*rooms)]
        except redis.ResponseError:  # a stream that does not exist yet
            heard = [False]
        if all(heard):
            return
        time.sleep(0.02)


def _packed(array: Any, as_json: bool) -> bytes:
    if not as_json:
        return bytes(array.tobytes())
    body = {"ID": uuid.uuid4().hex, "ROOT_ID": uuid.uuid4().hex, "DATA": array.tolist()}
    return json.dumps(body).encode()


def _unpacked(data: bytes, as_json: bool) -> Any:
    if not as_json:
        return np.frombuffer(data, "<f4").reshape(-1, 2)
    return np.array(json.loads(data)["DATA"], "<f4")


# FastStream


def faststream(component: str, url: str, stream: bool) -> None:
    """Channels, or streams with a group that are acknowledged when the handler is done."""
    from faststream import AckPolicy, FastStream
    from faststream.redis import RedisBroker, StreamSub

    broker = RedisBroker(url, logger=None)
    app = FastStream(broker, logger=None)
    meter = Meter() if component == TRAINER else None

    def make(heard: tuple[str, str], way: tuple[str, str]) -> Callable[[Any], Awaitable[None]]:
        async def handle(body: dict[str, Any]) -> None:
            array = np.array(body["DATA"], "<f4")
            if meter is not None and heard == ("input", GRADIENT):
                meter.rounds += 1
            await say(way, {"DATA": array.tolist()})

        return handle

    async def say(way: tuple[str, str], body: dict[str, Any]) -> None:
        name = ":".join(way)
        if stream:
            await broker.publish(body, stream=name, maxlen=1000)
        else:
            await broker.publish(body, channel=name)

    for heard, way in WAYS[component].items():
        name = ":".join(heard)
        if stream:
            group = StreamSub(name, group=component, consumer=component, polling_interval=10)
            ack = AckPolicy.NACK_ON_ERROR
            broker.subscriber(stream=group, ack_policy=ack)(make(heard, way))
        else:
            broker.subscriber(name)(make(heard, way))

    @app.after_startup
    async def begin() -> None:
        if meter is not None:
            await asyncio.to_thread(wait_heard, redis.Redis.from_url(url), stream)
            await say(("input", FORWARD), {"DATA": BATCH.tolist()})

    asyncio.run(app.run())


# swergio


def swergio(component: str, url: str, no_delay: bool) -> None:
    """Its own client; with TCP_NODELAY, which it does not set."""
    from swergio import MESSAGE_TYPE, Client, Trigger

    client = Client(component, "127.0.0.1", int(url))
    if no_delay:
        client.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    meter = Meter() if component == TRAINER else None
    kinds = {FORWARD: MESSAGE_TYPE.DATA.FORWARD, GRADIENT: MESSAGE_TYPE.DATA.GRADIENT}

    def make(heard: tuple[str, str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def handle(msg: dict[str, Any]) -> dict[str, Any]:
            array = np.array(msg["DATA"], "<f4")
            if meter is not None and heard == ("input", GRADIENT):
                meter.rounds += 1
            return {"DATA": array.tolist()}

        return handle

    for heard, (room, type_) in WAYS[component].items():
        trigger = Trigger(kinds[heard[1]], heard[0])
        client.add_eventHandler(make(heard), kinds[type_], responseRooms=room, trigger=trigger)
    if meter is not None:
        time.sleep(0.5)  # the others have no way to say that they are there
        body = {"ID": uuid.uuid4().hex, "ROOT_ID": uuid.uuid4().hex, "TO_ROOM": "input"}
        client.send({**body, "TYPE": kinds[FORWARD].id, "DATA": BATCH.tolist()})
    client.listen()


def swergio_server(port: int, no_delay: bool) -> None:
    """Its own server."""
    from swergio import Server

    class Quick(Server):  # type: ignore[misc]
        def handle_client(self, client: Any, addr: Any) -> None:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().handle_client(client, addr)

    (Quick if no_delay else Server)("127.0.0.1", port, "utf-8", 10).start()


# roomgrad


def rooms(component: str, url: str) -> None:
    """A component of ours, in rooms as those of the trebuchet: exactly once."""
    from roomgrad import (
        Array,
        Component,
        Context,
        Message,
        MessageType,
        Room,
        RuntimeSettings,
        Stream,
        System,
        main,
        on,
    )

    types = {FORWARD: MessageType.FORWARD, GRADIENT: MessageType.GRADIENT}
    pairs = {"DATA": Array("<f4", ("batch", 2))}
    streams = [
        Stream(Room(room), types[type_], pairs, (name,))
        for name, ways in WAYS.items()
        for room, type_ in ways
    ]
    system = System("chain", tuple(streams), COMPONENTS)
    meter = Meter() if component == TRAINER else None

    def make(heard: tuple[str, str], way: tuple[str, str]) -> Any:
        place = (Room(way[0]), types[way[1]])

        @on(Room(heard[0]), types[heard[1]], replies=[place])
        def handle(message: Message, _context: Context) -> Message:
            if meter is not None and heard == ("input", GRADIENT):
                meter.rounds += 1
                return Message.open(place[0], message.array)
            return message.reply(place[0], message.array, type=place[1])

        return handle

    def start(_context: Context) -> Message:
        return Message.open("input", BATCH)

    handlers = [make(heard, way) for heard, way in WAYS[component].items()]
    opens = start if component == TRAINER else None
    sys.argv = ["chain", f"--redis-url={url}", "--log-level=warning"]
    main(Component(component, system, RuntimeSettings, handlers=handlers, on_start=opens))


KINDS: dict[str, Callable[[str, str], None]] = {
    "socket": sockets,
    "pubsub-raw": lambda component, url: pubsub(component, url, as_json=False),
    "pubsub-json": lambda component, url: pubsub(component, url, as_json=True),
    "faststream-channel": lambda component, url: faststream(component, url, stream=False),
    "faststream-stream": lambda component, url: faststream(component, url, stream=True),
    "swergio": lambda component, url: swergio(component, url, no_delay=False),
    "swergio-nodelay": lambda component, url: swergio(component, url, no_delay=True),
    "rooms": rooms,
}

if __name__ == "__main__":
    kind, part, address = sys.argv[1:]
    if part == "server":
        swergio_server(int(address), no_delay=kind == "swergio-nodelay")
    else:
        KINDS[kind](part, address)
