"""`roomgrad rate`: questions in the terminal."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator

from roomgrad.cli import output
from roomgrad.errors import Rejected, RoomgradError
from roomgrad.local.session import password_file
from roomgrad.redis import heartbeats
from roomgrad.redis.client import Client
from roomgrad_melody import questions
from roomgrad_melody.commands import keys
from roomgrad_melody.commands.keys import Keys
from roomgrad_melody.commands.roll import roll
from roomgrad_melody.contract import LEARNER, MELODY, RATINGS
from roomgrad_melody.genome import from_text
from roomgrad_melody.questions import Given, Question
from roomgrad_melody.rows import counted

LOOK_S = 0.3  # between two checks for a question
BACK_S = 10.0  # limit for the learner to take a rating back
EVERYTHING = 1000  # more questions than are ever open
SKIPPED = 20  # newest skipped melodies, which are asked last

HELP = "0-5 rates · s skips · u takes the last rating back · q quits"


def own_name() -> str:
    """Return the name of the account, the default name of the rater."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no account has this user ID, as in some containers
        return "anonymous"


def run(rater: str, run: str, redis_url: str) -> None:
    """Ask until the rater quits or the input ends."""
    rater = questions.checked_name(rater)
    with Client(MELODY, run, redis_url, password_file(), name="rate") as client:
        if not heartbeats.find(client.redis, client.names, LEARNER):
            raise RoomgradError(
                f"the learner of run {client.names.run}, which asks the questions, does not run: "
                f"`roomgrad doctor --run {client.names.run}` says how to start it"
            )
        output.say(f"You are {rater}. {HELP}")
        try:
            with keys.source() as pressed:
                Table(client, rater, pressed).sit()
        finally:
            questions.release(client, rater)


class Table:
    """A session of one rater."""

    def __init__(self, client: Client, rater: str, keys: Keys) -> None:
        self._client = client
        self._rater = rater
        self._keys = keys
        self._skipped: list[str] = []
        self._given = 0

    def sit(self) -> None:
        """Ask one question after the other."""
        for question in self._questions():
            output.say("", *roll(from_text(question.melody)).splitlines())
            if question.again:
                output.say("You have rated this one before; what do you say now?")
            if not self._answered(question):
                break
        output.say("", f"{counted(self._given, 'rating')} given.")

    def _questions(self) -> Iterator[Question]:
        said = False
        while True:
            taken = questions.lease(self._client, self._rater, 1, skipped=self._skipped)
            if taken:
                said = False
                yield taken[0]
                continue
            if not said:
                output.say("", "waiting for the next question ... (q quits)")
                said = True
            key = self._keys.next_of("u", LOOK_S)
            if key is not None and key.quits:
                return
            if key is not None:
                self._take_back()

    def _answered(self, question: Question) -> bool:
        """Handle keys until the question is done; return False if the rater quits."""
        while True:
            key = self._keys.next(questions.LEASE_S / 2)
            if key is None:  # no key yet: renew the lease
                questions.lease(self._client, self._rater, 1, skipped=self._skipped)
                continue
            if key.quits:
                return False
            if key.text == "s":
                self._skipped = [*self._skipped, question.melody][-SKIPPED:]
                return True
            if key.text == "u":
                self._take_back()
                return True
            if key.text in map(str, range(RATINGS)):
                self._rate(question, int(key.text))
                return True
            output.say(f"{key.text!r}? {HELP}")

    def _rate(self, question: Question, rating: int) -> None:
        try:
            given = questions.answer(
                self._client, self._rater, question.melody, rating, question.root
            )
        except Rejected as error:
            output.say(f"not taken: {error}")
            return
        self._given += 1
        output.say(_said(given))

    def _take_back(self) -> None:
        last = questions.recent(self._client, self._rater, 1)
        if not last:
            output.say("there is no rating of yours that could be taken back.")
            return
        try:
            questions.answer(self._client, self._rater, last[0].melody, None, last[0].root)
        except Rejected as error:
            output.say(f"not taken back: {error}")
            return
        self._given -= 1
        output.say(f"your {last[0].rating} is taken back; what do you say now?")
        self._wait_for(last[0].melody)

    def _wait_for(self, melody: str) -> None:
        """Wait until the learner asks for this melody again."""
        self._skipped = [each for each in self._skipped if each != melody]
        until = time.monotonic() + BACK_S
        while time.monotonic() < until:
            leased = questions.lease(self._client, self._rater, EVERYTHING, skipped=self._skipped)
            taken = {question.melody for question in leased}
            # a question that is held is asked first, so release the others
            questions.release(self._client, self._rater, sorted(taken - {melody}))
            # until the learner has taken the rating back, the question is the old one
            if melody in taken and questions.is_open(self._client, melody):
                return
            time.sleep(0.02)


def _said(given: Given) -> str:
    if given.guess is None:
        return f"{given.rating}"
    return f"{given.rating}; the network had guessed {given.guess:.1f}"
