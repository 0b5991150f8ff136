"""The graph of runs that branch and join, in a real browser beside components that really run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from roomgrad import Message, ModelStatus, RuntimeSettings
from roomgrad.redis.client import Client
from roomgrad.testing import running, throwaway_server
from roomgrad_split.contract import SPLIT
from roomgrad_split.labelhead.handlers import component as labelhead
from roomgrad_split.labelhead.settings import LabelHeadSettings
from roomgrad_split.leftowner.handlers import component as leftowner
from roomgrad_split.rightowner.handlers import component as rightowner
from tests.integration.ensembles.zoo import ALL, MODELS, ZOO, member, teacher
from tests.integration.model.learner import BATCH
from tests.pages.conftest import Open
from tests.pages.test_dashboard import says, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

RUN = "graph"


@pytest.fixture
def server_url() -> Iterator[str]:
    """A server for each test, as both use the name of one run."""
    with throwaway_server() as server:
        yield server.url


@contextlib.contextmanager
def learning(url: str) -> Iterator[None]:
    """Vertical learning that does not end."""
    with (
        running(leftowner, RuntimeSettings(run=RUN), url),
        running(rightowner, RuntimeSettings(run=RUN), url),
        running(labelhead, LabelHeadSettings(run=RUN, epochs=10_000), url),
    ):
        yield


def nodes(page: Page) -> dict[str, str]:
    """The name of each node and what is said below it."""
    found = [each.locator("text").all_text_contents() for each in page.locator(".node").all()]
    return dict(found)


def titles(page: Page) -> set[str]:
    return set(page.locator(".edge title").all_text_contents())


def test_branches_and_joins_are_drawn(server_url: str, visit: Open) -> None:
    """Each edge that there is, and which messages are handled together."""
    with learning(server_url), serving(server_url, run=RUN) as site:
        page = visit(site.url)
        says(page, "#graph-words", "joins messages of leftowner and rightowner in embedded")
        page.locator(".gathers").nth(1).wait_for(state="attached")
        assert nodes(page).keys() == {*SPLIT.components, "rows", "embedded"}
        together = "of leftowner and rightowner in"
        assert titles(page) == {
            "labelhead to rows: DATA/FORWARD",
            "rows to leftowner: DATA/FORWARD",
            "rows to rightowner: DATA/FORWARD",
            "leftowner to embedded: DATA/FORWARD",
            "rightowner to embedded: DATA/FORWARD",
            f"embedded to labelhead: DATA/FORWARD, joins messages {together} embedded",
            "labelhead to embedded: DATA/GRADIENT",
            "embedded to leftowner: DATA/GRADIENT",
            "embedded to rightowner: DATA/GRADIENT",
            "leftowner to rows: DATA/GRADIENT",
            "rightowner to rows: DATA/GRADIENT",
            f"rows to labelhead: DATA/GRADIENT, adds up gradients {together} rows",
        }
        assert page.locator(".gathers text").all_text_contents() == ["&", "+"]
        rooms = page.locator("#rooms tbody tr td:first-child").all_text_contents()
        assert sorted(rooms) == [
            "embeddedto labelhead",
            *["embeddedto leftowner", "embeddedto rightowner"],
            *["rowsto labelhead", "rowsto leftowner", "rowsto rightowner"],
        ]
        page.close()  # before the server stops


def test_an_ensemble_is_one_node(server_url: str, visit: Open) -> None:
    """So are the rooms of its members; a member without a replica is named."""
    with contextlib.ExitStack() as stack:
        for component in (teacher(), *map(member, MODELS.names[:2])):
            settings = component.settings(run=RUN)
            stack.enter_context(running(component, settings, server_url))
        with Client(ZOO, RUN, server_url) as client:
            client.send(Message.open(ALL, np.ones(BATCH, "<f4"), status=ModelStatus.VALIDATE))
        site = stack.enter_context(serving(server_url, run=RUN))
        page = visit(site.url)
        says(page, "#graph-words", "model.0-2 (2 alive without model.2")
        found = nodes(page)
        rooms = {"all", "act.0-2", "out.0-2", "evolve", "evolve.0-2"}
        assert found.keys() == {"teacher", "model.0-2", *rooms}
        assert re.match(r"2 × · .*/s · without model\.2 · 1 waiting", found["model.0-2"])
        says(page, "#replicas", "model.0-1alive")
        says(page, "#rooms", "act.0-2to model.0-2")
        page.close()
