"""What the system brings to roomgrad."""

from __future__ import annotations

from roomgrad.systems import Plugin

PROGRAMS = ("evolution", "evalnet", "learner", "labelling", "rater")

plugin = Plugin(
    "roomgrad_melody.contract:MELODY",
    {name: f"roomgrad_melody.{name}" for name in PROGRAMS},
    run="roomgrad_melody.commands.run:MelodyRun",
    up="roomgrad_melody.commands.options:Melody",
    commands="roomgrad_melody.commands.cli:app",
    progress="roomgrad_melody.commands.standing:progress",
    panel="roomgrad_melody.panel:Panel",
)
