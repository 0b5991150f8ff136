"""A person at the page: rating by keys, taking back, skipping, and what is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from roomgrad_melody.genome import from_text, notes
from tests.pages.conftest import Open
from tests.pages.melody.assertions import ratings, saved, says, shows
from tests.pages.melody.labelling_run import MELODIES, LabellingRun, history
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

A, B, C = MELODIES[:3]


def test_rating_needs_no_mouse(labelling: LabellingRun, visit: Open) -> None:
    """From the name on: keys alone, and every rating arrives with the plays that it took."""
    labelling.learn()
    labelling.ask(A, B, C)
    page = visit(labelling.page().url)
    page.wait_for_selector("#name-dialog[open]")
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    shows(page, A)
    page.wait_for_selector("#play.playing")  # by itself
    page.keyboard.press("Space")
    page.wait_for_selector("#play:not(.playing)")
    page.keyboard.press("r")
    page.keyboard.press("4")
    shows(page, B)
    page.wait_for_selector("#play.playing")
    page.keyboard.press("0")
    shows(page, C)
    page.keyboard.press("5")
    saved(page, C, B, A)
    until(lambda: ratings(labelling) == {A: 4, B: 0, C: 5})
    label = labelling.get("labels", A) or {}
    assert (label["rater"], label["plays"]) == ("Ada", 2)
    page.wait_for_selector("#idle:not([hidden])")


def test_the_guess_is_hidden_until_one_has_rated(labelling: LabellingRun, visit: Open) -> None:
    """It is nowhere in what the browser got, and stands beside the rating afterwards."""
    labelling.ask(A, guess=4.321, probs=[0.0] * 6)
    bodies: list[str] = []

    def keep(route: Any) -> None:
        response = route.fetch()
        bodies.append(response.text())
        route.fulfill(response=response)

    page = visit(
        labelling.page().url, "Ada", prepare=lambda page: page.route("**/api/questions", keep)
    )
    shows(page, A)
    assert bodies
    assert not any("4.321" in body or "guess" in body for body in bodies)
    assert "4.3" not in page.content()
    page.keyboard.press("2")
    says(page, "model 4.3")
    page.unroute_all(behavior="wait")


def test_a_touch_rates_at_once_and_arrow_keys_only_choose(
    labelling: LabellingRun, visit: Open
) -> None:
    """With arrow keys one hears the choices first; Enter saves."""
    labelling.ask(A, B)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    page.locator("label[for=rate3]").click()
    shows(page, B)
    page.locator("#rate0").focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#rate2").is_checked()
    assert len(until(labelling.sent)) == 1
    page.keyboard.press("Enter")
    page.wait_for_selector("#idle:not([hidden])")
    until(lambda: [m.fields["FITNESS"][0] for m in labelling.sent()] == [3.0, 2.0])


def test_digits_can_be_switched_off(labelling: LabellingRun, visit: Open) -> None:
    """Outside the ratings they do nothing then; the choice stays after a reload."""
    labelling.ask(A, B, C)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    page.locator("#shortcuts").click()
    for key in "0123456789srR?":
        page.keyboard.press(key)
    page.reload()
    shows(page, A)
    page.keyboard.press("3")
    assert not page.locator("#help-dialog").is_visible()
    page.locator("#rate0").focus()
    page.keyboard.press("3")
    shows(page, B)
    until(lambda: [m.fields["FITNESS"][0] for m in labelling.sent()] == [3.0])


def test_keys_in_a_dialog_and_with_control_are_no_ratings(
    labelling: LabellingRun, visit: Open
) -> None:
    labelling.ask(A, B)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    page.keyboard.press("?")
    page.wait_for_selector("#help-dialog[open]")
    page.keyboard.press("3")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+3")
    page.keyboard.press("6")
    page.keyboard.press("x")
    page.locator("#name-button").click()
    page.locator("#name").fill("Ada 35")
    page.keyboard.press("Enter")
    page.wait_for_selector("#name-button:has-text('Ada 35')")
    shows(page, A)
    assert labelling.sent() == []


def test_skipping_puts_a_melody_to_the_end(labelling: LabellingRun, visit: Open) -> None:
    """Others may have it meanwhile; when nothing else is left, it comes again."""
    labelling.learn()
    labelling.ask(A, B, C)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    page.keyboard.press("s")
    shows(page, B)
    until(lambda: (labelling.get("questions", A) or {})["rater"] == "")
    page.keyboard.press("1")
    shows(page, C)
    page.keyboard.press("1")
    shows(page, A)
    page.keyboard.press("1")
    saved(page, A, C, B)


@pytest.mark.parametrize("keys", ["Control+z", "Backspace"])
def test_the_last_rating_is_taken_back(labelling: LabellingRun, visit: Open, keys: str) -> None:
    """Its melody is there again, and rated anew; the next one waits."""
    labelling.learn()
    labelling.ask(A, B, C)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    page.keyboard.press("1")
    shows(page, B)
    page.keyboard.press("2")
    shows(page, C)
    saved(page, B, A)
    page.keyboard.press(keys)
    shows(page, B)
    until(lambda: ratings(labelling) == {A: 1})
    page.keyboard.press("5")
    shows(page, C)
    saved(page, B, A)
    until(lambda: ratings(labelling) == {A: 1, B: 5})
    page.keyboard.press(keys)
    shows(page, B)
    page.keyboard.press(keys)
    shows(page, A)
    until(lambda: ratings(labelling) == {})


def test_the_last_ten_are_changed_and_taken_back_after_a_reload(
    labelling: LabellingRun, visit: Open
) -> None:
    labelling.learn()
    labelling.ask(*MELODIES[:13])
    page = visit(labelling.page().url, "Ada")
    for melody in MELODIES[:12]:
        shows(page, melody)
        page.keyboard.press("3")
    last = list(reversed(MELODIES[2:12]))
    saved(page, *last)
    page.reload()
    saved(page, *last)
    row = page.locator(f"#recent li[data-melody='{last[4]}']")
    row.locator("select").select_option("5")
    until(lambda: ratings(labelling)[last[4]] == 5)
    row.locator("button[aria-label='Take this rating back']").click()
    until(lambda: last[4] not in ratings(labelling))
    shows(page, last[4])
    page.keyboard.press("0")
    until(lambda: ratings(labelling).get(last[4]) == 0)


def test_the_last_ratings_are_stored_in_the_order_in_which_they_were_given(
    labelling: LabellingRun, visit: Open
) -> None:
    """Also if the request of the first one takes longest."""
    labelling.learn()
    labelling.ask(A, B, C)
    slow: list[Any] = []

    def hold_the_first(route: Any) -> None:
        if slow or route.request.method != "POST":
            route.continue_()
        else:
            slow.append(route)

    page = visit(
        labelling.page().url,
        "Ada",
        prepare=lambda page: page.route("**/api/answers", hold_the_first),
    )
    for melody in (A, B, C):
        shows(page, melody)
        page.keyboard.press("3")
    page.wait_for_selector("#idle:not([hidden])")
    page.wait_for_timeout(300)  # the others would have overtaken it by now
    slow[0].continue_()
    saved(page, C, B, A)
    page.unroute_all(behavior="wait")
    page.reload()
    saved(page, C, B, A)
    page.keyboard.press("Backspace")
    until(lambda: ratings(labelling).keys() == {A, B})


# keyboards of other countries

PRESS = """([key, code, modifiers]) => document.body.dispatchEvent(
    new KeyboardEvent('keydown', { key, code, ...modifiers, bubbles: true, cancelable: true }))"""


def press(page: Page, key: str, code: str, **modifiers: bool) -> bool:
    """Press a key as a layout sends it; return whether the page took it."""
    return not page.evaluate(PRESS, [key, code, modifiers])


@pytest.mark.parametrize(
    ("key", "code", "shift"),
    [
        ("'", "Digit4", False),  # AZERTY
        ("4", "Digit4", True),  # AZERTY with Shift
        ("č", "Digit4", False),  # Czech
        ("٤", "Digit4", False),  # Arabic
        ("۴", "Digit4", False),  # Persian
        ("४", "Digit4", False),  # Devanagari
        ("４", "Digit4", False),  # Japanese, full width
        ("4", "Numpad4", False),
        ("٤", "Numpad4", False),
        ("4", "KeyR", False),  # a layout with its digits among the letters
    ],
)
def test_digits_rate_on_every_layout(
    labelling: LabellingRun, visit: Open, key: str, code: str, shift: bool
) -> None:
    """The printed digit of any script, or the key at its place in the digit row."""
    labelling.ask(A, B)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    assert press(page, key, code, shiftKey=shift)
    shows(page, B)
    until(lambda: [m.fields["FITNESS"][0] for m in labelling.sent()] == [4.0])


@pytest.mark.parametrize(
    "keys",
    [
        {"s": "ы", "r": "к", "z": "я", "?": "?"},  # Russian
        {"s": "σ", "r": "ρ", "z": "ζ", "?": "?"},  # Greek
        {"s": "ד", "r": "ר", "z": "ז", "?": "?"},  # Hebrew
        {"s": "س", "r": "ق", "z": "ئ", "?": "؟"},  # Arabic
        {"s": "े", "r": "ी", "z": "ॆ", "?": "?"},  # Devanagari, signs of vowels
        {"s": "ㄴ", "r": "ㄱ", "z": "ㅋ", "?": "?"},  # Korean
        {"s": "ｓ", "r": "ｒ", "z": "ｚ", "?": "？"},  # Japanese, full width
    ],
    ids=lambda keys: keys["s"],
)
def test_letters_work_on_layouts_without_latin_letters(
    labelling: LabellingRun, visit: Open, keys: dict[str, str]
) -> None:
    """By the place of the key; Ctrl and its place take back."""
    labelling.ask(A, B, C)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    assert press(page, keys["r"], "KeyR")
    page.wait_for_selector("#play.playing")
    assert press(page, keys["s"], "KeyS")
    shows(page, B)
    page.keyboard.press("3")
    shows(page, C)
    assert press(page, keys["z"], "KeyZ", ctrlKey=True)
    shows(page, B)
    assert press(page, keys["?"], "Slash", shiftKey=True)
    page.wait_for_selector("#help-dialog[open]")


def test_the_printed_letter_decides_where_there_is_one(
    labelling: LabellingRun, visit: Open
) -> None:
    """On QWERTZ, AZERTY and Dvorak, letters are in other places."""
    labelling.ask(A, B, C)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    assert not press(page, "o", "KeyS"), "Dvorak"
    assert press(page, "s", "Semicolon"), "Dvorak"
    shows(page, B)
    page.keyboard.press("3")
    shows(page, C)
    assert not press(page, "y", "KeyZ", ctrlKey=True), "QWERTZ"
    assert not press(page, "w", "KeyZ", metaKey=True), "AZERTY"
    assert press(page, "z", "KeyY", metaKey=True), "QWERTZ"
    shows(page, B)


def test_keys_that_mean_something_else_are_left_to_the_browser(
    labelling: LabellingRun, visit: Open
) -> None:
    """With a modifier, while a word is composed, and the arrows of the numeric keypad."""
    labelling.ask(A)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    for modifier in ("ctrlKey", "altKey", "metaKey"):
        assert not press(page, "4", "Digit4", **{modifier: True})
        assert not press(page, "ы", "KeyS", **{modifier: True})
    assert not press(page, "{", "Digit4", modifierAltGraph=True)
    assert not press(page, "$", "Digit4", shiftKey=True)
    assert not press(page, "ArrowLeft", "Numpad4")
    assert not press(page, "4", "Digit4", isComposing=True)
    assert not press(page, "Process", "Digit4")
    assert not press(page, "Dead", "KeyS")
    page.evaluate("document.body.dispatchEvent(new Event('keydown', { bubbles: true }))")
    assert labelling.sent() == []


# what is shown


def test_the_page_shows_what_the_system_does(labelling: LabellingRun, visit: Open) -> None:
    """And changes as it does, without a reload."""
    page = visit(labelling.page().url, "Ada")
    says(page, "Waiting for the system to begin")
    assert page.locator("#breed").is_disabled()
    history(labelling)
    says(page, "The network learns: batch 23 of 60, from 120 ratings")
    assert page.locator("#answered").inner_text() == "120"
    assert page.locator("#asked").inner_text() == "126"
    assert page.locator("#generation").inner_text() == "59"
    assert "went from" in (page.locator("#losses").get_attribute("aria-label") or "")
    assert "120 ratings" not in (page.locator("#errors").get_attribute("aria-label") or "")
    histogram = page.locator("#histogram").get_attribute("aria-label") or ""
    assert "34 times 2" in histogram
    page.locator("#breed").click()
    stream = labelling.names.stream("control", "COMMAND/CUSTOM")
    [(_, fields)] = until(lambda: labelling.redis.xrange(stream))
    assert json.loads(fields[b"m"])["CMD"] == "STOP"


def test_beliefs_have_a_range_and_the_best_was_heard(labelling: LabellingRun, visit: Open) -> None:
    """The range holds four of five of the last answers; what was not heard says so.

    A range without width is one number.
    """
    history(labelling)
    page = visit(labelling.page().url, "Ada")
    curve = labelling.table("curve")
    last = [abs(curve[str(n)]["rating"] - curve[str(n)]["guess"]) for n in range(100, 120)]
    off = float(np.quantile(last, 0.8))
    low, high = max(0.0, 3.62 - off), min(5.0, 3.62 + off)
    first = page.locator("#best .fitness").first
    until(lambda: page.locator("#mean").inner_text() == f"{low:.1f} to {high:.1f}")
    assert page.locator("#best-heard").inner_text() == "5"
    assert first.inner_text().endswith(", not heard yet")
    assert not page.locator("#breeding-waits").is_visible()
    labelling.put("population", "now", **(labelling.get("population", "now") or {}), waiting=True)
    page.wait_for_selector("#breeding-waits:not([hidden])")
    link = page.locator("#best a").first.get_attribute("href") or ""
    labelling.put("labels", Path(link).stem, rating=3)
    labelling.put("curve", "120", labels=120, rating=3, guess=3.0, rater="Ada", at=0)
    until(lambda: first.inner_text() == "rated 3")
    for n in range(121, 141):
        labelling.put("curve", str(n), labels=n, rating=3, guess=3.0, rater="Ada", at=0)
    labelling.put("population", "now", **(labelling.get("population", "now") or {}))
    until(lambda: page.locator("#mean").inner_text() == "3.6")


def test_the_best_are_heard_and_downloaded(labelling: LabellingRun, visit: Open) -> None:
    history(labelling)
    page = visit(labelling.page().url, "Ada")
    page.locator("#best .thumb").first.click()
    for name, kind in (("MIDI", "mid"), ("WAV", "wav")):
        with page.expect_download() as download:
            page.locator("#best li").first.get_by_text(name).click()
        assert download.value.suggested_filename.endswith(f".{kind}")


def test_a_melody_is_told_in_words(labelling: LabellingRun, visit: Open) -> None:
    """Every note of it, for who does not see the picture."""
    labelling.ask(A)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    words = page.locator("#roll-words").inner_text()
    assert [int(n) for n in re.findall(r"Bar (\d):", words)] == list(range(1, 9))
    sounding = notes(from_text(A))
    assert len(re.findall(r"[A-G](?: sharp)? \d", words)) == len(sounding)


def test_plays_are_counted_and_the_speed_is_kept(labelling: LabellingRun, visit: Open) -> None:
    labelling.ask(A, B)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    page.locator("#speed").fill("2")
    assert page.locator("#speed-value").inner_text() == "2×"
    page.reload()
    shows(page, A)
    assert page.locator("#speed-value").inner_text() == "2×"
    page.locator("#play").click()
    page.wait_for_function(
        "() => !document.querySelector('#roll .playhead').hasAttribute('hidden')"
    )
    page.locator("#play").click()
    page.keyboard.press("4")
    [message] = until(labelling.sent)
    assert np.array_equal(message.fields["PLAYS"], [1])
