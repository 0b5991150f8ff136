"""The melody maker on the dashboard: what the network has learned to like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from roomgrad.names import Names
from roomgrad_melody.snapshot import SnapshotReader, Sound


class Panel:
    """Reads what `static/panel.js` shows of one run."""

    static = Path(__file__).parent / "static"

    def __init__(self, names: Names) -> None:
        self._reader = SnapshotReader(names, Sound())

    def read(self, client: redis.Redis) -> dict[str, Any]:
        """Return a snapshot of the run."""
        return self._reader.read(client)
