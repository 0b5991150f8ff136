"""Ask a run many questions at once, from asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import redis
from numpy.typing import ArrayLike

from roomgrad import variables
from roomgrad.errors import NoAnswer, Overloaded, RoomgradError, ServerError, SettingsError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.redis import questions
from roomgrad.redis.addresses import for_run
from roomgrad.redis.client import Client
from roomgrad.redis.guest_client import AT_ONCE, LAG_S, LEASE_S, TURN_S, GuestClient
from roomgrad.redis.guest_messages import Opening
from roomgrad.redis.server import address, connect
from roomgrad.redis.server_address import AnyAddress
from roomgrad.rooms import MessageType, ModelStatus, Room, System

FORWARD = MessageType.FORWARD
MOST_BYTES = 16 * 1024 * 1024  # of the arrays that one commit sends


@dataclass(eq=False)
class Question:
    """A question that waits for its answer."""

    opening: Opening
    timeout_s: float
    future: asyncio.Future[Message]
    limit: asyncio.Timeout
    entry: str = ""
    is_sent: bool = False
    asked: float = field(default_factory=time.monotonic)

    @property
    def root_id(self) -> str:
        return self.opening.message.root_id


class AsyncClient:
    """Asks a run questions from asyncio, as one guest; use it as an asynchronous context manager.

    Any number of tasks may ask at once: what they ask is sent in common commits by one thread, and
    a second one reads the answers.

        async with roomgrad.AsyncClient(run="trebuchet") as rooms:
            answers = await asyncio.gather(*(rooms.ask("input", x) for x in batches))
    """

    def __init__(
        self,
        system: System | str = "",
        run: str = "",
        redis_url: AnyAddress = "",
        password_file: str = "",
        name: str = "client",
        lease_s: float = LEASE_S,
    ) -> None:
        """Name the run; nothing is sent before `async with`.

        system: a contract, or the name of a system; that of the run if empty.
        run: the name of the run; that of the system if empty.
        redis_url: as `REDIS_URL`, which counts if it is empty.
        lease_s: how long the run waits for a program that does not respond.

        Raises SettingsError if neither a system nor a run is named.
        """
        if not (system or run):
            raise SettingsError("AsyncClient: expected the name of a run, like run='trebuchet'")
        self._run = run or (system if isinstance(system, str) else system.name)
        self._system, self._redis_url = system, redis_url
        self._password_file = password_file or variables.get("redis_password_file")
        self._name, self._lease_s = name, lease_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answer_rooms: dict[str, str] = {}
        self._changed = threading.Condition()
        self._waiting: deque[Question] = deque()  # to be sent
        self._given_up: deque[Question] = deque()
        self._asked: dict[str, Question] = {}  # sent, by ROOT_ID
        self._closed = False
        self._threads: list[threading.Thread] = []

    async def __aenter__(self) -> AsyncClient:
        await asyncio.to_thread(self._join)
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave the run. What still waits for an answer raises ServerError."""
        if self._loop is None or self._closed:
            return
        self._end()
        open_ = [*self._waiting, *self._asked.values()]
        self._fail(open_, ServerError(f"the client of run {self._run!r} was closed"))
        await asyncio.to_thread(self._leave)

    async def ask(
        self,
        room: Room | str,
        data: ArrayLike,
        *,
        answer: Room | str = "",
        timeout_s: float = 10.0,
        fields: Mapping[str, Any] | None = None,
    ) -> Message:
        """Send a forward message into a room, and return the message that comes of it.

        Components answer in eval mode. While too much is open, or readers lag, the question waits.

        data: what becomes an array of the contract's dtype.
        answer: the room from which the answer comes; the last one on the way if empty.
        timeout_s: how long to wait for the answer after the question was sent, and for readers
            that take no question.
        fields: further arrays and texts of the message, by name.

        Raises SchemaError and ContractError, NoAnswer with the reason if none came in time, and
        Overloaded.
        """
        loop = self._require_open()
        array = questions.as_array(self._client.system.stream(room, FORWARD), "DATA", data)
        message = Message.open(room, array, status=ModelStatus.VALIDATE, **(fields or {}))
        leave = str(answer) or await self._answer_room(str(room))
        opening = self._guest.prepare(message, leave, FORWARD)
        limit = asyncio.timeout(None)
        question = Question(opening, timeout_s, loop.create_future(), limit)
        try:
            async with limit:
                self._put(self._waiting, question)
                return await question.future
        except TimeoutError:
            if not limit.expired():
                raise
            raise await asyncio.to_thread(self._no_answer, question) from None
        except asyncio.CancelledError:
            if question.is_sent:
                self._put(self._given_up, question)
            raise

    def _require_open(self) -> asyncio.AbstractEventLoop:
        """Return the loop. Raises RoomgradError if this client is not open in it."""
        if self._loop is None or self._closed:
            raise RoomgradError(
                f"the client of run {self._run!r} is not open: ask within "
                f"`async with roomgrad.AsyncClient(...) as rooms:`"
            )
        if asyncio.get_running_loop() is not self._loop:
            raise RoomgradError(
                f"the client of run {self._run!r} was opened in another event loop: open one in "
                f"each loop"
            )
        return self._loop

    async def _answer_room(self, room: str) -> str:
        if room not in self._answer_rooms:
            client = self._client
            self._answer_rooms[room] = await asyncio.to_thread(
                questions.answer_room, client.redis, client.names, client.system, room
            )
        return self._answer_rooms[room]

    def _put(self, queue: deque[Question], question: Question) -> None:
        with self._changed:
            queue.append(question)
            self._changed.notify_all()

    # in the loop, called from the threads

    def _sent(self, some: Sequence[Question]) -> None:
        """Begin the time in which the answers are due."""
        for each in some:
            each.is_sent = True
            if each.future.done():
                self._put(self._given_up, each)
            else:
                each.limit.reschedule(asyncio.get_running_loop().time() + each.timeout_s)

    def _answered(self, found: Sequence[tuple[Question, Message | NoAnswer]]) -> None:
        for question, answer in found:
            if isinstance(answer, NoAnswer):
                self._fail([question], answer)
            elif not question.future.done():
                question.future.set_result(answer)

    def _fail(self, some: Sequence[Question], error: BaseException) -> None:
        for each in some:
            if not each.future.done():
                each.future.set_exception(error)

    def _in_loop(self, call: Any, *arguments: Any) -> None:
        """Call a method in the loop; a loop that was closed closes this client."""
        try:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            self._end()
            threading.Thread(target=self._leave, daemon=True).start()

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # in threads: the connection

    def _join(self) -> None:
        url = for_run(address(self._redis_url), self._run)
        with connect(url, self._password_file) as client:
            system = questions.contract(client, Names(self._run), self._system or self._run)
        self._client = Client(system, self._run, url, self._password_file, self._name)
        try:
            self._guest = GuestClient(self._client, lease_s=self._lease_s)
        except BaseException:
            self._client.close()
            raise
        self._threads = [
            threading.Thread(target=each, name=f"rooms of {self._run}", daemon=True)
            for each in (self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()

    def _leave(self) -> None:
        for thread in self._threads:
            thread.join()
        self._guest.close()
        self._client.close()

    def _send(self) -> None:
        """Send what was asked, as many questions at once as there are."""
        lagging_since = None
        while some := self._next():
            try:
                entries = self._guest.open_some([each.opening for each in some])
            except Overloaded as error:
                lagging_since = lagging_since or time.monotonic()
                self._give_back(some, lagging_since, error)
                time.sleep(LAG_S)
                continue
            except (redis.RedisError, RoomgradError) as error:
                self._forget(some)
                self._in_loop(self._fail, some, error)
                continue
            lagging_since = None
            sent, rest = some[: len(entries)], some[len(entries) :]
            for each, entry in zip(sent, entries, strict=True):
                each.entry = entry
            self._forget(rest)
            with self._changed:
                self._waiting.extendleft(reversed(rest))
            self._in_loop(self._sent, sent)

    def _next(self) -> list[Question]:
        """Return questions for one commit when there are some; none after the end."""
        while True:
            with self._changed:
                while not (self._closed or self._given_up or self._fits()):
                    self._changed.wait()
                if self._closed:
                    return []
                some = self._taken()
                self._asked.update({each.root_id: each for each in some})
                self._changed.notify_all()
            self._withdraw()
            if some:
                return some

    def _fits(self) -> bool:
        return bool(self._waiting) and self._guest.has_room(self._waiting[0].opening)

    def _taken(self) -> list[Question]:
        some: list[Question] = []
        size = 0
        while self._waiting and len(some) < AT_ONCE and size < MOST_BYTES:
            if not self._guest.has_room(self._waiting[0].opening, *(q.opening for q in some)):
                break
            question = self._waiting.popleft()
            if not question.future.done():  # else it was cancelled
                size += question.opening.root.size
                some.append(question)
        return some

    def _give_back(self, some: list[Question], since: float, error: Overloaded) -> None:
        """Keep questions that the readers do not take yet, and fail those that wait too long."""
        now = time.monotonic()
        self._forget(some)
        late = [each for each in some if now - max(since, each.asked) > each.timeout_s]
        with self._changed:
            self._waiting.extendleft(reversed([each for each in some if each not in late]))
        if late:
            self._in_loop(self._fail, late, error)

    def _forget(self, some: Sequence[Question]) -> None:
        for each in some:
            self._asked.pop(each.root_id, None)

    def _withdraw(self) -> None:
        """Give up what was cancelled, and let its readers skip it if nothing else waits."""
        while self._given_up:
            question = self._given_up.popleft()
            if self._asked.pop(question.root_id, None) is not None:
                self._guest.give_up([question.root_id])
                self._client.withdraw(question.opening.sending.stream, question.entry)

    def _no_answer(self, question: Question) -> NoAnswer:
        """Return why no answer came in time, and withdraw the question."""
        self._asked.pop(question.root_id, None)
        error = self._guest.no_answer(question.root_id, FORWARD, question.timeout_s)
        self._client.withdraw(question.opening.sending.stream, question.entry)
        return error

    def _receive(self) -> None:
        """Read answers while some are awaited."""
        while self._awaits():
            try:
                came = self._guest.receive(TURN_S)
            except (redis.RedisError, RoomgradError) as error:
                self._in_loop(self._fail, list(self._asked.values()), error)
                self._asked.clear()
                continue
            pairs = ((self._asked.pop(root_id, None), answer) for root_id, answer in came)
            found = [(question, answer) for question, answer in pairs if question is not None]
            if found:
                with self._changed:
                    self._changed.notify_all()  # there is room for others
                self._in_loop(self._answered, found)

    def _awaits(self) -> bool:
        """Wait until there is something to receive; return False after the end."""
        with self._changed:
            while not (self._closed or self._asked):
                self._changed.wait()
            return not self._closed
