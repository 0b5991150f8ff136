"""Settings of a question to the running trebuchet."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.errors import SettingsError
from roomgrad.settings import RuntimeSettings, settings


@settings
class InferenceSettings(RuntimeSettings):
    """Asks the running trebuchet how to hit a target, and shows where the shot lands."""

    wind: float | None = None
    """Wind in m/s; above 0 it blows towards the target."""

    target: float | None = None
    """Distance of the target in m."""

    csv: str = ""
    """File with the columns wind and target, answered with the same columns and the results."""

    json: bool = False
    """Print the answer as JSON."""

    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Seconds to wait for the answer."""

    def __post_init__(self) -> None:
        one = self.wind is not None and self.target is not None
        any_of_one = self.wind is not None or self.target is not None
        if self.csv and any_of_one:
            raise SettingsError("--csv is given together with --wind or --target: give one of them")
        if not self.csv and not one:
            raise SettingsError("nothing to shoot at: give --wind and --target, or --csv FILE")
