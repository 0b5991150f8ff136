"""A person who compares two melodies: votes by keys and touch, and the winner stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.pages.conftest import Open
from tests.pages.melody.assertions import compares, ratings, saved, shows
from tests.pages.melody.comparing import NOT_ASKED_BACK, asked, learn, opened, until_votes
from tests.pages.melody.labelling_run import MELODIES, LabellingRun
from tests.waiting import until

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.browser

A, B, C, D, E, F = MELODIES[:6]


def test_arrows_vote_and_the_winner_stays(labelling: LabellingRun, visit: Open) -> None:
    """One new melody for each vote; after "both bad" it begins with the one that is best now."""
    learn(labelling)
    page = opened(labelling, visit, A, B, C, D, E, F)
    page.keyboard.press("ArrowRight")
    compares(page, B, C)
    page.keyboard.press("ArrowLeft")
    compares(page, B, D)
    page.keyboard.press("ArrowDown")
    compares(page, B, E)
    page.keyboard.press("ArrowUp")
    compares(page, A, F)
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#idle:not([hidden])")
    saved(page, F, E, D, C, B)
    expected = {(A, B): "second", (B, C): "first", (B, D): "equal", (B, E): "neither"}
    until_votes(labelling, {**expected, (A, F): "second"})


def test_what_was_heard_is_measured(labelling: LabellingRun, visit: Open) -> None:
    """A plays, then B by itself; the winner was heard and stays silent for the next vote."""
    labelling_speed = "document.querySelector('#speed')"
    page = opened(labelling, visit, A, B, C)
    page.keyboard.press("Space")
    page.wait_for_selector(".side:first-child .hear.playing")
    page.evaluate(
        f"{labelling_speed}.value = 2; {labelling_speed}.dispatchEvent(new Event('input'))"
    )
    page.wait_for_selector(".side:last-child .hear.playing")
    page.wait_for_timeout(1300)
    page.keyboard.press("ArrowRight")
    compares(page, B, C)
    page.wait_for_selector(".side:last-child .hear.playing")
    page.wait_for_timeout(1100)
    page.keyboard.press("ArrowRight")
    first, second = until(lambda: len(labelling.sent()) == 2 and labelling.sent())
    heard, later = first.fields["LISTENED"].tolist(), second.fields["LISTENED"].tolist()
    assert 7_000 < heard[0] < 9_000  # 32 beats, mostly at double speed
    assert 1_000 < heard[1] < 4_000
    assert later[0] == 0
    assert 900 < later[1] < 4_000


def test_a_vote_before_both_were_heard_is_asked_back_once(
    labelling: LabellingRun, visit: Open
) -> None:
    """Also over a reload; Escape and "Listen first" vote nothing and play what is missing."""
    asked(labelling, A, B, C, D)
    page = visit(labelling.page().url, "Ada")
    compares(page, A, B)
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#heard-dialog[open]")
    assert page.locator("#heard-title").inner_text() == (
        "You have not heard A and B yet. Vote anyway?"
    )
    page.keyboard.press("ArrowRight")  # keys do not vote behind the dialog
    page.keyboard.press("Escape")
    page.wait_for_selector(".side:first-child .hear.playing")
    assert labelling.sent() == []
    page.keyboard.press("ArrowRight")
    compares(page, B, C)
    page.reload()
    compares(page, B, C)
    page.keyboard.press("ArrowLeft")
    compares(page, B, D)
    assert not page.locator("#heard-dialog").is_visible()
    until(lambda: [each.fields["PREFER"] for each in labelling.sent()] == ["second", "first"])


@pytest.mark.parametrize(("choice", "votes"), [("Vote anyway", 1), ("Listen first", 0)])
def test_the_question_back_is_answered_by_keys(
    labelling: LabellingRun, visit: Open, choice: str, votes: int
) -> None:
    asked(labelling, A, B, C)
    page = visit(labelling.page().url, "Ada")
    compares(page, A, B)
    page.locator(".hear").first.click()
    page.wait_for_timeout(1200)
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("#heard-dialog[open]")
    assert "not heard B yet" in page.locator("#heard-title").inner_text()
    page.get_by_role("button", name=choice).focus()
    page.keyboard.press("Enter")
    compares(page, A, C if votes else B)
    if votes:
        until(lambda: len(labelling.sent()) == votes)
    else:
        page.wait_for_selector(".side:last-child .hear.playing")
        assert labelling.sent() == []


def test_digits_rate_the_melody_b(labelling: LabellingRun, visit: Open) -> None:
    """A stays; undo shows both melodies again."""
    learn(labelling)
    page = opened(labelling, visit, A, B, C, D)
    page.keyboard.press("ArrowRight")
    compares(page, B, C)
    page.keyboard.press("4")
    compares(page, B, D)
    until(lambda: ratings(labelling) == {C: 4})
    saved(page, C, B)
    page.keyboard.press("Backspace")
    compares(page, B, C)
    until(lambda: ratings(labelling) == {})
    page.keyboard.press("ArrowLeft")
    until_votes(labelling, {(A, B): "second", (B, C): "first"})


def test_touch_is_enough(labelling: LabellingRun, visit: Open) -> None:
    """On a phone: to listen, to vote, to take back, to skip; all of it is in the window's width."""
    learn(labelling)
    size = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = opened(labelling, visit, A, B, C, D, **size)
    page.locator(".hear").first.tap()
    page.wait_for_selector(".side:first-child .hear.playing")
    page.locator(".hear").last.tap()
    page.wait_for_selector(".side:last-child .hear.playing")
    for name in ("first", "second", "equal", "neither"):
        box = page.locator(f"[data-vote={name}]").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 844, "votes need no scrolling"
        assert box["height"] >= 44
    page.locator("[data-vote=second]").tap()
    compares(page, B, C)
    page.locator("#undo").tap()
    compares(page, A, B)
    page.locator("[data-vote=first]").tap()
    compares(page, A, C)
    page.locator("#skip").tap()
    compares(page, A, D)
    page.locator("[data-vote=neither]").tap()
    compares(page, A, C)
    until_votes(labelling, {(A, B): "first", (A, D): "neither"})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_vote_is_taken_back_and_changed_later(labelling: LabellingRun, visit: Open) -> None:
    """By keys, and in the list of the last answers, also after a reload."""
    learn(labelling)
    page = opened(labelling, visit, A, B, C, D)
    page.keyboard.press("ArrowRight")
    compares(page, B, C)
    page.keyboard.press("ArrowRight")
    compares(page, C, D)
    saved(page, C, B)
    page.keyboard.press("Control+z")
    compares(page, B, C)
    until_votes(labelling, {(A, B): "second"})
    page.keyboard.press("ArrowLeft")
    compares(page, B, D)
    saved(page, C, B)
    page.reload()
    compares(page, B, D)
    saved(page, C, B)
    page.locator(f"#recent li[data-melody='{B}'] select").select_option("equal")
    until_votes(labelling, {(A, B): "equal", (B, C): "first"})
    page.locator(f"#recent li[data-melody='{C}']").get_by_label("Take this vote back").click()
    compares(page, B, C)
    until_votes(labelling, {(A, B): "equal"})
    page.keyboard.press("ArrowUp")
    until_votes(labelling, {(A, B): "equal", (B, C): "neither"})


def test_the_guess_is_hidden_until_one_has_voted(labelling: LabellingRun, visit: Open) -> None:
    asked(labelling, A, B)
    labelling.ask(B, against=A, guess=4.321, strategy="expected best", probs=[0.0] * 6)
    bodies: list[str] = []

    def keep(route: Any) -> None:
        response = route.fetch()
        bodies.append(response.text())
        route.fulfill(response=response)

    page = visit(labelling.page().url, "Ada", prepare=lambda page: page.route("**/api/**", keep))
    compares(page, A, B)
    assert any(B in body for body in bodies)
    assert not any("4.321" in body or "expected best" in body for body in bodies)
    page.unroute_all(behavior="wait")


def test_a_repeated_pair_is_shown_as_it_is_asked_for(labelling: LabellingRun, visit: Open) -> None:
    """In the swapped order, whatever the last winner is; the next pair begins with the winner."""
    learn(labelling)
    asked(labelling, A, B)
    labelling.ask(C, pair=[D, C], against=D, again=True)
    labelling.put("questions", C, **{**(labelling.get("questions", C) or {}), "rank": 1.0})
    page = visit(labelling.page().url, "Ada")
    page.evaluate(NOT_ASKED_BACK)
    compares(page, A, B)
    page.keyboard.press("ArrowRight")
    compares(page, D, C)
    page.keyboard.press("ArrowLeft")
    until_votes(labelling, {(A, B): "second", (D, C): "first"})


def test_a_question_of_the_other_kind_follows(labelling: LabellingRun, visit: Open) -> None:
    """One page for both: a rating shows one melody, and arrows do not vote then."""
    learn(labelling)
    asked(labelling, A, B)
    labelling.put("questions", C, **{**(labelling.get("questions", B) or {}), "rank": 1.0})
    record = labelling.get("questions", C) or {}
    labelling.put("questions", C, **{**record, "against": "", "root": "c" * 32})
    page = visit(labelling.page().url, "Ada")
    page.evaluate(NOT_ASKED_BACK)
    compares(page, A, B)
    page.keyboard.press("ArrowRight")
    shows(page, C)
    assert page.locator(".side:not([hidden])").count() == 1
    assert not page.locator("#votes").is_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("3")
    until(lambda: ratings(labelling) == {C: 3})
    until_votes(labelling, {(A, B): "second"})
