"""roomgrad: train a model through other programs, in Redis rooms."""

from roomgrad.component import Component, Handler, on
from roomgrad.context import Context
from roomgrad.errors import RoomgradError
from roomgrad.messages import Message
from roomgrad.process import main
from roomgrad.rooms import Array, MessageType, ModelStatus, Room, Stream, System
from roomgrad.settings import OfRun, RuntimeSettings, settings

__all__ = [
    "Array",
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
    "main",
    "on",
    "settings",
]
