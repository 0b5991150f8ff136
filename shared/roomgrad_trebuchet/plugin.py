"""The plugin of the system for roomgrad."""

from __future__ import annotations

from roomgrad.systems import Access, Gauge, Plugin
from roomgrad_trebuchet.contract import FORWARD, INPUT, OUTPUT, TRAINER, TREBUCHET

PROGRAMS = ("trainer", "controlmodel", "simulator", "inference")

plugin = Plugin(
    TREBUCHET,
    {name: f"roomgrad_trebuchet.{name}" for name in PROGRAMS},
    run="roomgrad_trebuchet.run:TrebuchetRun",
    up="roomgrad_trebuchet.options:Trebuchet",
    commands="roomgrad_trebuchet.commands:app",
    progress="roomgrad_trebuchet.ledger:progress",
    panel="roomgrad_trebuchet.panel:Panel",
    metrics=(
        Gauge(
            "roomgrad_miss_metres",
            "Mean distance of its shots from their targets, in m.",
            TRAINER,
            "losses",
            "miss_m",
        ),
    ),
    clients={
        "inference": Access(
            sends=((INPUT.name, FORWARD.value),), reads=((OUTPUT.name, FORWARD.value),)
        )
    },
)
