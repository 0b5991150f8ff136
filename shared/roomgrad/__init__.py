"""roomgrad: train a model through other programs, in Redis rooms.

A component is a `Component` with handlers: `on` makes a `Handler` of a function, and `main` serves
them; `join` makes one that gets several messages as `Parts`. A handler takes a `Message` and a
`Context`. A `System` is the contract of a run: its rooms (`Room`), and what each carries (`Stream`
with `Array` and `Text`, `MessageType`, `ModelStatus`); an `Ensemble` is many components of one
definition. `serve` makes one of a network or a function. `up` starts the `Run` of a system.
`Client` asks from outside, `AsyncClient` many at once. Each component has `RuntimeSettings`;
`OfRun` marks those of the run. Errors descend from `RoomgradError`.

More is in modules: `roomgrad.models` and `roomgrad.learning` (torch), `roomgrad.testing`,
`roomgrad.errors`, `roomgrad.backprop`. The documentation begins in README.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roomgrad.component import Component, Handler, join, main, on
    from roomgrad.context import Context
    from roomgrad.ensembles import Ensemble
    from roomgrad.errors import RoomgradError
    from roomgrad.local.run import Run, up
    from roomgrad.messages import Message
    from roomgrad.parts import Parts
    from roomgrad.redis.async_client import AsyncClient
    from roomgrad.redis.client import Client
    from roomgrad.rooms import Array, MessageType, ModelStatus, Room, Stream, System, Text
    from roomgrad.serving.serve import serve
    from roomgrad.settings import OfRun, RuntimeSettings

# fmt: off
__all__ = [
    "Array", "AsyncClient", "Client", "Component", "Context", "Ensemble", "Handler", "Message",
    "MessageType", "ModelStatus", "OfRun", "Parts", "Room", "RoomgradError", "Run",
    "RuntimeSettings", "Stream", "System", "Text", "join", "main", "on", "serve", "up",
]
# fmt: on

# Loaded on first access (PEP 562): a health check or `roomgrad --help` needs few of them.
_HOME = {
    "component": ("Component", "Handler", "join", "main", "on"),
    "context": ("Context",),
    "ensembles": ("Ensemble",),
    "errors": ("RoomgradError",),
    "local.run": ("Run", "up"),
    "messages": ("Message",),
    "redis.async_client": ("AsyncClient",),
    "redis.client": ("Client",),
    "parts": ("Parts",),
    "rooms": ("Array", "MessageType", "ModelStatus", "Room", "Stream", "System", "Text"),
    "serving.serve": ("serve",),
    "settings": ("OfRun", "RuntimeSettings"),
}
_MODULES = {name: module for module, names in _HOME.items() for name in names}


def __dir__() -> list[str]:
    """Return the public names, which `help` and completion show."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'roomgrad' has no attribute {name!r}")
    return getattr(import_module(f"roomgrad.{_MODULES[name]}"), name)
