"""Several people at once, refusals, and outages."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest

from roomgrad import Component, Context, Message, RuntimeSettings, on
from roomgrad.errors import Rejected
from roomgrad.testing import running
from roomgrad_melody.contract import CUSTOM, LEARNER, MELODY, USER
from roomgrad_melody.questions import answer, lease
from tests.integration.conftest import OwnServer
from tests.pages.conftest import Open
from tests.pages.melody.assertions import ratings, saved, says, shows
from tests.pages.melody.labelling_run import MELODIES, QUICK, LabellingRun, free_port
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Route

pytestmark = pytest.mark.browser

A, B, C = MELODIES[:3]
AWAY = ("503", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE")


def test_two_people_never_get_the_same_melody(labelling: LabellingRun, visit: Open) -> None:
    """Both rate until nothing is left; each melody was rated once."""
    labelling.learn()
    labelling.ask(*MELODIES[:24])
    site = labelling.page()
    pages = [visit(site.url, name) for name in ("Ada", "Bob")]
    for page in pages:
        page.wait_for_selector("#melody:not([hidden])")
    while len(labelling.table("questions")) > 0 or len(labelling.table("labels")) < 24:
        for page in pages:
            page.keyboard.press("3")
            page.wait_for_timeout(1)  # lets the page's events in
    assert len(labelling.sent()) == 24
    raters = {label["rater"] for label in labelling.table("labels").values()}
    assert raters == {"Ada", "Bob"}


def test_the_next_melody_needs_no_server(labelling: LabellingRun, visit: Open) -> None:
    """While no request is answered, a key shows and plays it; the answer arrives later."""
    labelling.learn()
    labelling.ask(A, B, C)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    held: list[Route] = []
    page.route("**/api/**", lambda route: held.append(route))
    page.keyboard.press("3")
    shows(page, B)
    page.wait_for_selector("#play.playing")
    assert labelling.sent() == []
    for route in held:
        route.continue_()
    page.unroute("**/api/**")
    saved(page, A)
    until(lambda: ratings(labelling) == {A: 3})
    page.keyboard.press("4")
    shows(page, C)


def test_who_leaves_gives_the_melody_back_when_the_lease_ends(
    labelling: LabellingRun, visit: Open
) -> None:
    labelling.ask(A)
    site = labelling.page(question_lease_s=1)
    first = visit(site.url, "Ada")
    shows(first, A)
    first.close()
    second = visit(site.url, "Bob")
    shows(second, A)
    assert (labelling.get("questions", A) or {})["rater"] == "Bob"


def test_a_rater_who_comes_back_listens_to_what_nobody_else_has(
    labelling: LabellingRun, visit: Open
) -> None:
    """While they were away, their lease ended, and another rater took the melody on their page."""
    labelling.ask(A, B)
    page = visit(labelling.page(question_lease_s=1).url, "Ada")
    shows(page, A)
    until(lambda: labelling.get("questions", A)["until"] < time.time())
    page.wait_for_timeout(1000)  # as long as the lease, so that the page counts as left
    assert [each.melody for each in lease(labelling.client, "Bob", 1, 60)] == [A]
    page.keyboard.press("Space")
    shows(page, B)
    says(page, "Your time for that melody was over")


def test_another_name_gives_back_what_the_former_held(labelling: LabellingRun, visit: Open) -> None:
    labelling.ask(A)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    page.locator("#name-button").click()
    page.locator("#name").fill("Eve")
    page.keyboard.press("Enter")
    until(lambda: (labelling.get("questions", A) or {})["rater"] == "Eve")
    shows(page, A)


# what goes wrong


def test_a_refused_rating_brings_the_melody_back_with_the_reason(
    labelling: LabellingRun, visit: Open
) -> None:
    """Bob was faster after the lease had ended."""
    labelling.ask(A, B, C)
    page = visit(labelling.page().url, "Ada", expected=("422",))
    shows(page, A)
    record = labelling.get("questions", A) or {}
    labelling.put("questions", A, **{**record, "rater": "", "until": 0.0})
    [question] = lease(labelling.client, "Bob", 1, 60)
    answer(labelling.client, "Bob", A, 5, question.root)
    page.keyboard.press("3")
    says(page, "Not saved: Bob has rated this melody meanwhile")
    shows(page, A)
    page.keyboard.press("s")
    shows(page, B)
    assert len(labelling.sent()) == 1


@on(USER, CUSTOM)
def refuse(_message: Message, _context: Context) -> None:
    """A learner that wants nothing."""
    raise Rejected("the learner has no room for it")


def test_what_the_learner_refuses_later_comes_back_too(
    labelling: LabellingRun, visit: Open
) -> None:
    """It was acknowledged and had left the page's memory."""
    labelling.ask(A, B)
    page = visit(labelling.page().url, "Ada")
    shows(page, A)
    page.keyboard.press("3")
    saved(page, A)
    settings = RuntimeSettings(run=labelling.names.run, **QUICK)
    component = Component(LEARNER, MELODY, RuntimeSettings, [refuse])
    with running(component, settings, labelling.url):
        says(page, "Not saved: the learner has no room for it")
    shows(page, A)
    assert page.locator("#recent li").count() == 0


def test_ratings_outlive_the_server(own_server: OwnServer, visit: Open) -> None:
    """Rated while it is away, kept over a reload, saved once when it is back."""
    with contextlib.ExitStack() as stack:
        labelling = LabellingRun(own_server.url, stack)
        labelling.ask(A, B, C)
        site = labelling.page()
        page = visit(site.url, "Ada", expected=AWAY)
        shows(page, A)
        page.wait_for_function(
            "() => performance.getEntriesByName(location.href + 'api/questions').length > 0"
        )
        own_server.kill()
        page.wait_for_selector("#connection[data-state=lost]")
        page.keyboard.press("4")
        shows(page, B)
        page.keyboard.press("1")
        says(page, "kept here until they can be saved|kept here, and saved when it is back")
        page.reload()
        assert len(json.loads(page.evaluate("localStorage['roomgrad:outbox']"))) == 2
        own_server.restart()
        page.wait_for_selector("#connection[data-state=live]")
        saved(page, B, A)
        assert sorted(m.fields["FITNESS"][0] for m in labelling.sent()) == [1.0, 4.0]
        shows(page, C)


def test_the_page_connects_again_to_its_own_server(labelling: LabellingRun, visit: Open) -> None:
    """The web server ends and another one begins at the same address."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        first = LabellingRun(labelling.url, stack, labelling.names)
        page = visit(first.page(port=port).url, "Ada", expected=AWAY)
        page.wait_for_selector("#connection[data-state=live]")
    page.wait_for_selector("#connection[data-state=lost]")
    labelling.ask(A)
    labelling.page(port=port)
    page.wait_for_selector("#connection[data-state=live]")
    shows(page, A)


def test_a_page_with_a_token_works_as_any_other(labelling: LabellingRun, visit: Open) -> None:
    labelling.ask(A)
    site = labelling.page(host="0.0.0.0")
    port = site.listener.socket.getsockname()[1]
    page = visit(f"http://127.0.0.1:{port}/?token={site.listener.token}", "Ada")
    shows(page, A)
    assert "token" not in page.url
    page.keyboard.press("3")
    saved(page, A)
