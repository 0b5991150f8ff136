"""Prints what it hears in its rooms; answers it where it is told to, or takes it and never does."""

from __future__ import annotations

import signal
from typing import Any

from swergio import MESSAGE_TYPE, Client, Trigger

from tests.swergio.lines import arguments, tell, tell_when_ready

DATA = MESSAGE_TYPE.DATA
LONGEST = 100  # characters of a text that it prints
TYPES = [DATA.FORWARD, DATA.GRADIENT, DATA.REWARD, DATA.TEXT, DATA.CUSTOM]

given = arguments(
    __doc__,
    rooms={"nargs": "+", "required": True, "help": "which rooms it listens in"},
    answers={"default": None, "help": "the room into which it says what it has heard"},
    hold={"action": "store_true", "help": "take the first message, and do nothing ever after"},
)
client = Client(given.name, given.server, given.port)


def work(msg: dict[str, Any]) -> dict[str, Any] | None:
    tell(heard=msg["DATA"][:LONGEST], by=msg["SENT_BY"], type=msg["TYPE"], room=msg["TO_ROOM"])
    if given.hold:
        signal.pause()
    return {"DATA": msg["DATA"], "WORKER": given.name} if given.answers else None


client.add_eventHandler(
    work, DATA.TEXT, responseRooms=given.answers, trigger=Trigger(TYPES, given.rooms)
)
tell_when_ready(client)
client.listen()
