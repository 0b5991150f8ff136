"""Browsers that store nothing, make no sound, or lack what plain HTTP does not offer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.pages.conftest import Open
from tests.pages.melody.assertions import ratings, saved, says, shows
from tests.pages.melody.labelling_run import MELODIES, LabellingRun
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

A, B, C = MELODIES[:3]

NO_STORAGE = {
    "blocked": """Object.defineProperty(window, 'localStorage', {
        get() { throw new DOMException('Access is denied.', 'SecurityError'); } })""",
    "missing": "Object.defineProperty(window, 'localStorage', { value: undefined })",
    "full": """Storage.prototype.setItem = () => {
        throw new DOMException('The quota is exceeded.', 'QuotaExceededError'); }""",
}
# The clock of a context that the browser has suspended stands still.
SUSPENDED = """Object.defineProperty(AudioContext.prototype, 'currentTime', { get: () => 0 });
    Object.defineProperty(AudioContext.prototype, 'state', { get: () => 'suspended' });"""
NO_SOUND = {
    "missing": ("delete window.AudioContext", "it has no Web Audio"),
    "none left": (
        "window.AudioContext = class { constructor() { throw new Error('too many contexts'); } }",
        "too many contexts",
    ),
    "refused": (
        f"{SUSPENDED} AudioContext.prototype.resume = async () => {{"
        " throw new Error('not allowed'); }",
        "not allowed",
    ),
    "suspended": (
        SUSPENDED,
        "it has not started its sound",
    ),
}


def opened(labelling: LabellingRun, visit: Open, script: str, *expected: str) -> Page:
    """A page in a browser that a script has limited, after a person has given a name."""
    labelling.learn()
    labelling.ask(A, B, C)
    page = visit(
        labelling.page().url,
        expected=expected,
        prepare=lambda page: page.add_init_script(script),
    )
    begins(page)
    shows(page, A)
    return page


def begins(page: Page) -> None:
    """Give a name."""
    page.wait_for_selector("#name-dialog[open]")
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")


@pytest.mark.parametrize("script", NO_STORAGE.values(), ids=NO_STORAGE)
def test_one_rates_where_the_browser_stores_nothing(
    labelling: LabellingRun, visit: Open, script: str
) -> None:
    """The name lasts until the page is closed, and the page says so."""
    page = opened(labelling, visit, script)
    says(page, "This browser stores nothing for this page")
    page.keyboard.press("4")
    shows(page, B)
    page.keyboard.press("2")
    shows(page, C)
    saved(page, B, A)
    until(lambda: ratings(labelling) == {A: 4, B: 2})
    assert page.locator("#name-button").inner_text() == "Ada"


def test_a_page_that_would_lose_ratings_asks_before_it_is_closed(
    labelling: LabellingRun, visit: Open
) -> None:
    """Only where the browser does not store them, and only while some are not saved."""
    page = opened(labelling, visit, NO_STORAGE["full"], "ERR_FAILED")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.keyboard.press("4")
    saved(page, A)
    page.reload()
    begins(page)
    shows(page, B)
    assert asked == []
    page.route("**/api/answers", lambda route: route.abort())
    page.keyboard.press("4")
    page.reload()
    assert asked == ["beforeunload"]


@pytest.mark.parametrize(("script", "reason"), NO_SOUND.values(), ids=NO_SOUND)
def test_one_rates_where_the_browser_makes_no_sound(
    labelling: LabellingRun, visit: Open, script: str, reason: str
) -> None:
    """The page says why, and a melody that was not heard does not count as played."""
    page = opened(labelling, visit, script)
    page.keyboard.press("r")
    says(page, f"No sound in this browser: {reason}. You can rate without it.")
    page.keyboard.press("3")
    saved(page, A)
    page.locator("#recent .thumb").click()
    page.locator("#speed").fill("2")
    shows(page, B)
    page.keyboard.press("5")
    until(lambda: ratings(labelling) == {A: 3, B: 5})


def test_a_damaged_outbox_is_put_aside_and_its_valid_ratings_are_sent(
    labelling: LabellingRun, visit: Open
) -> None:
    """Nothing of it is lost, and the page says where it is."""
    labelling.ask(A, B)
    site = labelling.page()
    page = visit(site.url, "Ada")
    shows(page, A)
    question = labelling.get("questions", A) or {}
    good = {"id": "a" * 32, "rater": "Ada", "melody": A, "root": question["root"]}
    good |= {"notes": [], "rating": 4, "plays": 0, "kind": "rate", "at": 0}
    damaged = json.dumps([good, {"a": 1}, None, {**good, "rating": "4"}])
    page.evaluate("text => localStorage.setItem('roomgrad:outbox', text)", damaged)
    page.reload()
    says(page, "Ratings that waited here are damaged, and put aside as roomgrad:outbox:damaged:")
    saved(page, A)
    [message] = labelling.sent()
    assert message.fields["FITNESS"][0] == 4.0
    aside = "Object.entries(localStorage).filter(([name]) => name.includes('damaged'))"
    assert [text for _, text in page.evaluate(aside)] == [damaged]
    assert page.evaluate("localStorage['roomgrad:outbox']") == "[]"


@pytest.mark.parametrize("text", ['{"a": 1}', "null", "7", "not JSON", '"[]"'])
def test_an_outbox_that_is_no_list_stops_nothing(
    labelling: LabellingRun, visit: Open, text: str
) -> None:
    labelling.ask(A)
    script = f"if (!localStorage.done) localStorage['roomgrad:outbox'] = {json.dumps(text)};"
    script += "localStorage.done = true"
    page = visit(labelling.page().url, "Ada", prepare=lambda page: page.add_init_script(script))
    shows(page, A)
    page.keyboard.press("4")
    saved(page, A)
    aside = "Object.entries(localStorage).filter(([name]) => name.includes('damaged'))"
    assert [found for _, found in page.evaluate(aside)] == [text]


def test_values_of_a_wrong_type_count_as_missing(labelling: LabellingRun, visit: Open) -> None:
    """Whatever another program stored: the name is asked for, choices are as at the beginning."""
    labelling.ask(A)
    script = "for (const name of ['name', 'speed', 'autoplay', 'shortcuts', 'theme'])"
    script += " localStorage.setItem(`roomgrad:${name}`, name === 'name' ? '5' : '[\"x\"]')"
    page = visit(labelling.page().url, prepare=lambda page: page.add_init_script(script))
    page.wait_for_selector("#name-dialog[open]")
    assert page.locator("#speed-value").inner_text() == "1×"
    assert page.locator("#autoplay").is_checked()
    assert page.locator("#shortcuts").is_checked()


def test_a_name_that_the_server_refuses_is_asked_for_again(
    labelling: LabellingRun, visit: Open
) -> None:
    """With the reason, and the name to be corrected."""
    labelling.ask(A)
    page = visit(labelling.page().url, expected=("422",))
    page.wait_for_selector("#name-dialog[open]")
    page.locator("#name").fill("Ada \u202egnp.exe")
    page.keyboard.press("Enter")
    says(page, "a rater's name has 1 to 40 printable characters")
    page.locator("#name").fill("علی\u200cرضا 👩\u200d🔬")
    page.keyboard.press("Enter")
    shows(page, A)
    page.keyboard.press("4")
    saved(page, A)
    [message] = labelling.sent()
    assert message.fields["RATER"] == "علی\u200cرضا 👩\u200d🔬"


def test_the_page_works_over_plain_http(labelling: LabellingRun, visit: Open) -> None:
    """Under a name: there the browser offers no secure context, and thus no locks, no UUIDs."""
    labelling.learn()
    labelling.ask(A, B)
    url = labelling.page(hosts="page.test").url.replace("127.0.0.1", "page.test")
    page = visit(url, "Ada", expected=("Cross-Origin-Opener-Policy",))
    assert page.evaluate("[isSecureContext, Boolean(navigator.locks)]") == [False, False]
    shows(page, A)
    page.keyboard.press("4")
    shows(page, B)
    saved(page, A)
