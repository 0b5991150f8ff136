"""A person at the page of a run: answers by keys, what befalls page and servers, what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roomgrad.local.embedded import EmbeddedServer
from roomgrad.redis.client import Client
from roomgrad_melody import questions
from roomgrad_melody.contract import EQUAL, FIRST, LABELLING, NEITHER, PAIRS_LOG, SECOND
from roomgrad_melody.genome import from_text, notes, pitches
from tests.killing import kill_server
from tests.pages.melody.latency import RECORDER
from tests.systems.melody.play import Run
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

RATER, OTHER = "Ada", "Bob"
LEASE_S = 4.0  # of a question on the page, and at least the time of three answers
PARTS = 3  # between two troubles, each with a measurement
EVERYTHING = 1000  # more questions than are ever open
PATIENCE_MS = 60_000  # for what waits for processes to start, or for the network to learn

# What is drawn: a text of notes for each roll that is shown; "" if nothing is asked.
DRAWN = """(rolls) => document.querySelector('#melody').hidden ? '' : [...document
    .querySelectorAll(rolls)].map((roll) => [...roll.querySelectorAll('.note')]
        .map((note) => `${note.dataset.start}-${note.dataset.end}-${note.classList[1]}`).join())
        .join('|')"""
SHOWS_ANOTHER = f"([rolls, before]) => !['', before].includes(({DRAWN})(rolls))"

# Notes of each answer what was drawn, and the key.
NOTE_ANSWERS = f"""([rolls, keys]) => {{
    addEventListener('keydown', (event) => {{
        const drawn = ({DRAWN})(rolls);
        if (drawn && keys.includes(event.key)) window.answered = [drawn, event.key];
    }}, true);
}}"""
ALL_SAVED = """() => document.querySelector('#connection').dataset.state === 'live'
    && !document.querySelector('#recent [data-state=pending]')
    && !JSON.parse(localStorage['roomgrad:outbox'] ?? '[]').length"""

COUNTED = {"audio nodes": "AudioNode", "audio contexts": "BaseAudioContext"}
INSTANCES = (
    "function () { return this.filter((each) => !Object.hasOwn(each, 'constructor')).length; }"
)


@dataclass(frozen=True)
class Kind:
    """How questions are answered."""

    ask: str
    """The setting of the learner."""

    keys: tuple[str, ...]
    rolls: str
    """CSS selector of the rolls that show a question."""

    stored: Callable[[Run], list[tuple[str, str]]]
    """Returns each answer of the rater that the run has: what was drawn, and the key."""


def picture(melody: str) -> str:
    """Return a melody as DRAWN finds it on the page."""
    degree = pitches().index
    found = notes(from_text(melody))
    return ",".join(f"{n.start}-{n.start + n.length}-tone{degree(n.midi)}" for n in found)


def stored_ratings(run: Run) -> list[tuple[str, str]]:
    entries = [each for each in run.revisions() if each["rater"] == RATER]
    return [(picture(each["melody"]), str(each["rating"])) for each in entries]


VOTES = {"ArrowLeft": FIRST, "ArrowRight": SECOND, "ArrowDown": EQUAL, "ArrowUp": NEITHER}


def stored_votes(run: Run) -> list[tuple[str, str]]:
    keys = {prefer: key for key, prefer in VOTES.items()}
    entries = [each for each in run.revisions(PAIRS_LOG) if each["rater"] == RATER]
    return [
        (f"{picture(each['first'])}|{picture(each['second'])}", keys[each["prefer"]])
        for each in entries
    ]


RATINGS = Kind("ratings", tuple("012345"), "#roll", stored_ratings)
PAIRS = Kind("pairs", tuple(VOTES), "#roll-a, #roll", stored_votes)


def lease_s(pace_s: float) -> float:
    """Return for how long the page holds a question at this pace."""
    return max(LEASE_S, 3 * pace_s)


@dataclass
class Sitting:
    """A rater at the page."""

    run: Run
    page: Page
    kind: Kind
    pace_s: float
    answers: list[tuple[str, str]] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)
    samples: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._devtools = self.page.context.new_cdp_session(self.page)
        self._devtools.send("DOM.enable")
        self._record()

    def _record(self) -> None:
        self.page.wait_for_selector("#melody:not([hidden])", timeout=PATIENCE_MS)
        for script in (NOTE_ANSWERS, RECORDER):
            self.page.evaluate(script, [self.kind.rolls, self.kind.keys])

    def answer(self, times: int = 1) -> None:
        """Listen, press a key, and wait for what is asked next."""
        for _ in range(times):
            self.page.wait_for_selector("#melody:not([hidden])", timeout=PATIENCE_MS)
            self.page.wait_for_timeout(self.pace_s * 1000)
            self.page.keyboard.press(self.kind.keys[len(self.answers) % len(self.kind.keys)])
            self.page.wait_for_function("() => window.waits.length", timeout=PATIENCE_MS)
            self.waits_ms += self.page.evaluate("() => window.waits.splice(0)")
            drawn, key = self.page.evaluate("() => window.answered")
            self.answers.append((drawn, key))

    def hear(self, answers: int) -> None:
        """Answer, and measure three times meanwhile."""
        for part in range(PARTS):
            self.answer(answers * (part + 1) // PARTS - answers * part // PARTS)
            self.measure()

    def settle(self) -> None:
        """Wait until the page is connected and all answers are saved."""
        self.page.wait_for_function(ALL_SAVED, timeout=PATIENCE_MS)

    # what befalls them

    def reload(self) -> None:
        """Load the page anew right after an answer."""
        self.answer()
        self.page.reload()
        self._record()

    def lose_page(self) -> None:
        """Kill the page's server, which is started again; answer meanwhile."""
        self.run.kill(LABELLING)
        self.page.wait_for_selector("#connection[data-state=lost]", timeout=PATIENCE_MS)
        self.answer()

    def lose_redis(self) -> None:
        """Kill Redis, answer, and start it on what is on its disk."""
        server = self.run.server
        kill_server(server)
        self.page.wait_for_selector("#connection[data-state=lost]", timeout=PATIENCE_MS)
        self.answer()
        self.run.server = EmbeddedServer.start(
            server.directory, port=server.port, die_with_parent=True
        )

    def sleep(self) -> None:
        """Freeze the page, offline, until what it shows is answered by another rater, or withdrawn.

        The rater comes back, listens again, and gets another question.
        """
        drawn = self.page.evaluate(DRAWN, self.kind.rolls)
        self.page.context.set_offline(True)
        self._devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
        time.sleep(1.5 * lease_s(self.pace_s))
        self._answer_as_other(drawn)
        self._devtools.send("Page.setWebLifecycleState", {"state": "active"})
        self.page.context.set_offline(False)
        self.page.keyboard.press("Space")
        self.page.wait_for_function(
            SHOWS_ANOTHER, arg=[self.kind.rolls, drawn], timeout=PATIENCE_MS
        )

    def _answer_as_other(self, drawn: str) -> None:
        """Answer what is drawn as soon as it is free, unless it is withdrawn by then."""
        with self.run.reach() as client:
            until(lambda: self._is_taken(client, drawn), every_s=0.1)
            questions.release(client, OTHER)

    def _is_taken(self, client: Client, drawn: str) -> bool:
        is_drawn = {name: picture(name) in drawn.split("|") for name in self.run.open_questions()}
        for each in questions.lease(client, OTHER, EVERYTHING):
            if is_drawn.get(each.melody):
                questions.answer(client, OTHER, each.melody, 3, each.root)
                return True
        return not any(is_drawn.values())

    # what it costs

    def measure(self) -> None:
        """Record what the page holds after garbage was collected."""
        send = self._devtools.send
        counts = {name: self._instances(of) for name, of in COUNTED.items()}
        send("HeapProfiler.collectGarbage")
        found = send("Memory.getDOMCounters")
        nodes = found["nodes"] - self.page.locator("rect").count()  # melodies get more notes
        heap = send("Runtime.getHeapUsage")["usedSize"]
        at = {"answers": len(self.answers), "heap": heap}
        self.samples.append(
            {**at, "nodes": nodes, "listeners": found["jsEventListeners"], **counts}
        )

    def _instances(self, of: str) -> int:
        """Return how many objects of a class live; garbage is collected first."""
        send = self._devtools.send
        group = {"objectGroup": "instances"}
        prototype = send("Runtime.evaluate", {"expression": f"{of}.prototype", **group})["result"]
        about = {"prototypeObjectId": prototype["objectId"], **group}
        found = send("Runtime.queryObjects", about)["objects"]
        call = {"functionDeclaration": INSTANCES, "objectId": found["objectId"]}
        number = send("Runtime.callFunctionOn", {**call, "returnByValue": True})["result"]["value"]
        send("Runtime.releaseObjectGroup", group)
        return int(number)


def page_url(run: Run) -> str:
    """Return the address of the page as soon as it is served."""
    return str(until(lambda: run.record(LABELLING, "now"))["url"])
