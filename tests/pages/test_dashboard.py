"""The dashboard in a real browser, beside systems that really run."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from roomgrad import Message, RuntimeSettings, codec
from roomgrad.errors import ServerError
from roomgrad.inspect.keys import newest_run
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.rooms import MessageType
from roomgrad.testing import running, throwaway_server
from roomgrad.web import changes
from roomgrad.web.dashboard import page
from roomgrad.web.dashboard.server import DashboardServer
from roomgrad.web.dashboard.settings import DashboardSettings
from roomgrad.web.serving import SHARED
from roomgrad_trebuchet.contract import MODEL, TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.simulator.settings import SimulatorSettings
from roomgrad_trebuchet.trainer.handlers import component as trainer
from roomgrad_trebuchet.trainer.settings import TrainerSettings
from tests.integration.conftest import OwnServer
from tests.integration.echo import ECHO, INPUT, OUTPUT, echo_component, numbers
from tests.integration.gateway.gateway_process import GatewayProcess
from tests.pages.conftest import Open
from tests.pages.http_client import HttpClient
from tests.pages.melody.labelling_run import LabellingRun, free_port, history
from tests.pages.melody.test_looks import violations
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

MANY = 10**6
DESK = (1440, 1000)
NAMES = Names(TREBUCHET.name)
AWAY = ("503", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE")


@contextlib.contextmanager
def training(url: str, run: str = "") -> Iterator[None]:
    """The trebuchet learns, a small batch after the other."""
    with (
        running(controlmodel, ControlModelSettings(run=run, train_steps=MANY), url),
        running(simulator, SimulatorSettings(run=run), url),
        running(trainer, TrainerSettings(run=run, train_steps=MANY, batch_size=20), url),
    ):
        yield


@contextlib.contextmanager
def serving(url: str, **changed: Any) -> Iterator[DashboardServer]:
    """A dashboard in a thread."""
    site = DashboardServer(DashboardSettings(port=free_port(), every_s=0.2, **changed), url)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(site.serve()), daemon=True)
    thread.start()
    try:
        until(lambda: site.is_serving)
        yield site
    finally:
        site.stop()
        thread.join(60)
        assert codes == [0], "the dashboard did not end well"


@pytest.fixture(scope="module")
def trebuchet() -> Iterator[str]:
    """A server on which the trebuchet learns, in two runs; one letter is dead."""
    with (
        throwaway_server() as server,
        contextlib.closing(connect(server.url)) as client,
        training(server.url),
    ):
        with training(server.url, run="other"):
            until(lambda: client.hlen(Names("other").table("losses")) > 20)
        broken = {"ID": "broken", "ROOT_ID": "nobody", "m": "no JSON"}
        client.xadd(NAMES.stream(MODEL.name, MessageType.FORWARD.value), broken)
        until(lambda: client.xlen(NAMES.dead()) == 1)
        until(lambda: client.exists(NAMES.table("trajectories")))
        yield server.url


@pytest.fixture(scope="module")
def dashboard(trebuchet: str) -> Iterator[DashboardServer]:
    with serving(trebuchet, run="trebuchet") as site:
        yield site


def says(page: Page, selector: str, text: str) -> None:
    """Waits until a part of the page holds a text."""
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
        arg=[selector, text],
    )


def test_it_draws_who_trains_through_whom(dashboard: DashboardServer, visit: Open) -> None:
    """Components and rooms that are really there, and each message runs along an edge."""
    page = visit(dashboard.url)
    page.locator(".node.component").nth(2).wait_for()
    components = page.locator(".node.component text:not(.small)").all_text_contents()
    assert sorted(components) == ["controlmodel", "simulator", "trainer"]
    rooms = page.locator(".node.room text:not(.small)").all_text_contents()
    assert sorted(rooms) == ["input", "model", "output"]
    assert page.locator(".edge").count() == 12, "six TYPEs, each from somebody to somebody"
    page.locator(".pulse.forward").first.wait_for(state="attached")
    page.locator(".pulse.gradient").first.wait_for(state="attached")
    says(page, "#graph-words", "trainer (1 alive, sends to input and output)")
    says(page, "#flow", "messages/s")
    assert page.locator("#rooms tbody tr").count() == 6
    page.locator("#replicas tbody tr", has_text="simulator").wait_for()
    assert page.locator("#replicas tbody tr[data-alive=true]").count() == 3


def test_it_shows_how_the_training_goes(dashboard: DashboardServer, visit: Open) -> None:
    """The curves grow, and those of another run are laid over them."""
    page = visit(dashboard.url)
    page.locator("#curve-loss .curve0").wait_for()
    before = page.locator("#curve-loss .curve0").get_attribute("d")
    page.wait_for_function(
        "before => document.querySelector('#curve-loss .curve0').getAttribute('d') !== before",
        arg=before,
    )
    assert page.locator("#curve-miss_m .curve0").count() == 1
    says(page, "#ledger", "lost0")
    page.get_by_label("other", exact=True).check()
    page.locator("#curve-loss .curve1").wait_for()
    says(page, "#curve-loss", "other")


def fact(page: Page, name: str) -> str:
    """The figure with this name in the card on the progress."""
    row = page.locator("#progress-facts div").filter(has=page.get_by_text(name, exact=True))
    return row.locator("dd").inner_text()


def test_it_tells_how_far_the_run_is_and_when_it_ends(
    dashboard: DashboardServer, visit: Open
) -> None:
    """Batches, pace, time left, restarts, the server's memory, and the slowest component."""
    page = visit(dashboard.url)
    page.wait_for_function(
        "() => /\\d (d|h|min|s)/.test(document.querySelector('#progress-facts').innerText)"
    )
    assert fact(page, "batches").endswith("of 1,000,000")
    assert float(fact(page, "batches a second").replace(",", "")) > 0
    assert fact(page, "restarts, as seen here") == "0"
    assert fact(page, "memory of the server").endswith("MiB")
    assert fact(page, "slowest component").split(",")[0] in ("controlmodel", "simulator", "trainer")
    assert page.locator("#progress-bar").get_attribute("max") == str(MANY)
    says(page, "#progress-details", "loss")
    says(page, "#replicas", "alive for")


def test_a_replica_that_took_the_place_of_another_is_a_restart(
    own_server: OwnServer, visit: Open
) -> None:
    settings = RuntimeSettings(run="birds", heartbeat_interval_s=0.1, heartbeat_lives_s=0.5)
    with serving(own_server.url) as site:
        with running(echo_component(), settings, own_server.url):
            page = visit(site.url, expected=AWAY)
            page.locator("#replicas tr[data-alive=true]").first.wait_for()
            assert fact(page, "restarts, as seen here") == "0"
        with running(echo_component(), settings, own_server.url):
            page.wait_for_function(
                "() => /restarts, as seen here\\s*1/"
                ".test(document.querySelector('#progress-facts').innerText)"
            )


def test_it_opens_on_the_run_that_is_alive_and_moved_last(
    own_server: OwnServer, visit: Open
) -> None:
    """Whatever the names: a dead run that comes first in the alphabet has to be chosen."""
    with contextlib.closing(connect(own_server.url)) as client:
        assert newest_run(client) == ""
        with running(echo_component(), RuntimeSettings(run="a-dead-one"), own_server.url):
            until(lambda: newest_run(client) == "a-dead-one")
        until(lambda: not client.keys("{a-dead-one}:alive:*"))
        assert newest_run(client) == "a-dead-one", "the only one there is"
        with (
            running(echo_component(), RuntimeSettings(run="b-alive"), own_server.url),
            running(echo_component(), RuntimeSettings(run="c-alive"), own_server.url),
            serving(own_server.url) as site,
        ):
            for run in ("b-alive", "c-alive"):
                with Client(ECHO, run, own_server.url) as c:
                    c.send(Message.open(INPUT, numbers(1)))
                answers = Names(run).stream(OUTPUT.name, MessageType.FORWARD.value)
                until(lambda key=answers: client.xlen(key) == 1)
            assert newest_run(client) == "c-alive"
            page = visit(site.url, expected=AWAY)
            page.wait_for_function("() => document.querySelector('#run').value === 'c-alive'")
            page.locator("#run").select_option("a-dead-one")
            page.reload()
            page.wait_for_function("() => document.querySelector('#run').value === 'a-dead-one'")


def test_the_figure_at_a_curve_is_its_trend(own_server: OwnServer, visit: Open) -> None:
    """The mean of the last 50 steps, as it says; a loss that is not a number is named."""
    table = Names("birds").table("losses")
    with (
        running(echo_component(), RuntimeSettings(run="birds"), own_server.url),
        serving(own_server.url) as site,
        contextlib.closing(connect(own_server.url)) as client,
    ):
        for step in range(100):
            client.hset(table, str(step), codec.pack({"step": step, "loss": 1.0 + step % 2}))
        page = visit(site.url, expected=AWAY)
        page.locator("#curve-loss .curve0").wait_for()
        says(page, "#curves", "mean of 50 steps")
        assert page.locator("#curve-loss .value0").text_content() == "1.50"
        assert page.locator("#curve-loss .raw").count() == 1
        client.hset(table, "100", codec.pack({"step": 100, "loss": float("nan")}))
        says(page, "#curve-loss", "not a number")
        label = page.locator("#curve-loss").get_attribute("aria-label") or ""
        assert "to not a number" in label


def test_it_shoots_the_last_batch(dashboard: DashboardServer, visit: Open) -> None:
    """By the simulator's own solution, with the targets of that batch."""
    page = visit(dashboard.url)
    says(page, "#shots-words", "miss their targets by")
    assert page.locator("#shots .way").count() == 8
    assert page.locator("#shots .target").count() == 8
    assert page.locator("#shots .beam").get_attribute("d").startswith("M")
    page.locator("#shots-again").click()
    flown = page.locator("#shots .flown").first.get_attribute("d") or ""
    page.wait_for_function(
        "was => document.querySelector('#shots .flown').getAttribute('d').length > was",
        arg=len(flown),
    )


def test_the_way_of_a_root_is_one_click_away(dashboard: DashboardServer, visit: Open) -> None:
    page = visit(dashboard.url)
    page.locator("#roots button").first.focus()  # which holds the list still
    page.locator("#roots button").first.click()
    page.locator("#hops li").first.wait_for()
    says(page, "#trace-words", "messages")
    says(page, "#hops", "trainer → controlmodel")
    page.get_by_role("button", name="Close").click()
    assert not page.locator("#trace").is_visible()


def test_what_was_given_up_is_shown_with_its_reason(
    dashboard: DashboardServer, visit: Open
) -> None:
    page = visit(dashboard.url)
    says(page, "#dead", "not JSON")
    says(page, "#dead", "given up by simulator")
    says(page, "#dead-title", "Dead letters: 1")


def test_a_page_gets_only_what_has_changed(dashboard: DashboardServer) -> None:
    """By the mark of the response before; a mark of another process means nothing."""
    page_client = HttpClient(dashboard)
    first = page_client.changes("server", "trebuchet")
    instance, _, number = first["since"].partition("-")
    assert int(number) > 0
    again = page_client.changes("graph", "trebuchet", first["since"])
    assert again["since"].startswith(instance)
    assert int(again["since"].partition("-")[2]) > int(number)
    assert "server" not in again["topics"], "it has not changed"
    fresh = page_client.changes("server", "trebuchet", "ffffffff-999999")
    assert fresh["topics"]["server"]["connected"] is True


def test_it_says_that_the_server_is_away_and_goes_on(own_server: OwnServer, visit: Open) -> None:
    with training(own_server.url), serving(own_server.url) as site:
        page = visit(site.url, expected=AWAY)
        page.locator("#curve-loss .curve0").wait_for()
        own_server.kill()
        says(page, "#connection", "server unavailable")
        own_server.restart()
        says(page, "#connection", "live")
        before = page.locator("#ledger").inner_text()
        page.wait_for_function(
            "before => document.querySelector('#ledger').innerText !== before", arg=before
        )


READS = "on >secret allkeys allchannels -@all +@read +@connection +info +time"
READS += " +evalsha_ro +eval_ro +multi +exec"  # to read the counters of one moment


def test_who_may_only_read_sees_all_of_it(own_server: OwnServer, visit: Open) -> None:
    """Nothing is denied to a user who may not write, and nothing is written."""
    rights = READS.split()
    with contextlib.closing(connect(own_server.url)) as client:
        client.execute_command("ACL", "SETUSER", "looker", *rights)
        with training(own_server.url):
            until(lambda: client.hlen(NAMES.table("losses")) > 20)
            until(lambda: client.exists(NAMES.table("trajectories")))
        before = _stored(client)
        client.execute_command("ACL", "LOG", "RESET")
        with serving(own_server.url.replace("redis://", "redis://looker:secret@")) as site:
            page = visit(site.url, expected=AWAY)
            page.locator("#curve-loss .curve0").wait_for()
            page.locator("#shots .way").first.wait_for()
            page.locator("#roots button").first.click()
            page.locator("#hops li").first.wait_for()
        assert client.execute_command("ACL", "LOG") == []
        assert _stored(client) == before


def _stored(client: Any) -> dict[bytes, Any]:
    """Return what each key stores; a dump of a hash changes its order while the server rehashes."""
    return {
        key: client.hgetall(key) if client.type(key) == b"hash" else client.dump(key)
        for key in client.scan_iter()
    }


def test_a_system_that_nobody_here_knows_is_drawn_too(own_server: OwnServer, visit: Open) -> None:
    """By what it says of itself."""
    with (
        running(echo_component(), RuntimeSettings(run="birds"), own_server.url),
        serving(own_server.url) as site,
    ):
        page = visit(site.url, expected=AWAY)
        page.locator(".node.component").first.wait_for()
        shown = set(page.locator(".node text:not(.small)").all_text_contents())
        assert shown == {"echo", "listener", "input", "output"}
        assert page.locator(".node.absent").count() == 1, "no listener lives"
        assert page.locator("#shots-card").is_hidden()
        assert page.locator("#training").is_hidden()
        with contextlib.closing(connect(own_server.url)) as client:
            for step in range(3):
                record = codec.pack({"step": step, "loss": 9.0 - step})
                client.hset(Names("birds").table("losses"), str(step), record)
        page.locator("#curve-loss .curve0").wait_for()
        assert page.locator("#curve-miss_m").is_hidden()


def test_a_client_of_the_gateway_is_drawn_by_its_name(own_server: OwnServer, visit: Open) -> None:
    """It has declared nothing; that it listens is known by its group."""
    with (
        contextlib.ExitStack() as stack,
        contextlib.closing(connect(own_server.url)) as client,
    ):
        stack.enter_context(running(echo_component(), RuntimeSettings(run="birds"), own_server.url))
        gateway = GatewayProcess(own_server.url, client, Names("birds"), stack).open()
        gateway.peer("ann", "output")
        site = stack.enter_context(serving(own_server.url))
        shown = visit(site.url, expected=AWAY)
        says(shown, "#graph-words", "ann@gateway (by the gateway)")


def test_runs_that_nobody_watches_any_more_make_room(
    dashboard: DashboardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever names visitors try: what nobody looks at is forgotten."""
    monkeypatch.setattr(changes, "FOLLOWED_S", 0.3)
    monkeypatch.setattr(page, "MOST_WATCHED", 3)
    page_client = HttpClient(dashboard)
    for number in range(8):
        found = until(lambda n=number: listened(page_client, f"nothing{n}"))
        assert found["topics"]["server"]["connected"] is True
        assert page_client.get(f"/api/training?run=nothing{number}")[0] == 200
    assert len(dashboard.page.watches) <= 3
    assert len(dashboard.page.curves) <= 3
    assert until(lambda: listened(page_client, "nothing0")), (
        "one that was forgotten is looked at again"
    )


def listened(page_client: HttpClient, run: str) -> dict[str, Any] | None:
    """Return the first changes of a run; None while too many are watched."""
    if page_client.get(f"/api/roots/x?run={run}")[0] != 404:
        return None
    status, found = page_client.get(f"/api/changes?run={run}")
    return found if status == 200 and "server" in found["topics"] else None


def test_the_melody_maker_is_shown_with_its_melodies(labelling: LabellingRun, visit: Open) -> None:
    """Styled as the labelling page is, in both color schemes."""
    from axe_playwright_python.sync_playwright import Axe

    labelling.learn()
    history(labelling)
    with serving(labelling.url, run=labelling.names.run) as site:
        page = visit(f"{site.url}#run={labelling.names.run}", expected=AWAY)
        page.locator("#errors .curve0").wait_for()
        assert page.locator("#best li").count() == 5
        says(page, "#histogram", "34")
        page.get_by_label("Play melody 1").click()
        assert page.get_by_label("Play melody 1").get_attribute("aria-pressed") == "true"
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            assert violations(Axe().run(page)) == [], scheme
            unstyled = page.evaluate(UNSTYLED, "#melody-card")
            assert unstyled == [], f"black, as without a style: {unstyled}"
        sizes = (
            "selector => parseFloat(getComputedStyle(document.querySelector(selector)).fontSize)"
        )
        assert page.evaluate(sizes, "#melody-facts dd") < page.evaluate(sizes, "#melody-title")


# Shapes and texts of pictures, whose colors axe does not check. Black is what SVG begins with.
UNSTYLED = """selector => [...document.querySelectorAll(`${selector} :is(svg text, svg rect)`)]
    .filter((each) => getComputedStyle(each).fill === 'rgb(0, 0, 0)')
    .map((each) => each.outerHTML)"""


@pytest.mark.parametrize("size", [(390, 844), (820, 1180), DESK], ids=str)
def test_it_fits_and_everybody_can_use_it(
    dashboard: DashboardServer, visit: Open, tmp_path: Path, size: tuple[int, int]
) -> None:
    """In both color schemes: axe finds no violation, the page is as wide as the window, and the
    theme can be switched.
    """
    from axe_playwright_python.sync_playwright import Axe

    page = visit(
        dashboard.url,
        viewport={"width": size[0], "height": size[1]},
        reduced_motion="reduce",
    )
    page.locator("#curve-loss .curve0").wait_for()
    page.locator("#dead li").wait_for()
    says(page, "#shots-words", "miss their targets by")
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        assert violations(Axe().run(page)) == [], scheme
        page.screenshot(path=tmp_path / f"dashboard-{scheme}-{size[0]}.png", full_page=True)
        if size == DESK and (folder := os.environ.get("SCREENSHOTS")):  # those of the pages
            page.screenshot(path=Path(folder) / f"dashboard-{scheme}.png", full_page=True)
    was = page.evaluate("getComputedStyle(document.body).color")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).color") != was


def test_both_pages_have_their_head_from_the_shared_files(
    dashboard: DashboardServer, labelling: LabellingRun
) -> None:
    """Styles, icon, and the badge of the connection; no marker is left in a page."""
    for url in (dashboard.url, labelling.page().url):
        with urlopen(url) as response:
            html = response.read().decode()
        assert re.search(r"<!-- \w+ -->", html) is None
        for part in sorted(SHARED.glob("*.html")):
            assert html.count(part.read_text("utf-8").strip()) == 1, part.name


def test_what_does_not_exist_is_said(dashboard: DashboardServer) -> None:
    page_client = HttpClient(dashboard)
    assert page_client.get("/healthz") == (200, {"well": True})
    status, found = page_client.get("/api/roots/nothing?run=trebuchet")
    assert status == 404
    assert "no message of root 'nothing'" in found["reason"]
    assert page_client.get("/api/training")[0] == 422
    assert page_client.post("/api/runs", {})[0] in (403, 405), "nothing is ever changed"


def test_a_thousand_messages_a_second_do_not_hurt_the_page(
    own_server: OwnServer, visit: Open
) -> None:
    """They come as counts, a few times a second, and the page answers at once."""
    stop = threading.Event()

    def talk() -> None:
        with Client(ECHO, "birds", own_server.url) as c:
            while not stop.is_set():
                with contextlib.suppress(ServerError):  # the echo component is far behind just now
                    c.send(Message.open(INPUT, numbers(1)))

    with running(echo_component(), RuntimeSettings(run="birds"), own_server.url):
        talkers = [threading.Thread(target=talk) for _ in range(2)]
        for each in talkers:
            each.start()
        try:
            with serving(own_server.url) as site:
                page = visit(site.url, expected=AWAY)
                page.evaluate(
                    "() => { window.long = []; new PerformanceObserver((all) => all.getEntries()"
                    ".forEach((each) => window.long.push(each.duration)))"
                    ".observe({ type: 'longtask' }); }"
                )
                page.wait_for_function(
                    "() => parseFloat(document.querySelector('#flow').innerText"
                    ".replaceAll(',', '')) > 1000"
                )
                page.locator(".pulse").first.wait_for(state="attached")
                assert page.locator(".pulse").count() <= 150
                assert max(page.evaluate("window.long"), default=0) < 500
        finally:
            stop.set()
            for each in talkers:
                each.join()
