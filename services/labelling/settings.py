"""Settings of the page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import settings
from roomgrad.web.settings import WebSettings
from roomgrad_melody.genome import ROOT, pitches
from roomgrad_melody.snapshot import Sound
from roomgrad_melody.sound import BPM, FASTEST, SLOWEST

PORT = 8321


@settings
class LabellingSettings(WebSettings):
    """How a melody sounds on the page, and for how long a rater holds a question."""

    question_lease_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds that a rater holds a question after their page last renewed it."""

    bpm: Annotated[float, Field(ge=SLOWEST, le=FASTEST)] = float(BPM)
    """Quarter notes per minute; a bar has 4."""

    root: Annotated[int, Field(ge=0, le=127)] = ROOT
    """MIDI number of the lowest note."""

    scale: str = "major"
    """Scale of the melodies: major, minor, dorian, pentatonic..."""

    block_s: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    """Seconds that a read waits for messages before the loop does its other work."""

    def __post_init__(self) -> None:
        super().__post_init__()
        pitches(self.root, self.scale)

    @property
    def sound(self) -> Sound:
        """How melodies sound."""
        return Sound(self.bpm, self.root, self.scale)
