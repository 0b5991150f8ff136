"""The plugin of the system for roomgrad."""

from roomgrad.systems import Plugin

PROGRAMS = ("cartpole", "policy", "aggregation", "selection", "control")

plugin = Plugin(
    "roomgrad_rlgym.contract:contract",
    {name: f"roomgrad_rlgym.{name}" for name in PROGRAMS},
    progress="roomgrad_rlgym.progress:progress",
)
