"""Rates and compares melodies in the room `user`, by the rule that stands in for a person."""

from __future__ import annotations

from typing import Any

import numpy as np
from swergio import MESSAGE_TYPE, Client, Trigger

from roomgrad_melody.rater.rater import rating
from tests.swergio.lines import arguments, tell, tell_when_ready

CUSTOM = MESSAGE_TYPE.DATA.CUSTOM

given = arguments(__doc__)
client = Client(given.name, given.server, given.port)


def answer(msg: dict[str, Any]) -> dict[str, Any] | None:
    if {"FITNESS", "PREFER"} & msg.keys() or msg.get("RATER", given.name) != given.name:
        return None
    genomes = msg.get("GENOMES") or msg["PAIR"]
    fitness = rating(np.array(genomes, np.uint8)).tolist()
    if "PAIR" in msg:
        first, second = fitness
        prefer = "equal" if first == second else "first" if first > second else "second"
        tell(compared=["".join(map(str, genome)) for genome in genomes], prefer=prefer)
        return {"PAIR": genomes, "PREFER": prefer, "RATER": given.name}
    tell(rated=["".join(map(str, genome)) for genome in genomes], fitness=fitness)
    return {"GENOMES": genomes, "FITNESS": fitness, "RATER": given.name}


client.add_eventHandler(answer, CUSTOM, responseRooms="user", trigger=Trigger(CUSTOM, "user"))
tell_when_ready(client)
client.listen()
