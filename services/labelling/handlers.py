"""The page as a component: what it hears only tells it that there is something new to show."""

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
    """The component that calls `changed` whenever something happened.

    What happened stands in the tables, from which the page reads all that it shows.
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
        reads=["labels", "learning", "population", "losses", "curve", "generations"],
        sends=[(USER, CUSTOM), (CONTROL, COMMAND)],
    )
