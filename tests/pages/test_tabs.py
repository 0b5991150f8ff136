"""Many tabs of one browser: it has six connections to a server, and all tabs share them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.pages.conftest import PATIENCE_MS
from tests.pages.melody.labelling_run import MELODIES, LabellingRun
from tests.pages.test_dashboard import serving
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.browser

TABS = 7  # one more than there are connections


@pytest.fixture
def opened(browser: Browser) -> Callable[[str], list[Page]]:
    """Open an address in all tabs of a new browser context."""
    contexts: list[BrowserContext] = []

    def opened(url: str) -> list[Page]:
        context = browser.new_context()
        contexts.append(context)
        context.set_default_timeout(4 * PATIENCE_MS)  # for all tabs together
        context.add_init_script("localStorage.setItem('roomgrad:name', '\"Ada\"')")
        tabs = [context.new_page() for _ in range(TABS)]
        for tab in tabs:
            tab.goto(url)
        return tabs

    yield opened
    for context in contexts:
        context.close()


def test_a_rating_is_saved_in_the_first_and_in_the_last_tab(
    labelling: LabellingRun, opened: Callable[[str], list[Page]]
) -> None:
    labelling.learn()
    labelling.ask(*MELODIES[: 2 * TABS])  # each tab holds two
    tabs = opened(labelling.page().url)
    for tab in tabs:
        tab.wait_for_selector("#melody:not([hidden])")
        tab.wait_for_selector("#connection[data-state=live]")
    for number, tab in enumerate((tabs[-1], tabs[0]), start=1):
        tab.bring_to_front()
        tab.evaluate("document.activeElement.blur()")
        tab.keyboard.press("4")
        until(lambda n=number: len(labelling.sent()) == n)
        tab.wait_for_selector("#recent li[data-state=saved]")


def test_the_dashboard_is_live_in_every_tab(
    labelling: LabellingRun, opened: Callable[[str], list[Page]]
) -> None:
    labelling.learn()
    with serving(labelling.url, run=labelling.names.run) as site:
        for tab in opened(f"{site.url}#run={labelling.names.run}"):
            tab.wait_for_selector("#connection[data-state=live]")
