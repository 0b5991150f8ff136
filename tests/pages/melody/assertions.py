"""Wait for what the page shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from roomgrad_melody.genome import from_text, notes
from tests.pages.melody.labelling_run import LabellingRun

if TYPE_CHECKING:
    from playwright.sync_api import Page


def shows(page: Page, melody: str) -> None:
    """Wait until the page shows the notes of this melody."""
    starts = [note.start for note in notes(from_text(melody))]
    page.wait_for_function(
        """starts => {
            const found = [...document.querySelectorAll('#roll .note')];
            return !document.querySelector('#melody').hidden
                && String(found.map((note) => note.dataset.start)) === String(starts);
        }""",
        arg=starts,
    )


def compares(page: Page, first: str, second: str) -> None:
    """Wait until the page shows these two melodies as A and B."""
    found = [[note.start for note in notes(from_text(melody))] for melody in (first, second)]
    page.wait_for_function(
        """starts => {
            const rolls = [...document.querySelectorAll('.side:not([hidden]) .roll')];
            const found = rolls.map((roll) =>
                [...roll.querySelectorAll('.note')].map((note) => Number(note.dataset.start)));
            return !document.querySelector('#melody').hidden
                && JSON.stringify(found) === JSON.stringify(starts);
        }""",
        arg=found,
    )


def saved(page: Page, *melodies: str) -> None:
    """Wait until these are the last ratings, newest first, and all are saved."""
    page.wait_for_function(
        """melodies => String(melodies) === String(
            [...document.querySelectorAll('#recent li')]
                .filter((row) => row.dataset.state !== 'pending')
                .map((row) => row.dataset.melody))""",
        arg=list(melodies),
    )


def ratings(labelling: LabellingRun) -> dict[str, int]:
    return {melody: label["rating"] for melody, label in labelling.table("labels").items()}


def says(page: Page, text: str) -> None:
    page.get_by_text(re.compile(text)).first.wait_for()
