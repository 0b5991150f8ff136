"""swergio with a server of its own; with TCP_NODELAY, which it does not set, or without."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.benchmarks.transport.chain.ways import (
    BATCH,
    FORWARD,
    GRADIENT,
    LAST,
    TRAINER,
    WAYS,
    Meter,
)


def swergio(component: str, url: str, *, no_delay: bool) -> None:
    """Pass messages on until the process is killed."""
    from swergio import MESSAGE_TYPE, Client, Trigger

    client = Client(component, "127.0.0.1", int(url))
    if no_delay:
        client.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    meter = Meter() if component == TRAINER else None
    kinds = {FORWARD: MESSAGE_TYPE.DATA.FORWARD, GRADIENT: MESSAGE_TYPE.DATA.GRADIENT}

    def make(heard: tuple[str, str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def handle(msg: dict[str, Any]) -> dict[str, Any]:
            array = np.array(msg["DATA"], "<f4")
            if meter is not None and heard == LAST:
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


def server(port: int, *, no_delay: bool) -> None:
    """Run the server until the process is killed."""
    from swergio import Server

    class Quick(Server):  # type: ignore[misc]
        def handle_client(self, client: Any, addr: Any) -> None:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().handle_client(client, addr)

    (Quick if no_delay else Server)("127.0.0.1", port, "utf-8", 10).start()
