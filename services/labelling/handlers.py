"""The page as a component: any message tells it to read the tables again."""

from __future__ import annotations

from collections.abc import Callable

from roomgrad import Component, Context, Message, on
from roomgrad_melody.contract import (
    COMMAND,
    CONTROL,
    CUSTOM,
    EVOLUTION_ROOM,
    LABELLING,
    MELODY,
    USER,
)

from .settings import LabellingSettings


def component(changed: Callable[[], None]) -> Component:
    """Return the component; it calls `changed` for each message.

    The page reads all that it shows from the tables.
    """

    def notice(_message: Message, _context: Context) -> None:
        changed()

    streams = ((USER, CUSTOM), (EVOLUTION_ROOM, CUSTOM), (CONTROL, COMMAND))
    handlers = [on(room, type_)(notice) for room, type_ in streams]
    return Component(
        LABELLING,
        MELODY,
        LabellingSettings,
        handlers,
        everyone=True,
        tables=["questions", LABELLING],
        reads=[
            "labels",
            "pairs",
            "compared",
            "learning",
            "population",
            "losses",
            "curve",
            "generations",
        ],
        sends=[(USER, CUSTOM), (CONTROL, COMMAND)],
    )
