"""Panels: what a system adds to the dashboard of its runs, beside what any system gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import redis
import structlog
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from roomgrad.errors import ContractError
from roomgrad.names import Names
from roomgrad.systems import installed, load

log = structlog.get_logger("roomgrad")


class Panel(Protocol):
    """The class that a plug-in names as its `panel`; one instance for each run on display."""

    static: Path
    """Folder with `panel.js`, served at `/panels/SYSTEM/`."""

    def __init__(self, names: Names) -> None: ...

    def read(self, client: redis.Redis) -> Any:
        """Return what `panel.js` is to show, as JSON; None if there is nothing yet."""


def panel_of(system: str) -> type[Panel] | None:
    """Return the panel of a system, None if it has none or cannot be loaded here."""
    plugin = installed().get(system)
    if plugin is None or not plugin.panel:
        return None
    try:
        found: type[Panel] = load(plugin.panel)
    except ContractError as error:
        log.warning("the dashboard has no panel", system=system, reason=str(error))
        return None
    return found


def files() -> Iterator[Mount]:
    """Return the routes of the panels' files."""
    for system in installed():
        if panel := panel_of(system):
            yield Mount(f"/panels/{system}", StaticFiles(directory=panel.static))
