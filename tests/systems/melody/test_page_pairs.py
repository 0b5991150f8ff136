"""`roomgrad run melody --ask pairs` and a person at its page, who compares: all of it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from roomgrad_melody.genome import from_text, pair_key
from roomgrad_melody.rater.rater import rating
from tests.pages.conftest import Open
from tests.pages.conftest import browser as browser
from tests.pages.conftest import visit as visit
from tests.systems.melody.test_page import (
    DESK,
    PATIENCE_MS,
    PICTURE,
    Serve,
    Served,
    picture,
    press,
    sit_down,
    take_pictures,
)
from tests.systems.melody.test_page import serve as serve
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

VOTES = 24
NOT_ASKED_BACK = "() => sessionStorage.setItem('roomgrad:asked-back', 'true')"
PICTURES = (("melody-pairs", DESK, "light"),)


def shown(served: Served, page: Page) -> tuple[str, str]:
    """The two melodies that the page shows."""
    drawn = [page.evaluate(PICTURE.replace("#roll ", f"{roll} ")) for roll in ("#roll-a", "#roll")]

    def look() -> tuple[str, str] | None:
        known = {*served.table("questions"), *served.table("labels"), *served.table("compared")}
        known |= {each["against"] for each in served.table("questions").values()} - {""}
        found = {picture(each): each for each in known}
        return (found[drawn[0]], found[drawn[1]]) if set(drawn) <= found.keys() else None

    return until(look)


def vote(served: Served, page: Page) -> tuple[str, str, str]:
    """Vote as the simulated rater rates; return both melodies and the preference."""
    first, second = shown(served, page)
    scores = [int(rating(from_text(each)[None])[0]) for each in (first, second)]
    better = (scores[0] < scores[1]) - (scores[0] > scores[1])
    key = {-1: "ArrowLeft", 0: "ArrowDown", 1: "ArrowRight"}[better]
    press(page, key)
    return first, second, {-1: "first", 0: "equal", 1: "second"}[better]


def test_a_person_compares_and_the_best_rise(serve: Serve, visit: Open, tmp_path: Path) -> None:
    """Each vote is stored as it was shown, and what wins is on the ladder.

    With SCREENSHOTS=FOLDER the picture that it takes of the page is left there.
    """
    served = serve("--ask", "pairs")
    page = visit(served.url, viewport=DESK, color_scheme="light")
    sit_down(page)
    page.evaluate(NOT_ASKED_BACK)
    page.wait_for_selector("#votes:not([hidden])", timeout=PATIENCE_MS)
    given = [vote(served, page) for _ in range(VOTES)]
    until(lambda: served.table("learning")["now"]["answered"] == VOTES)
    last = {pair_key(first, second): (first, second, prefer) for first, second, prefer in given}
    names = ("first", "second", "prefer")
    stored = served.table("pairs").items()
    assert {key: tuple(each[name] for name in names) for key, each in stored} == last
    page.wait_for_function(
        "() => document.querySelectorAll('#ladder li').length === 10", timeout=PATIENCE_MS
    )
    until(lambda: served.table("learning")["now"]["chain"] is None)
    assert page.locator("#ladder-card").is_visible()
    until(lambda: page.locator("#pairs").inner_text() == str(len(last)))
    guesses = page.locator(".guess", has_text=re.compile(r"^model A \d+ %$"))
    guesses.first.wait_for(timeout=PATIENCE_MS)  # without a reload
    take_pictures(page, Path(os.environ.get("SCREENSHOTS") or tmp_path), PICTURES)
