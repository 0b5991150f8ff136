"""Which replica this is: its component, its run, its settings, and its name as a consumer."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from roomgrad.component import Component
from roomgrad.messages import new_id
from roomgrad.names import Names
from roomgrad.settings import RuntimeSettings


@dataclass(frozen=True)
class Identity:
    """What every part of a replica needs to know of it."""

    component: Component
    settings: RuntimeSettings
    names: Names
    consumer: str
    """The unique name of this process in its consumer groups."""

    @classmethod
    def create(cls, component: Component, settings: RuntimeSettings) -> Identity:
        """Return the identity of a new replica in this process."""
        names = Names(settings.run or component.system.name)
        consumer = f"{component.name}~{socket.gethostname()}~{os.getpid()}~{new_id()[:8]}"
        return cls(component, settings, names, consumer)
