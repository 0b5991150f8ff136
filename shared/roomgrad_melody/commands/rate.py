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
from roomgrad_melody import questions, votes
from roomgrad_melody.commands import keys
from roomgrad_melody.commands.keys import Keys
from roomgrad_melody.commands.roll import roll
from roomgrad_melody.contract import (
    EQUAL,
    FIRST,
    LEARNER,
    MELODY,
    NEITHER,
    RATINGS,
    RETRACTED,
    SECOND,
)
from roomgrad_melody.genome import from_text
from roomgrad_melody.questions import Given, Question
from roomgrad_melody.rows import counted
from roomgrad_melody.votes import Vote

LOOK_S = 0.3  # between two checks for a question
BACK_S = 10.0  # limit for the learner to take a rating back
EVERYTHING = 1000  # more questions than are ever open
SKIPPED = 20  # newest skipped melodies, which are asked last

REST = "s skips · u takes the last answer back · q quits"
HELP = f"0-5 rates · {REST}"
PAIR_HELP = f"a or ←, b or →: that one is better · e equal · n both are bad · 0-5 rates B · {REST}"
PREFERS = {
    **dict.fromkeys(("a", "left", "\x1b[d", "\x1bod"), FIRST),
    **dict.fromkeys(("b", "right", "\x1b[c", "\x1boc"), SECOND),
    "e": EQUAL,
    "n": NEITHER,
}
"""Preferences by key, as `keys` reads them: arrow keys are small letters after Esc."""

SAID = {FIRST: "A is better.", SECOND: "B is better.", EQUAL: "equal.", NEITHER: "both are bad."}


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
        self._ratings = self._votes = 0
        self._stays = ""  # the first melody of the next pair: the winner stays

    def sit(self) -> None:
        """Ask one question after the other."""
        for question in self._questions():
            compared = bool(question.against or question.pair)
            pair = votes.pair_of(question, self._stays) if compared else None
            self._show(question, pair)
            if not self._answered(question, pair):
                break
        compared_too = f" and {counted(self._votes, 'vote')}" if self._votes else ""
        output.say("", f"{counted(self._ratings, 'rating')}{compared_too} given.")

    def _show(self, question: Question, pair: tuple[str, str] | None) -> None:
        if pair is None:
            output.say("", *roll(from_text(question.melody)).splitlines())
        else:
            for name, melody in zip("AB", pair, strict=True):
                output.say("", f"{name}:", *roll(from_text(melody)).splitlines())
            if not self._votes:
                output.say(PAIR_HELP)
        if question.again:
            output.say("You have answered this one before; what do you say now?")

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

    def _answered(self, question: Question, pair: tuple[str, str] | None) -> bool:
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
            if pair and key.text in PREFERS:
                self._vote(question, *pair, PREFERS[key.text])
                return True
            output.say(f"{key.text!r}? {PAIR_HELP if pair else HELP}")

    def _rate(self, question: Question, rating: int) -> None:
        try:
            given = questions.answer(
                self._client, self._rater, question.melody, rating, question.root
            )
        except Rejected as error:
            output.say(f"not taken: {error}")
            return
        self._ratings += 1
        output.say(_said(given))

    def _vote(self, question: Question, first: str, second: str, preference: str) -> None:
        try:
            votes.prefer(self._client, self._rater, first, second, preference, question.root)
        except Rejected as error:
            output.say(f"not taken: {error}")
            return
        self._votes += 1
        self._stays = {SECOND: second, NEITHER: ""}.get(preference, first)
        output.say(SAID[preference])

    def _take_back(self) -> None:
        last = votes.recent_answers(self._client, self._rater, 1)
        if not last:
            output.say("there is no answer of yours that could be taken back.")
            return
        try:
            melody, said = self._retracted(last[0])
        except Rejected as error:
            output.say(f"not taken back: {error}")
            return
        output.say(f"{said} is taken back; what do you say now?")
        self._wait_for(melody)

    def _retracted(self, last: Given | Vote) -> tuple[str, str]:
        """Take an answer back; return the melody that is asked about again, and what was said."""
        client, rater = self._client, self._rater
        if isinstance(last, Given):
            questions.answer(client, rater, last.melody, None, last.root)
            self._ratings -= 1
            return last.melody, f"your {last.rating}"
        votes.prefer(client, rater, last.first, last.second, RETRACTED, last.root)
        self._votes -= 1
        self._stays = last.first
        return last.second, f"your vote, {SAID[last.prefer].rstrip('.')},"

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
