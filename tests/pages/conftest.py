"""A run with a page, and a browser that fails a test if a page leaves its origin."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from roomgrad.testing import throwaway_server
from tests.conftest import chromium
from tests.integration.conftest import OwnServer
from tests.pages.http_client import HttpClient
from tests.pages.melody.labelling_run import LabellingRun

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP page.test 127.0.0.1",
]
PATIENCE_MS = 15_000

Open = Callable[..., "Page"]


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    with throwaway_server() as server:
        yield server.url


@pytest.fixture
def labelling(server_url: str) -> Iterator[LabellingRun]:
    """Yield a run with a random name on a shared server."""
    with contextlib.ExitStack() as stack:
        yield LabellingRun(server_url, stack)


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    with throwaway_server() as server:
        own = OwnServer(server)
        yield own
        own.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield one browser for each file of tests; a process can drive one at a time."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield program
        program.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Open a page in a browser context of its own; `rater` has given their name already.

    expected: parts of errors that belong to the test. prepare: what is done before it goes there.

    The test fails when a page asks anybody but its own server for anything, or says an error.
    """
    wrong: list[str] = []
    contexts = []

    def visit(
        url: str,
        rater: str = "",
        expected: tuple[str, ...] = (),
        prepare: Callable[[Page], None] = lambda _page: None,
        **options: Any,
    ) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("request", lambda request: check_origin(request.url, url))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda line: check_console(line, expected))
        if rater:
            page.add_init_script(f"localStorage.setItem('roomgrad:name', '\"{rater}\"')")
        prepare(page)
        page.goto(url)
        return page

    def check_origin(target: str, url: str) -> None:
        origin = "/".join(url.split("/")[:3]) + "/"
        if not target.startswith(origin):
            wrong.append(f"asked {target}")

    def check_console(line: Any, expected: tuple[str, ...]) -> None:
        if line.type == "error" and not any(part in line.text for part in expected):
            wrong.append(f"console: {line.text}")

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def page_client(labelling: LabellingRun) -> HttpClient:
    """Return a client of a page that no other test uses."""
    return HttpClient(labelling.page())


@pytest.fixture(scope="module")
def shared_page_client(server_url: str) -> Iterator[HttpClient]:
    """Return a client of one page for all tests that change nothing."""
    with contextlib.ExitStack() as stack:
        yield HttpClient(LabellingRun(server_url, stack).page())
