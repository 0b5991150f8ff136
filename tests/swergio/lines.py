"""What every client here takes from its command line, and the lines of JSON that it prints."""

from __future__ import annotations

import argparse
import json
import os
import uuid
from typing import Any

from swergio import MESSAGE_TYPE, Client, EventHandler, Trigger


def arguments(purpose: str | None, **more: dict[str, Any]) -> argparse.Namespace:
    """`--server --port --name`, and whatever else a client needs: `steps={"default": 10}`."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--server", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--name", required=True)
    for name, options in more.items():
        parser.add_argument(f"--{name}", **options)
    return parser.parse_args()


def tell(**record: Any) -> None:
    """One line of JSON on the standard output."""
    print(json.dumps(record), flush=True)


def tell_when_ready(client: Client) -> None:
    """Prints a line as soon as the server has let this process into all of its rooms.

    It speaks to itself: what comes back has stood behind all that it said before. Where several of
    one name share their work, another one of them may get it, and prints the line.
    """

    def heard(msg: dict[str, Any]) -> None:
        tell(ready=msg["PID"])

    # Not by add_eventHandler, which wants rooms; what is said to one client has none.
    client.eventHandlers.add(EventHandler(heard, None, trigger=Trigger(MESSAGE_TYPE.LOG.CUSTOM)))
    message = {"TYPE": MESSAGE_TYPE.LOG.CUSTOM.id, "TO": client.name, "PID": os.getpid()}
    client.send({"ID": uuid.uuid4().hex, **message})
