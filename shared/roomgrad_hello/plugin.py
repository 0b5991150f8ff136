"""The plugin of the system for roomgrad."""

from roomgrad.systems import Plugin

plugin = Plugin(
    "roomgrad_hello.contract:HELLO",
    {name: f"roomgrad_hello.{name}" for name in ("greeter", "world")},
)
