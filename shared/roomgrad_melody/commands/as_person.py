"""`roomgrad run melody --rater NAME --as-person`: answer as a person at the page does.

One question at a time, through the same functions as the page's, while breeding goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from roomgrad.cli.progress import progress
from roomgrad.errors import RoomgradError
from roomgrad.local.session import Session, password_file
from roomgrad.redis.client import Client
from roomgrad_melody import questions, votes
from roomgrad_melody.commands import standing
from roomgrad_melody.commands.options import Unattended
from roomgrad_melody.commands.report import Point
from roomgrad_melody.commands.standing import Standing
from roomgrad_melody.contract import EQUAL, MELODY
from roomgrad_melody.genome import from_text

if TYPE_CHECKING:
    from roomgrad_melody.rater.handlers import Judge

T = TypeVar("T")

NAME = "as-person"  # of the rater in the labels
HELD = 2  # questions; the page holds as many, so that the next melody is there at once
GENERATIONS_PER_LABEL = 2  # the default of evolution
STUCK_S = 180.0  # without a question, or without an end of breeding
POLL_S = 0.05


@dataclass
class Person:
    """A rater that answers questions until there are enough, then waits for breeding to end."""

    session: Session
    options: Unattended
    judge: Judge
    winner: str = ""
    """The preferred melody of the last vote, which stays."""

    curve: list[Point] = field(default_factory=list)

    def to_the_end(self, console: Console) -> Standing:
        """Answer at the pace, and return the last state. Raises RoomgradError if it is stuck."""
        plan, options = self.session.plan, self.options
        with (
            Client(MELODY, plan.run, self.session.url, password_file()) as client,
            progress(console, "labels", options.labels, "waiting for a question") as show,
        ):
            while (answers := self._now().answers) < options.labels:
                show(answers, f"{answers:>5} answers")
                self._answer(client)
        return self._until(self._is_done, "breeding does not end")

    def _answer(self, client: Client) -> None:
        """Answer the first question that is held; return when the answer is stored."""
        held = self._until(lambda: questions.lease(client, NAME, HELD), "there is no question")
        question, before = held[0], self._now().answered
        time.sleep(self.options.pace)
        first, second = votes.pair_of(question, self.winner)
        if question.pair or (question.against and first):
            preference = self.judge.prefer(from_text(first), from_text(second))
            vote = votes.prefer(client, NAME, first, second, preference, question.root)
            self.winner = first if preference == EQUAL else vote.winner
        else:
            [rating] = self.judge.rate(from_text(question.melody)[None])
            questions.answer(client, NAME, question.melody, int(rating), question.root)
        self._until(lambda: self._now().answered > before, "an answer is not read")

    def _until(self, found: Callable[[], T | None], trouble: str) -> T:
        began = time.monotonic()
        while not (value := found()):
            if self._now().dead or time.monotonic() - began > STUCK_S:
                raise RoomgradError(f"{trouble}: look into {self.session.launcher.directory}")
            time.sleep(POLL_S)
        return value

    def _now(self) -> Standing:
        return self.session.poll(standing.read) or Standing()

    def _is_done(self) -> Standing | None:
        """Return the state if all is learned, and the last generation is rated by what is."""
        now = self._now()
        bred = now.generation >= GENERATIONS_PER_LABEL * (1 + now.answers)
        return now if bred and now.rated and now.is_current else None
