"""What the system brings to roomgrad."""

from __future__ import annotations

from roomgrad.systems import Plugin
from roomgrad_trebuchet.contract import TREBUCHET

PROGRAMS = ("trainer", "controlmodel", "simulator", "inference")

plugin = Plugin(TREBUCHET, {name: f"roomgrad_trebuchet.{name}" for name in PROGRAMS})
