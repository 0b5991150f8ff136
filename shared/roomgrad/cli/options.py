"""Options that commands share: how they are parsed, and the error message for a wrong value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from typer import Argument, Option

from roomgrad.errors import SettingsError


def whole(flag: str, low: int, high: int) -> Callable[[str | int], int]:
    """Return a parser of whole numbers. It raises SettingsError with the allowed range."""

    def parse(text: str | int) -> int:
        digits = str(text)  # not `isdecimal` alone, which is true of the digits of any script
        if not (digits.isascii() and digits.isdecimal()) or not low <= int(text) <= high:
            raise SettingsError(f"{flag} {text}: allowed is a whole number from {low} to {high}")
        return int(text)

    return parse


def number(flag: str, low: int, high: int, about: str) -> Any:
    """Return an option that is a whole number."""
    return Option(flag, parser=whole(flag, low, high), metavar="N", help=about)


def among(flag: str, *words: str) -> Callable[[str], str]:
    """Return a parser of one of some words. It raises SettingsError with the allowed words."""

    def parse(text: str) -> str:
        if text not in words:
            raise SettingsError(f"{flag} {text}: allowed is {' or '.join(words)}")
        return text

    return parse


def word(flag: str, words: tuple[str, ...], about: str) -> Any:
    """Return an option that is one of some words."""
    return Option(flag, parser=among(flag, *words), metavar="NAME", help=about)


Redis = Annotated[str, Option(help="Address of a server; REDIS_URL or an embedded one if empty.")]
Run = Annotated[str, Option(help="Name of the run; the system's name if empty.")]
Fresh = Annotated[bool, Option("--fresh", help="Delete the run first.")]
Force = Annotated[bool, Option("--force", help="Replace files that exist.")]
AsJson = Annotated[bool, Option("--json", help="Print the result as one JSON object.")]

# of commands that read a run, or send into it
AnyRun = Annotated[str, Option(help="Name of the run; the only one there is if empty.")]
Component = Annotated[str, Argument(help="The component, like simulator.", metavar="COMPONENT")]
Room = Annotated[str, Argument(help="The room, like input.", metavar="ROOM")]
Seconds = Annotated[float, Option(help="Over how long rates are measured.", min=0.01, max=3600)]
Type = Annotated[str, Option("--type", help="Only this TYPE, like DATA/GRADIENT.", metavar="TYPE")]
Full = Annotated[bool, Option("--full", help="Whole arrays, and the whole envelope.")]
Status = Annotated[
    str,
    Option(
        parser=among("--status", "train", "validate", "differentiate"),
        metavar="STATUS",
        help="MODEL_STATUS: validate, from which no component learns; train; or differentiate, "
        "for gradients from which none learns.",
    ),
]
Body = Annotated[
    str,
    Argument(
        help="DATA as JSON, or an object of all fields; - reads standard input.", metavar="[JSON]"
    ),
]
File = Annotated[str, Option(help="Read it from this file: .json, or .npy for DATA.")]

# of commands that start a system
Replicas = Annotated[
    list[str] | None,
    Option(metavar="NAME=N,...", help="How many of a component, like simulator=2,trainer=1."),
]
ReplicasOrNone = Annotated[
    list[str] | None,
    Option(
        "--replicas",
        metavar="NAME=N,...",
        help="How many of a component, like simulator=2; 0 where another program replaces it.",
    ),
]
Seed = Annotated[int, number("--seed", 0, 2**63 - 1, "Seed of all that is random.")]
Threads = Annotated[int, number("--threads", 0, 1024, "CPU threads of torch; 0: its default.")]
Gateway = Annotated[
    int | None, number("--gateway", 1, 65535, "Let swergio clients connect at this port.")
]
