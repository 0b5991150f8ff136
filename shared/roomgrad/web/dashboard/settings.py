"""Settings of the dashboard."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import settings
from roomgrad.web.settings import WebSettings

PORT = 8322


@settings
class DashboardSettings(WebSettings):
    """How often the dashboard looks. It only reads, and only while somebody watches."""

    every_s: Annotated[float, Field(ge=0.1, le=60)] = 0.5
    """Seconds between two looks at a run that somebody watches."""
