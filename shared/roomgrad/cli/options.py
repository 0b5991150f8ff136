"""The options that commands share: how they read, and what they say when they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from typer import Argument, Option

from roomgrad.errors import SettingsError


def whole(flag: str, low: int, high: int) -> Callable[[str | int], int]:
    """Reads a whole number, or says in one sentence which are allowed."""

    def parse(text: str | int) -> int:
        if not str(text).isdecimal() or not low <= int(text) <= high:
            raise SettingsError(f"{flag} {text}: allowed is a whole number from {low} to {high}")
        return int(text)

    return parse


def number(flag: str, low: int, high: int, about: str) -> Any:
    """An option that is a whole number."""
    return Option(flag, parser=whole(flag, low, high), metavar="N", help=about)


def among(flag: str, *words: str) -> Callable[[str], str]:
    """Reads one of some words, or says in one sentence which are allowed."""

    def parse(text: str) -> str:
        if text not in words:
            raise SettingsError(f"{flag} {text}: allowed is {' or '.join(words)}")
        return text

    return parse


def word(flag: str, words: tuple[str, ...], about: str) -> Any:
    """An option that is one of some words."""
    return Option(flag, parser=among(flag, *words), metavar="NAME", help=about)


SystemName = Annotated[
    str, Argument(help="The system: trebuchet or melody.", metavar="SYSTEM", show_default=False)
]
Served = Annotated[
    str,
    Argument(
        help="The system: trebuchet or melody; or a swarm file, like swarm.yaml.",
        metavar="SYSTEM",
        show_default=False,
    ),
]
Redis = Annotated[str, Option(help="Address of a server; REDIS_URL or an embedded one if empty.")]
Run = Annotated[str, Option(help="Name of the run; the system's name if empty.")]
Fresh = Annotated[bool, Option("--fresh", help="Delete the run first.")]
AsJson = Annotated[bool | None, Option("--json", help="Print the result as one JSON object.")]

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
        parser=among("--status", "train", "validate"),
        metavar="STATUS",
        help="MODEL_STATUS: validate, from which no component learns, or train.",
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
Seed = Annotated[
    int | None,
    number("--seed", 0, 2**63 - 1, "Seed of first weights and of whatever else is drawn (0)."),
]
Threads = Annotated[int | None, number("--threads", 0, 1024, "CPU threads of torch; 0: its own.")]

# of `up`
ReplicasOrNone = Annotated[
    list[str] | None,
    Option(
        "--replicas",
        metavar="NAME=N,...",
        help="How many of a component, like simulator=2; 0 where another program stands in for it.",
    ),
]
Gateway = Annotated[
    int | None, number("--gateway", 1, 65535, "Let swergio clients connect at this port.")
]
Only = Annotated[
    str | None,
    Option(metavar="NAME,...", help="swarm file: start these components, and no others."),
]

# of the trebuchet
Steps = Annotated[
    int | None, number("--steps", 1, 10**7, "trebuchet: how many batches in all (1000).")
]
Preset = Annotated[
    str | None,
    word(
        "--preset",
        ("learn", "original"),
        "trebuchet: learn, or original as in the first version (learn).",
    ),
]
Window = Annotated[
    int | None, number("--window", 1, 10_000, "trebuchet: batches open at a time (1).")
]
Picture = Annotated[
    str | None, Option(help="trebuchet: draw what was learned into this file.", metavar="FILE")
]

# of the melody maker
Rater = Annotated[
    str | None,
    Option(
        metavar="NAME",
        help="melody: run unattended, rated by simulated or by module:function (128 ints to 0..5).",
    ),
]
Labels = Annotated[
    int | None, number("--labels", 1, 10**6, "melody with --rater: labels in all (100).")
]
SeedLabels = Annotated[
    int | None,
    number("--seed-labels", 0, 10**6, "melody with --rater: of these random melodies (40)."),
]
Generations = Annotated[
    int | None, number("--generations", 1, 10**9, "melody with --rater: ends after so many (60).")
]
Strategy = Annotated[
    str | None, Option(metavar="NAME", help="melody: how the questions are chosen.")
]
LabelsFile = Annotated[
    str | None, Option(metavar="FILE", help="melody: labels with which a new run begins.")
]
