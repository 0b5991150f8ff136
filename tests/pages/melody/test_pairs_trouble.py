"""Votes and outages, and several tabs of one browser."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import OwnServer
from tests.pages.conftest import Open
from tests.pages.melody.assertions import compares, saved, says
from tests.pages.melody.comparing import NOT_ASKED_BACK, asked, learn, opened, until_votes
from tests.pages.melody.labelling_run import MELODIES, LabellingRun, free_port

if TYPE_CHECKING:
    from playwright.sync_api import Route

pytestmark = pytest.mark.browser

A, B, C, D, E = MELODIES[:5]
AWAY = ("503", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE")


def test_the_next_pair_needs_no_server(labelling: LabellingRun, visit: Open) -> None:
    """While no request is answered, a vote shows it; the vote arrives later."""
    learn(labelling)
    page = opened(labelling, visit, A, B, C)
    held: list[Route] = []
    page.route("**/api/**", lambda route: held.append(route))
    page.keyboard.press("ArrowRight")
    compares(page, B, C)
    assert labelling.sent() == []
    for route in held:
        route.continue_()
    page.unroute("**/api/**")
    saved(page, B)
    until_votes(labelling, {(A, B): "second"})


def test_votes_outlive_reloads_and_the_server(own_server: OwnServer, visit: Open) -> None:
    """Given while it is away, kept over a reload, saved once when it is back; the winner stays."""
    with contextlib.ExitStack() as stack:
        labelling = LabellingRun(own_server.url, stack)
        page = opened(labelling, visit, A, B, C, D, expected=AWAY)
        page.wait_for_function(
            "() => performance.getEntriesByName(location.href + 'api/questions').length > 0"
        )
        own_server.kill()
        page.wait_for_selector("#connection[data-state=lost]")
        page.keyboard.press("ArrowRight")
        compares(page, B, C)
        page.keyboard.press("ArrowDown")
        says(page, "kept here")
        page.reload()
        assert len(json.loads(page.evaluate("localStorage['roomgrad:outbox']"))) == 2
        own_server.restart()
        page.wait_for_selector("#connection[data-state=live]")
        saved(page, C, B)
        compares(page, B, D)
        found = [(each.id, each.fields["PREFER"]) for each in labelling.sent()]
        assert [prefer for _, prefer in found] == ["second", "equal"]
        learn(labelling)
        until_votes(labelling, {(A, B): "second", (B, C): "equal"})


def test_the_page_server_restarts_between_two_votes(labelling: LabellingRun, visit: Open) -> None:
    port = free_port()
    asked(labelling, A, B, C, D)
    with contextlib.ExitStack() as stack:
        first = LabellingRun(labelling.url, stack, labelling.names)
        page = visit(first.page(port=port).url, "Ada", expected=AWAY)
        page.evaluate(NOT_ASKED_BACK)
        compares(page, A, B)
        page.keyboard.press("ArrowRight")
        saved(page, B)
    page.wait_for_selector("#connection[data-state=lost]")
    page.keyboard.press("ArrowLeft")
    labelling.page(port=port)
    page.wait_for_selector("#connection[data-state=live]")
    saved(page, C, B)
    compares(page, B, D)
    assert [each.fields["PREFER"] for each in labelling.sent()] == ["second", "first"]


def test_a_refused_vote_brings_the_pair_back_with_the_reason(
    labelling: LabellingRun, visit: Open
) -> None:
    page = opened(labelling, visit, A, B, C, expected=("422",))
    record = labelling.get("questions", B) or {}
    labelling.put("questions", B, **{**record, "rater": "Bob"})
    page.keyboard.press("ArrowRight")
    says(page, "Not saved: Bob listens to this melody now")
    compares(page, A, B)
    assert labelling.sent() == []


# tabs


def test_two_tabs_with_one_name_hold_different_questions(
    labelling: LabellingRun, visit: Open
) -> None:
    """Each votes about its own; none is answered twice. A reload keeps what the tab held."""
    learn(labelling)
    first = opened(labelling, visit, A, B, C, D, E)
    first.wait_for_function(
        "() => Object.keys(localStorage).some((each) => each.startsWith('roomgrad:held:')"
        " && JSON.parse(localStorage[each]).melodies.length === 2)"
    )
    second = first.context.new_page()
    second.add_init_script(NOT_ASKED_BACK)
    second.goto(first.url)
    compares(second, A, D)
    first.bring_to_front()
    first.reload()
    compares(first, A, B)
    first.keyboard.press("ArrowRight")
    compares(first, B, C)
    second.bring_to_front()
    second.keyboard.press("ArrowLeft")
    compares(second, A, E)
    until_votes(labelling, {(A, B): "second", (A, D): "first"})


def test_a_name_belongs_to_a_tab(labelling: LabellingRun, visit: Open) -> None:
    """Two people in two tabs of one browser stay who they are over a reload."""
    asked(labelling, A, B, C, D, E)
    ada = visit(labelling.page().url)
    ada.wait_for_selector("#name-dialog[open]")
    ada.keyboard.type("Ada")
    ada.keyboard.press("Enter")
    compares(ada, A, B)
    bob = ada.context.new_page()
    bob.goto(ada.url)
    bob.locator("#name-button").click()
    bob.locator("#name").fill("Bob")
    bob.keyboard.press("Enter")
    bob.wait_for_selector("#name-button:has-text('Bob')")
    for page, name in ((ada, "Ada"), (bob, "Bob")):
        page.bring_to_front()
        page.reload()
        page.wait_for_selector("#melody:not([hidden])")
        assert page.locator("#name-button").inner_text() == name
