"""The plugin of the system for roomgrad."""

from __future__ import annotations

from roomgrad.systems import Plugin

PROGRAMS = ("trainer", "controlmodel", "simulator", "inference")

plugin = Plugin(
    "roomgrad_trebuchet.contract:TREBUCHET",
    {name: f"roomgrad_trebuchet.{name}" for name in PROGRAMS},
    run="roomgrad_trebuchet.run:TrebuchetRun",
    up="roomgrad_trebuchet.options:Trebuchet",
    commands="roomgrad_trebuchet.commands:app",
    progress="roomgrad_trebuchet.ledger:progress",
    panel="roomgrad_trebuchet.panel:Panel",
    metrics="roomgrad_trebuchet.contract:METRICS",
    clients="roomgrad_trebuchet.contract:CLIENTS",
)
