"""Rates melodies in the room `user`, by the rule that stands in for a person."""

from __future__ import annotations

from typing import Any

import numpy as np
from swergio import MESSAGE_TYPE, Client, Trigger

from roomgrad_melody.rater.rater import rating
from tests.swergio.lines import arguments, tell, tell_when_ready

CUSTOM = MESSAGE_TYPE.DATA.CUSTOM

given = arguments(__doc__)
client = Client(given.name, given.server, given.port)


def rate(msg: dict[str, Any]) -> dict[str, Any] | None:
    if "FITNESS" in msg or msg.get("RATER", given.name) != given.name:
        return None
    genomes = msg["GENOMES"]
    fitness = rating(np.array(genomes, np.uint8)).tolist()
    tell(rated=["".join(map(str, genome)) for genome in genomes], fitness=fitness)
    return {"GENOMES": genomes, "FITNESS": fitness, "RATER": given.name}


client.add_eventHandler(rate, CUSTOM, responseRooms="user", trigger=Trigger(CUSTOM, "user"))
tell_when_ready(client)
client.listen()
