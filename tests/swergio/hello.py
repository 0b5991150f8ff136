"""Hello World: who has a greeting says it to the room; everybody else answers what they hear."""

from __future__ import annotations

import uuid
from typing import Any

from swergio import MESSAGE_TYPE, Client, Trigger

from tests.swergio.lines import arguments, tell, tell_when_ready

given = arguments(__doc__, room={"default": "hall"}, greeting={"default": ""})
client = Client(given.name, given.server, given.port)


def answer(msg: dict[str, Any]) -> dict[str, Any] | None:
    tell(heard=msg)
    if given.greeting:
        return None
    return {"DATA": f"Hello {msg['SENT_BY']}, this is {given.name}"}


client.add_eventHandler(
    answer,
    MESSAGE_TYPE.DATA.TEXT,
    responseRooms=given.room,
    trigger=Trigger(MESSAGE_TYPE.DATA.TEXT, given.room),
)
tell_when_ready(client)
if given.greeting:
    greeting = {"TYPE": MESSAGE_TYPE.DATA.TEXT.id, "DATA": given.greeting, "TO_ROOM": given.room}
    client.send({"ID": uuid.uuid4().hex, **greeting})
client.listen()
