"""Settings of the dashboard."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import settings
from roomgrad.web.settings import WebSettings

PORT = 8322


@settings
class DashboardSettings(WebSettings):
    """How often the dashboard reads a run. It writes nothing, and reads only runs on display."""

    every_s: Annotated[float, Field(ge=0.1, le=60)] = 0.5
    """Seconds between two reads of a run that a page shows."""
