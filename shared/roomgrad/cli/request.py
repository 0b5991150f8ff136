"""`roomgrad request`: send a forward message and show its answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated

from typer import Option

from roomgrad import codec
from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.cli.draft import Draft, find_stream
from roomgrad.cli.echo import print_entry, to_json
from roomgrad.errors import SettingsError
from roomgrad.inspect.follow import Entry
from roomgrad.messages import Message
from roomgrad.redis import registry
from roomgrad.rooms import MessageType, Room, Stream, System
from roomgrad.schema import Declaration


def request(
    room: typed.Room,
    body: typed.Body = "",
    file: typed.File = "",
    answer: Annotated[
        str, Option(help="The room of the answer, if several are possible.", metavar="ROOM")
    ] = "",
    status: typed.Status = "validate",
    timeout: Annotated[float, Option(help="Seconds to wait.", min=0.1, max=86400)] = 10.0,
    full: typed.Full = False,
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    forward = MessageType.FORWARD
    draft = Draft(room, forward.value, body, file, status)
    with target.opened(run, redis) as (client, names, url):
        system = target.contract_of(client, names)
        message = draft.message(system)
        answer = answer or _answer_room(system, registry.declared_in(client, names), message)
        answers = find_stream(system, answer, forward.value)
        with target.sender(names, url, system) as sender:
            began = time.perf_counter()
            found = sender.ask(
                Room(message.room),
                forward,
                message.data,
                answer=(answers.room, forward),
                status=message.status,
                timeout_s=timeout,
                fields=message.fields,
            )
            took_s = time.perf_counter() - began
    _report(found, answers, took_s, full=full, as_json=bool(as_json))


def _report(answer: Message, stream: Stream, took_s: float, *, full: bool, as_json: bool) -> None:
    fields = codec.encode(answer, stream)
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    entry = Entry(answer.entry, answer.room, answer.type, pairs)
    if as_json:
        output.print_json({**to_json(entry, full=full), "seconds": round(took_s, 6)})
        return
    print_entry(entry, full=full, as_json=False)
    output.say(f"answered after {took_s * 1000:,.1f} ms", style="dim")


def _answer_room(system: System, declared: Mapping[str, Declaration], message: Message) -> str:
    """Return the last room to which the components pass on a forward message.

    Raises SettingsError if there is none, or several.
    """
    ends = registry.ends_of(declared, system, (message.room, message.type))
    if len(ends) != 1:
        found = f"{', '.join(ends)} are possible" if ends else "no component declares it"
        raise SettingsError(
            f"in which room does the answer to {message.room} come? {found}: name it by --answer"
        )
    return ends[0]
