"""Several people at once, refusals, and outages."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from roomgrad import Component, Context, Message, RuntimeSettings, on
from roomgrad.errors import Rejected
from roomgrad.testing import running
from roomgrad_melody.contract import CUSTOM, LEARNER, MELODY, USER
from roomgrad_melody.questions import answer, lease
from tests.integration.conftest import OwnServer
from tests.pages.conftest import Open
from tests.pages.desk import MELODIES, QUICK, Desk, free_port
from tests.pages.looking import saved, says, shows
from tests.waiting import until

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.browser

A, B, C = MELODIES[:3]
AWAY = ("503", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE")


def test_two_people_never_get_the_same_melody(desk: Desk, visit: Open) -> None:
    """Both rate until nothing is left; each melody was rated once."""
    desk.learn()
    desk.ask(*MELODIES[:24])
    site = desk.page()
    pages = [visit(site.url, name) for name in ("Ada", "Bob")]
    for page in pages:
        page.wait_for_selector("#melody:not([hidden])")
    while len(desk.table("questions")) > 0 or len(desk.table("labels")) < 24:
        for page in pages:
            page.keyboard.press("3")
            page.wait_for_timeout(1)  # lets the page's events in
    assert len(desk.sent()) == 24
    raters = {label["rater"] for label in desk.table("labels").values()}
    assert raters == {"Ada", "Bob"}


def test_who_leaves_gives_the_melody_back_when_the_lease_ends(desk: Desk, visit: Open) -> None:
    desk.ask(A)
    site = desk.page(question_lease_s=1)
    first = visit(site.url, "Ada")
    shows(first, A)
    first.close()
    second = visit(site.url, "Bob")
    shows(second, A)
    assert (desk.get("questions", A) or {})["rater"] == "Bob"


def test_another_name_gives_back_what_the_former_held(desk: Desk, visit: Open) -> None:
    desk.ask(A)
    page = visit(desk.page().url, "Ada")
    shows(page, A)
    page.locator("#name-button").click()
    page.locator("#name").fill("Eve")
    page.keyboard.press("Enter")
    until(lambda: (desk.get("questions", A) or {})["rater"] == "Eve")
    shows(page, A)


# what goes wrong


def test_a_refused_rating_brings_the_melody_back_with_the_reason(desk: Desk, visit: Open) -> None:
    """Bob was faster after the lease had ended."""
    desk.ask(A, B, C)
    page = visit(desk.page().url, "Ada", expected=("422",))
    shows(page, A)
    record = desk.get("questions", A) or {}
    desk.put("questions", A, **{**record, "rater": "", "until": 0.0})
    [question] = lease(desk.client, "Bob", 1, 60)
    answer(desk.client, "Bob", A, 5, question.root)
    page.keyboard.press("3")
    says(page, "Not saved: Bob has rated this melody meanwhile")
    shows(page, A)
    page.keyboard.press("s")
    shows(page, B)
    assert len(desk.sent()) == 1


@on(USER, CUSTOM)
def refuse(_message: Message, _context: Context) -> None:
    """A learner that wants nothing."""
    raise Rejected("the learner has no room for it")


def test_what_the_learner_refuses_later_comes_back_too(desk: Desk, visit: Open) -> None:
    """It was acknowledged and had left the page's memory."""
    desk.ask(A, B)
    page = visit(desk.page().url, "Ada")
    shows(page, A)
    page.keyboard.press("3")
    saved(page, A)
    settings = RuntimeSettings(run=desk.names.run, **QUICK)
    component = Component(LEARNER, MELODY, RuntimeSettings, [refuse])
    with running(component, settings, desk.url):
        says(page, "Not saved: the learner has no room for it")
    shows(page, A)
    assert page.locator("#recent li").count() == 0


def test_ratings_outlive_the_server(own_server: OwnServer, visit: Open) -> None:
    """Rated while it is away, kept over a reload, saved once when it is back."""
    with contextlib.ExitStack() as stack:
        desk = Desk(own_server.url, stack)
        desk.ask(A, B, C)
        site = desk.page()
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
        assert sorted(m.fields["FITNESS"][0] for m in desk.sent()) == [1.0, 4.0]
        shows(page, C)


def test_the_page_connects_again_to_its_own_server(desk: Desk, visit: Open) -> None:
    """The web server ends and another one begins at the same address."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        first = Desk(desk.url, stack, desk.names)
        page = visit(first.page(port=port).url, "Ada", expected=AWAY)
        page.wait_for_selector("#connection[data-state=live]")
    page.wait_for_selector("#connection[data-state=lost]")
    desk.ask(A)
    desk.page(port=port)
    page.wait_for_selector("#connection[data-state=live]")
    shows(page, A)


def test_a_page_with_a_token_works_as_any_other(desk: Desk, visit: Open) -> None:
    desk.ask(A)
    site = desk.page(host="0.0.0.0")
    port = site.listener.socket.getsockname()[1]
    page = visit(f"http://127.0.0.1:{port}/?token={site.listener.token}", "Ada")
    shows(page, A)
    assert "token" not in page.url
    page.keyboard.press("3")
    saved(page, A)
