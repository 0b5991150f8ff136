"""The simulator, slower by 50 ms, or by SHOT_PAUSE_S, at each shot."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from roomgrad import Context, Message, main, on
from roomgrad_trebuchet.contract import FORWARD, MODEL, OUTPUT
from roomgrad_trebuchet.simulator import handlers

PAUSE_S = float(os.environ.get("SHOT_PAUSE_S", "0.05"))


@on(MODEL, FORWARD, replies=[(OUTPUT, FORWARD)])
def shoot(message: Message, context: Context) -> Message:
    time.sleep(PAUSE_S)
    reply = handlers.shoot(message, context)
    assert isinstance(reply, Message)
    return reply


component = replace(handlers.component, handlers=[shoot, handlers.gradient])

if __name__ == "__main__":
    main(component)
