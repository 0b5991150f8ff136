"""roomgrad: train a model through other programs, in Redis rooms."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roomgrad.component import Component, Handler, main, on
    from roomgrad.context import Context
    from roomgrad.errors import RoomgradError
    from roomgrad.messages import Message
    from roomgrad.redis.client import Client
    from roomgrad.rooms import Array, MessageType, ModelStatus, Room, Stream, System, Text
    from roomgrad.settings import OfRun, RuntimeSettings

__all__ = [
    "Array",
    "Client",
    "Component",
    "Context",
    "Handler",
    "Message",
    "MessageType",
    "ModelStatus",
    "OfRun",
    "Room",
    "RoomgradError",
    "RuntimeSettings",
    "Stream",
    "System",
    "Text",
    "main",
    "on",
]

# Loaded on first access (PEP 562): a health check or `roomgrad --help` needs few of them.
_HOME = {
    "component": ("Component", "Handler", "main", "on"),
    "context": ("Context",),
    "errors": ("RoomgradError",),
    "messages": ("Message",),
    "redis.client": ("Client",),
    "rooms": ("Array", "MessageType", "ModelStatus", "Room", "Stream", "System", "Text"),
    "settings": ("OfRun", "RuntimeSettings"),
}
_MODULES = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'roomgrad' has no attribute {name!r}")
    return getattr(import_module(f"roomgrad.{_MODULES[name]}"), name)
