"""`roomgrad pub`: put a message into a room."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

from typer import Option

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.cli.draft import Draft
from roomgrad.messages import MAX_SEED, Message, new_id
from roomgrad.names import Names


def pub(
    room: typed.Room,
    body: typed.Body = "",
    type_: Annotated[str, Option("--type", help="TYPE, if there are several.")] = "",
    file: typed.File = "",
    root: Annotated[str, Option(help="ROOT_ID; a new one if empty.", metavar="ID")] = "",
    to: Annotated[str, Option(help="TO: the component that receives it.", metavar="NAME")] = "",
    seed: Annotated[
        int | None, Option(help="SEED of what is drawn on its way.", min=0, max=MAX_SEED)
    ] = None,
    status: typed.Status = "validate",
    times: Annotated[int, Option(help="Send it so many times.", min=1, max=10**9)] = 1,
    rate: Annotated[float, Option(help="With --times: so many per second; 0: at once.", min=0)] = 0,
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    draft = Draft(room, type_, body, file, status, root, to, seed)
    with target.opened(run, redis) as (client, names, url):
        system = target.contract_of(client, names)
        message = draft.message(system)
        began = time.monotonic()
        with target.sender(names, url, system) as sender:
            for number in range(times):
                if number:
                    message = replace(message, id=new_id(), root_id=root or new_id())
                if rate:
                    time.sleep(max(0.0, began + number / rate - time.monotonic()))
                message.entry = sender.send(message)
                if times == 1 or as_json:
                    _report(names, message, as_json=bool(as_json))
    if times > 1 and not as_json:
        output.say(f"{times:,} messages were sent to {room}.")


def _report(names: Names, message: Message, *, as_json: bool) -> None:
    if as_json:
        where = {"run": names.run, "room": message.room, "type": message.type}
        sent = {"ID": message.id, "ROOT_ID": message.root_id, "entry": message.entry}
        output.print_json({**where, **sent})
    else:
        output.say(
            f"{message.type} {message.entry} to {message.room}, root {message.root_id}: "
            f"`roomgrad trace {message.root_id} --run {names.run}` follows it."
        )
