"""A person who compares two melodies: votes by keys and touch, and the winner stays."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from roomgrad.testing import running
from roomgrad_melody.learner.handlers import component as learner
from roomgrad_melody.learner.settings import LearnerSettings
from tests.integration.conftest import OwnServer
from tests.pages.conftest import Open
from tests.pages.melody.assertions import compares, ratings, saved, says, shows
from tests.pages.melody.labelling_run import (
    MELODIES,
    QUICK,
    LabellingRun,
    free_port,
    heard,
    history,
)
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

A, B, C, D, E, F = MELODIES[:6]
AWAY = ("503", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE")
NOT_ASKED_BACK = "sessionStorage.setItem('roomgrad:asked-back', 'true')"
BEAT = "Number(document.querySelector('.chosen .playhead').getAttribute('x1'))"


def learn(labelling: LabellingRun) -> None:
    """Start the learner of the system. Without evalnet it takes answers and asks nothing."""
    settings = LearnerSettings(run=labelling.names.run, **QUICK)
    replica = labelling.stack.enter_context(running(learner, settings, labelling.url))
    until(lambda: labelling.redis.exists(labelling.names.alive(replica.consumer)))


def asked(labelling: LabellingRun, *melodies: str) -> None:
    """Ask about melodies, each against the first one, which was heard before."""
    first, *others = melodies
    labelling.put("compared", first, votes=1, wins=1)
    labelling.ask(*others, against=first)


def opened(labelling: LabellingRun, visit: Open, *melodies: str, **options: Any) -> Page:
    """Open the page with questions; it does not ask back whether a melody was heard."""
    asked(labelling, *melodies)
    page = visit(
        labelling.page().url,
        "Ada",
        prepare=lambda page: page.add_init_script(NOT_ASKED_BACK),
        **options,
    )
    compares(page, melodies[0], melodies[1])
    return page


def votes(labelling: LabellingRun) -> dict[tuple[str, str], str]:
    """Return the stored votes by the two melodies as they were shown."""
    stored = labelling.table("pairs").values()
    return {(each["first"], each["second"]): each["prefer"] for each in stored}


def until_votes(labelling: LabellingRun, expected: dict[tuple[str, str], str]) -> None:
    until(lambda: votes(labelling) == expected)


# voting


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


# listening


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


# what goes wrong


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
