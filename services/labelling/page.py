"""The page's endpoints: JSON in and out; every refusal gives its reason in a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from roomgrad import Message
from roomgrad.errors import Rejected, format_value
from roomgrad.redis.client import Client
from roomgrad.web import serving
from roomgrad.web.changes import Changes
from roomgrad.web.guard import refuse
from roomgrad.web.store import Store
from roomgrad_melody import questions, votes
from roomgrad_melody.contract import ASK, COMMAND, CONTROL, START, STOP
from roomgrad_melody.genome import from_text
from roomgrad_melody.midi import to_midi
from roomgrad_melody.panel import Panel
from roomgrad_melody.snapshot import notes_of
from roomgrad_melody.sound import to_wav

from .settings import LabellingSettings

STATIC = Path(__file__).parent / "static"
MAX_BYTES = 16 * 1024  # of a request
MOST_QUESTIONS = 2
MOST_NAMED = 100  # melodies that a request may name
MOST_PLAYS = 10_000
MOST_LISTENED_MS = 24 * 3600 * 1000

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Page:
    """The endpoints and what they need."""

    settings: LabellingSettings
    store: Store[Client]
    changes: Changes
    snapshot: Callable[[], bytes]
    """Reads the run and returns all that the page shows, as JSON."""

    trouble: Callable[[], str]
    """Returns why the page does not work; an empty text if it does."""

    def app(self) -> Starlette:
        """Return the application, without its guard."""
        routes = [
            Route("/healthz", self.health),
            Route("/api/state", self.show_state),
            Route("/api/changes", self.show_changes),
            Route("/api/questions", self.take_questions, methods=["POST"]),
            Route("/api/answers", self.show_answers),
            Route("/api/answers", self.take_answer, methods=["POST"]),
            Route("/api/preferences", self.take_preference, methods=["POST"]),
            Route("/api/breeding", self.breed, methods=["POST"]),
            Route("/api/melodies/{name}", self.melody),
            *serving.files(STATIC),
            Mount("/panels/melody", StaticFiles(directory=Panel.static)),
        ]
        return Starlette(routes=routes, exception_handlers=serving.EXCEPTION_HANDLERS)

    async def health(self, _request: Request) -> Response:
        """Return 200 if the page and its connection to Redis work, 503 with the reason if not."""
        reason = self.trouble()
        return refuse(503, reason) if reason else JSONResponse({"well": True})

    async def show_state(self, _request: Request) -> Response:
        """Return all that the page shows."""
        snapshot = await self.store.ask(lambda _client: self.snapshot())
        return Response(snapshot, media_type="application/json")

    async def show_changes(self, request: Request) -> Response:
        """Return all that the page shows if it has changed since the response that is named."""
        news = self.changes.since(request.query_params.get("since", ""))
        return Response(news, media_type="application/json")

    async def take_questions(self, request: Request) -> Response:
        """Lease questions to a rater; with `count` 0, release all that the rater holds."""
        body = await _body(request, ("rater", "count"), ("skipped", "without"))
        rater = questions.checked_name(body["rater"])
        count = _number(body, "count", MOST_QUESTIONS)
        skipped, without = _melodies(body, "skipped"), _melodies(body, "without")
        lease_s = self.settings.question_lease_s

        def work(client: Client) -> list[questions.Question]:
            if not count:
                questions.release(client, rater)
                return []
            return questions.lease(client, rater, count, lease_s, skipped=skipped, without=without)

        found = await self.store.ask(work)
        return JSONResponse({"questions": [self._question(each) for each in found]})

    def _question(self, question: questions.Question) -> Body:
        """Return a question with what is shown of it: one melody, or two to compare."""
        pair = [melody for melody in votes.pair_of(question) if melody]
        shown = [{"melody": melody, "notes": self._notes(melody)} for melody in pair]
        return {**vars(question), "notes": self._notes(question.melody), "shown": shown}

    def _notes(self, melody: str) -> list[list[int]]:
        return notes_of(melody, self.settings.sound)

    async def take_answer(self, request: Request) -> Response:
        """Store a rating; respond when it is on the server's disk, with the model's guess."""
        body = await _body(request, ("rater", "melody", "root", "rating", "id"), ("plays",))
        rater = questions.checked_name(body["rater"])
        melody = questions.checked_melody(body["melody"])
        rating = questions.checked_rating(body["rating"])
        root = _text(body, "root", r".{1,128}")
        id = _text(body, "id", r"[0-9a-f]{32}")
        plays = _number(body, "plays", MOST_PLAYS) if "plays" in body else 0
        given = await self.store.ask(
            lambda client: questions.answer(client, rater, melody, rating, root, id, plays)
        )
        return JSONResponse(self._given(given))

    async def take_preference(self, request: Request) -> Response:
        """Store which of two melodies is better; respond when it is on the server's disk."""
        names = ("rater", "first", "second", "prefer", "root", "id")
        body = await _body(request, names, ("listened",))
        rater = questions.checked_name(body["rater"])
        first = questions.checked_melody(body["first"])
        second = questions.checked_melody(body["second"])
        preference = votes.checked_preference(body["prefer"])
        root = _text(body, "root", r".{1,128}")
        id = _text(body, "id", r"[0-9a-f]{32}")
        listened = _listened(body)
        vote = await self.store.ask(
            lambda client: votes.prefer(
                client, rater, first, second, preference, root, id, listened
            )
        )
        return JSONResponse(self._given(vote))

    async def show_answers(self, request: Request) -> Response:
        """Return the last answers of a rater: ratings and votes."""
        rater = questions.checked_name(request.query_params.get("rater"))
        found = await self.store.ask(lambda client: votes.recent_answers(client, rater))
        return JSONResponse({"answers": [self._given(given) for given in found]})

    def _given(self, given: questions.Given | votes.Vote) -> Body:
        if isinstance(given, votes.Vote):
            return {**vars(given), "notes": [self._notes(given.first), self._notes(given.second)]}
        return {**vars(given), "notes": self._notes(given.melody)}

    async def breed(self, request: Request) -> Response:
        """Start or stop breeding, or request more questions."""
        body = await _body(request, ("command",), ())
        word = body["command"]
        if word not in (START, STOP, ASK):
            raise Rejected(f"the command is {START}, {STOP} or {ASK}, got {format_value(word)}")
        message = Message.open(CONTROL, type=COMMAND, CMD=word)
        await self.store.ask(lambda client: client.send(message))
        return JSONResponse({"sent": word})

    async def melody(self, request: Request) -> Response:
        """Return a melody as a file; its name is the 128 characters of the melody, .mid or .wav."""
        melody, _, kind = request.path_params["name"].partition(".")
        genome = from_text(questions.checked_melody(melody))
        settings = self.settings
        sound = (settings.bpm, settings.root, settings.scale)
        if kind == "mid":
            data, type_ = to_midi(genome, *sound), "audio/midi"
        elif kind == "wav":
            data, type_ = to_wav(genome, *sound), "audio/wav"
        else:
            raise Rejected(f"a melody comes as .mid or .wav, not as {kind[:60]!r}")
        name = f"melody-{int(melody[::-1], 2):032x}.{kind}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(data, media_type=type_, headers=headers)


# request bodies


async def _body(request: Request, required: tuple[str, ...], optional: tuple[str, ...]) -> Body:
    """Return the JSON object of a request. Raises Rejected for anything else."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise Rejected("expected a JSON object, of content type application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BYTES:
            raise HTTPException(413, f"a request may have {MAX_BYTES} bytes at most")
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Rejected(f"this is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Rejected(f"expected a JSON object, got {type(body).__name__}")
    for name in required:
        if name not in body:
            raise Rejected(f"{name} is missing; needed are {', '.join(required)}")
    for name in body:
        if name not in required + optional:
            raise Rejected(f"{name[:60]!r} is unknown; known are {', '.join(required + optional)}")
    return body


def _number(body: Body, name: str, most: int) -> int:
    value = body[name]
    if type(value) is not int or not 0 <= value <= most:
        raise Rejected(f"{name} is a whole number from 0 to {most}, got {format_value(value)}")
    return value


def _text(body: Body, name: str, pattern: str) -> str:
    value = body[name]
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise Rejected(f"{name} is a text like {pattern}, got {format_value(value)}")
    return value


def _listened(body: Body) -> tuple[int, int]:
    """Return the milliseconds for which each melody of a vote was heard."""
    value = body.get("listened", [0, 0])
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(type(each) is int and 0 <= each <= MOST_LISTENED_MS for each in value)
    ):
        raise Rejected(
            f"listened is a list of 2 whole numbers from 0 to {MOST_LISTENED_MS}, the milliseconds "
            f"that each melody was heard, got {format_value(value)}"
        )
    return value[0], value[1]


def _melodies(body: Body, name: str) -> list[str]:
    value = body.get(name, [])
    if not isinstance(value, list) or len(value) > MOST_NAMED:
        raise Rejected(f"{name} is a list of at most {MOST_NAMED} melodies")
    return [questions.checked_melody(each) for each in value]
