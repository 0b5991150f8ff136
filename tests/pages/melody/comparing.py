"""A page with questions that compare melodies, and the votes that were stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roomgrad.testing import running
from roomgrad_melody.learner.handlers import component as learner
from roomgrad_melody.learner.settings import LearnerSettings
from tests.pages.conftest import Open
from tests.pages.melody.assertions import compares
from tests.pages.melody.labelling_run import QUICK, LabellingRun
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

NOT_ASKED_BACK = "sessionStorage.setItem('roomgrad:asked-back', 'true')"


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
