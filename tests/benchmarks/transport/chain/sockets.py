"""Bare sockets: bytes, and nothing else. The limit."""

from __future__ import annotations

import select
import socket
import time

from tests.benchmarks.transport.chain.ways import (
    BATCH,
    CONTROL,
    FORWARD,
    GRADIENT,
    LAST,
    SIMULATOR,
    TRAINER,
    WAYS,
    Meter,
)


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
            if meter is not None and heard == LAST:
                meter.rounds += 1
            links[room].sendall(type_[:1].encode() + data[1:])


def _connected(port: int) -> socket.socket:
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            time.sleep(0.02)
