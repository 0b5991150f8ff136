"""The commands that listen and speak in rooms, as typer sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from typer import Argument, Option

from roomgrad.cli import options as typed
from roomgrad.cli.inspect.cli import Room, Run

PANEL = "Listen and speak"

Type = Annotated[str, Option("--type", help="Only this TYPE, like DATA/GRADIENT.", metavar="TYPE")]
Count = Annotated[int, Option(help="End after so many messages; 0: never.", min=0)]
Lines = Annotated[int, Option("--count", help="End after so many lines; 0: never.", min=0)]
Every = Annotated[float, Option(help="Seconds between two lines.", min=0.1, max=3600)]
Status = Annotated[
    str,
    Option(
        parser=typed.among("--status", "train", "validate"),
        metavar="STATUS",
        help="MODEL_STATUS: validate, from which nobody learns, or train.",
    ),
]
Body = Annotated[
    str,
    Argument(
        help="DATA as JSON, or an object of all fields; - reads standard input.", metavar="[JSON]"
    ),
]
File = Annotated[str, Option(help="Take it from this file: .json, or .npy for DATA.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    for command in (echo, hz, bw, delay, pub, request, replay):
        app.command(rich_help_panel=PANEL)(command)


def echo(
    room: Room,
    type_: Type = "",
    last: Annotated[int, Option(help="Begin with the last so many.", min=0, max=100_000)] = 0,
    count: Count = 0,
    full: Annotated[bool, Option("--full", help="Whole arrays, and all of the envelope.")] = False,
    run: Run = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """Show each message of a room when it comes; --json writes one object a line."""
    from roomgrad.cli.messages import echo

    echo.run(room, type_, last, count, run, redis, full=full, as_json=bool(as_json))


def _measure(name: str, about: str) -> Callable[..., None]:
    """A command that writes a line of numbers again and again."""

    def measure(
        room: Room,
        type_: Type = "",
        every: Every = 1.0,
        count: Lines = 0,
        run: Run = "",
        redis: typed.Redis = "",
        as_json: typed.AsJson = False,
    ) -> None:
        from roomgrad.cli.messages import measures

        measures.run(name, room, type_, every, count, run, redis, as_json=bool(as_json))

    measure.__name__, measure.__doc__ = name, about
    return measure


hz = _measure("hz", "Measure how many messages a second come into a room, and how regularly.")
bw = _measure("bw", "Measure how many bytes a second come into a room, and how large each is.")
delay = _measure(
    "delay", "Measure how long messages of a room wait for their handler, and how long that takes."
)


def pub(
    room: Room,
    body: Body = "",
    type_: Annotated[str, Option("--type", help="TYPE, if there are several.")] = "",
    file: File = "",
    root: Annotated[str, Option(help="ROOT_ID; a new one if empty.", metavar="ID")] = "",
    to: Annotated[str, Option(help="TO: the component that it is for.", metavar="NAME")] = "",
    status: Status = "validate",
    times: Annotated[int, Option(help="Send it so often.", min=1, max=10**9)] = 1,
    rate: Annotated[float, Option(help="So many a second, if --times; 0: at once.", min=0)] = 0,
    run: Run = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """Put a message into a room; what does not fit its contract is refused."""
    from roomgrad.cli.messages import send

    draft = send.Draft(room, type_, body, file, status, root, to)
    send.pub(draft, times, rate, run, redis, as_json=bool(as_json))


def request(
    room: Room,
    body: Body = "",
    file: File = "",
    answer: Annotated[
        str, Option(help="The room of the answer, where it is not plain.", metavar="ROOM")
    ] = "",
    status: Status = "validate",
    timeout: Annotated[float, Option(help="Seconds to wait.", min=0.1, max=86400)] = 10.0,
    full: Annotated[bool, Option("--full", help="Whole arrays, and all of the envelope.")] = False,
    run: Run = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """Send a forward message, and show the answer of the same ROOT_ID."""
    from roomgrad.cli.messages import send

    draft = send.Draft(room, "", body, file, status)
    send.request(draft, answer, timeout, run, redis, full=full, as_json=bool(as_json))


def replay(
    file: Annotated[
        str,
        Argument(help="What `roomgrad echo ROOM --json --full` wrote; - reads standard input."),
    ],
    into: Annotated[str, Option(help="Into this room, not their own.", metavar="ROOM")] = "",
    status: Status = "validate",
    speed: Annotated[
        float, Option(help="So many times as fast as they came; 0: at once.", min=0, max=1e6)
    ] = 1.0,
    run: Run = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """Send recorded messages again, as new ones: with new IDs, in the pace of before."""
    from roomgrad.cli.messages import replay

    replay.run(file, into, status, speed, run, redis, as_json=bool(as_json))
