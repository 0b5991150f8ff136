"""Settings of the page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.melody.genome import ROOT, pitches
from roomgrad.melody.sound import BPM, FASTEST, SLOWEST
from roomgrad.settings import RuntimeSettings, settings

PORT = 8321


@settings
class LabellingSettings(RuntimeSettings):
    """Where the page is found, and how a melody sounds on it."""

    host: str = "127.0.0.1"
    """Address to listen at. Any other than this machine's own wants a token from each visitor."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port to listen at; when empty 8321, or the next one that is free."""

    hosts: str = ""
    """Names under which browsers reach the page, with commas; this machine's own are known. The
    first one stands in the address that is shown, where the page listens at all addresses."""

    token_file: str = ""
    """File with the token that visitors need; when empty one is made and logged, where needed."""

    question_lease_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds that a question belongs to whom it was shown, after their last sign of life."""

    bpm: Annotated[float, Field(ge=SLOWEST, le=FASTEST)] = float(BPM)
    """Notes of a bar per minute, of which a bar has 4."""

    root: Annotated[int, Field(ge=0, le=127)] = ROOT
    """MIDI number of the lowest note."""

    scale: str = "major"
    """Scale of the melodies: major, minor, dorian, pentatonic..."""

    block_s: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    """Seconds that a read waits for messages before the loop looks after everything else."""

    def __post_init__(self) -> None:
        pitches(self.root, self.scale)

    @property
    def named_hosts(self) -> tuple[str, ...]:
        """What `hosts` names."""
        return tuple(each.strip() for each in self.hosts.split(",") if each.strip())
