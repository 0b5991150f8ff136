"""roomgrad: components in rooms as those of the trebuchet. Exactly once."""

from __future__ import annotations

import sys
from typing import Any

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
from tests.benchmarks.transport.chain.ways import (
    BATCH,
    COMPONENTS,
    FORWARD,
    GRADIENT,
    LAST,
    TRAINER,
    WAYS,
    Meter,
)


def rooms(component: str, url: str) -> None:
    """Pass messages on until the process is killed."""
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
            if meter is not None and heard == LAST:
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
