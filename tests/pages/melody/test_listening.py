"""Listening to two melodies, and the ladder of the best that were heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.pages.conftest import Open
from tests.pages.melody.assertions import compares, says
from tests.pages.melody.comparing import asked, opened
from tests.pages.melody.labelling_run import MELODIES, LabellingRun, heard, history
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

A, B, C = MELODIES[:3]
BEAT = "new DOMMatrix(document.querySelector('.chosen .playhead').style.transform).e"


def test_tab_goes_to_the_other_melody_at_the_same_beat(
    labelling: LabellingRun, visit: Open
) -> None:
    """Only while one plays and nothing has the focus: else it moves the focus, as ever."""
    page = opened(labelling, visit, A, B)
    page.keyboard.press("Space")
    page.wait_for_function(f"() => document.querySelector('.chosen .playhead') && {BEAT} > 80")
    assert page.locator(".chosen .hear").inner_text().strip() == "A"
    before = page.evaluate(BEAT)
    page.keyboard.press("Tab")
    assert page.locator(".chosen .hear.playing").inner_text().strip() == "B"
    after = page.wait_for_function(f"() => {BEAT} > 40 && {BEAT}").json_value()
    assert before <= after < before + 100
    page.keyboard.press("Tab")
    assert page.locator(".chosen .hear.playing").inner_text().strip() == "A"
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")
    page.locator("#change").click()
    assert page.locator(".chosen .hear.playing").inner_text().strip() == "B"
    page.keyboard.press("Shift+Tab")
    assert page.locator(".chosen .hear.playing").inner_text().strip() == "B"


def test_the_keyboard_leaves_while_a_melody_plays(labelling: LabellingRun, visit: Open) -> None:
    """From a control, Tab goes through the page as ever; there is no trap."""
    page = opened(labelling, visit, A, B)
    page.locator(".hear").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".hear.playing")
    seen: list[str] = []
    while "undo" not in seen and len(seen) < 30:
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
    assert {"play", "change", "volume", "mute", "skip", "undo"} <= set(seen)
    assert page.locator(".side:first-child.chosen").count() == 1


def test_arrows_in_a_slider_move_it(labelling: LabellingRun, visit: Open) -> None:
    page = opened(labelling, visit, A, B)
    page.locator("#volume").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#volume").input_value() == "0.95"
    page.locator("#rate0").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#shortcuts").click()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    compares(page, A, B)
    assert labelling.sent() == []


def test_volume_and_mute_are_remembered(labelling: LabellingRun, visit: Open) -> None:
    """In this browser; what is muted counts as not heard."""
    page = opened(labelling, visit, A, B, C)
    page.locator("#volume").fill("0.4")
    page.keyboard.press("m")
    assert page.locator("#mute").is_checked()
    page.reload()
    compares(page, A, B)
    assert page.locator("#volume").input_value() == "0.4"
    assert page.locator("#mute").is_checked()
    page.keyboard.press("Space")
    page.wait_for_timeout(600)
    page.keyboard.press("ArrowRight")
    [vote] = until(labelling.sent)
    assert vote.fields["LISTENED"].tolist() == [0, 0]


# the ladder and the goal


def learned(labelling: LabellingRun, answered: int, version: str) -> None:
    now = labelling.get("learning", "now") or {}
    labelling.put("learning", "now", **{**now, "answered": answered, "version": version})


def ladder(page: Page) -> list[str]:
    return page.locator("#ladder li").evaluate_all(
        "rows => rows.map((row) => row.innerText.replaceAll('\\n', ' '))"
    )


def test_the_ladder_moves(labelling: LabellingRun, visit: Open) -> None:
    """The best ten that were heard, with what they won; what moves says so, and can be heard."""
    history(labelling)
    heard(labelling, *MELODIES[10:22])
    labelling.put("compared", MELODIES[10], votes=4, wins=2.5)
    page = opened(labelling, visit, A, B)
    until(lambda: len(ladder(page)) == 10)
    assert ladder(page)[:2] == ["1 won 2.5 of 4", "2 rated"]
    heard(labelling, MELODIES[30], MELODIES[11], MELODIES[10], *MELODIES[12:22])
    moved = "rows => rows.map((row) => row.dataset.moved ?? '')"
    until(lambda: page.locator("#ladder li").evaluate_all(moved)[:4] == ["new", "", "down", "down"])
    page.locator("#ladder .thumb").nth(2).click()
    page.wait_for_selector("#ladder li.playing:nth-child(3)")


def test_it_says_when_it_is_enough(labelling: LabellingRun, visit: Open) -> None:
    """At the goal of the address, or when ten answers changed nothing in the best five."""
    history(labelling)
    heard(labelling, *MELODIES[10:22])
    learned(labelling, 5, "5-a")
    asked(labelling, A, B)
    page = visit(f"{labelling.page().url}?goal=16", "Ada")
    page.get_by_text("5 of 16 answers").wait_for()
    learned(labelling, 14, "14-a")
    page.get_by_text("14 of 16 answers").wait_for()
    assert not page.locator("#enough").is_visible()
    learned(labelling, 15, "14-a")  # the network has not learned from it yet
    page.get_by_text("15 of 16 answers").wait_for()
    assert not page.locator("#enough").is_visible()
    learned(labelling, 15, "15-a")
    says(page, "Enough for now: the last 10 answers changed nothing in the best 5")
    heard(labelling, MELODIES[30], *MELODIES[10:22])
    page.wait_for_selector("#enough", state="hidden")
    learned(labelling, 16, "16-a")
    says(page, "You have reached 16 answers")
