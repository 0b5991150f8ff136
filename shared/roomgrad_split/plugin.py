"""The plugin of the system for roomgrad."""

from roomgrad.systems import Plugin

plugin = Plugin(
    "roomgrad_split.contract:SPLIT",
    {name: f"roomgrad_split.{name}" for name in ("leftowner", "rightowner", "labelhead")},
    progress="roomgrad_split.progress:progress",
)
