"""`AsyncClient`: many tasks ask at once, through one guest."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from roomgrad import AsyncClient, Client, Message
from roomgrad.errors import (
    ContractError,
    NoAnswer,
    NoServer,
    Overloaded,
    RoomgradError,
    SchemaError,
    SettingsError,
)
from roomgrad.redis import client as of_client
from roomgrad.runtime import runs
from tests.integration.conftest import EchoRun, OwnServer
from tests.integration.guests.squares import GRADIENT, SQUARES, A, B, C, component, numbers, opened
from tests.waiting import LIMIT_S, until

PROGRAM = """
import asyncio, os, sys
import roomgrad
from tests.integration.guests.squares import SQUARES

async def main(run, url):
    async with roomgrad.AsyncClient(SQUARES, run, url, lease_s=1) as rooms:
        tasks = [asyncio.create_task(rooms.ask("a", [n], answer="c")) for n in range(50)]
        while rooms._waiting or not rooms._asked:
            await asyncio.sleep(0.01)
        print("asked", flush=True)
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def line(echo: EchoRun) -> EchoRun:
    for name in SQUARES.components:
        echo.start(component(name))
    return echo


def rooms_of(run: EchoRun, **options: float) -> AsyncClient:
    return AsyncClient(SQUARES, run.names.run, run.url, **options)  # type: ignore[arg-type]


def lag(run: EchoRun) -> int:
    """Return how many messages wait for components or are with them."""
    found = 0
    for stream in SQUARES.streams:
        key = run.names.stream(*stream.key)
        for group in run.client.xinfo_groups(key) if run.client.exists(key) else ():
            found += group["lag"] + group["pending"]
    return found


def memories(run: EchoRun) -> int:
    return sum(int(run.client.hlen(run.names.memory(name))) for name in SQUARES.components)


def assert_nothing_is_left(run: EchoRun) -> None:
    until(lambda: not run.client.hkeys(run.names.guests()))
    until(lambda: not list(run.client.scan_iter(run.names.guest("*"), count=1000)))
    until(lambda: memories(run) == 0)
    until(lambda: lag(run) == 0)
    assert run.dead_letters() == []


def test_two_hundred_questions_beside_a_program_that_trains(line: EchoRun) -> None:
    """Each gets its own answer; what trains goes on, and nothing of the questions stays."""

    def train() -> int:
        with Client(SQUARES, line.names.run, line.url) as client:
            for number in range(30):
                root = opened(float(number))
                client.guest.open(root, C, timeout_s=LIMIT_S)
                answer = client.guest.wait(root.root_id, timeout_s=LIMIT_S)
                back = answer.reply(C, numbers(1.0), type=GRADIENT, id=answer.id)
                client.guest.send(back)
                client.guest.wait(root.root_id, GRADIENT, timeout_s=LIMIT_S)
        return 30

    async def main() -> list[Message]:
        training = asyncio.create_task(asyncio.to_thread(train))
        async with AsyncClient(run=line.names.run, redis_url=line.url) as rooms:
            asked = (rooms.ask("a", [n, 1.0], timeout_s=LIMIT_S) for n in range(200))
            found = await asyncio.gather(*asked)
        assert await training == 30
        return found

    answers = asyncio.run(main())
    assert [each.array.tolist() for each in answers] == [[n**4, 1.0] for n in range(200)]
    assert line.counter("learned", "first") == 30
    assert_nothing_is_left(line)


def test_two_clients_in_one_loop_ask_in_different_rooms(line: EchoRun) -> None:
    async def main() -> None:
        async with rooms_of(line) as one, rooms_of(line) as other:
            asked = [one.ask(A, numbers(3.0)), other.ask(B, numbers(3.0))]
            asked += [one.ask(A, numbers(3.0), answer=B), other.ask("a", np.float32([2]))]
            found = await asyncio.gather(*asked)
            assert [each.array.tolist() for each in found] == [[81.0], [9.0], [9.0], [16.0]]
            assert len(line.client.hkeys(line.names.guests())) == 2

    asyncio.run(main())
    assert_nothing_is_left(line)


def test_cancelled_questions_are_given_up(echo: EchoRun) -> None:
    """Also before they are sent; the readers skip those of which nothing else waits."""
    runs.create_groups(echo.client, SQUARES, echo.names)

    async def main() -> None:
        async with rooms_of(echo) as rooms:
            task = asyncio.create_task(rooms.ask("a", [1.0], answer="c"))
            while not rooms._guest._open:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while rooms._guest._open or rooms._asked or lag(echo):
                await asyncio.sleep(0.01)
            at_once = asyncio.create_task(rooms.ask("a", [1.0], answer="c"))
            await asyncio.sleep(0)
            at_once.cancel()
            async with asyncio.timeout(LIMIT_S):
                for name in SQUARES.components:
                    await asyncio.to_thread(echo.start, component(name))
                answer = await rooms.ask("a", [2.0], timeout_s=LIMIT_S)
            assert answer.array.tolist() == [16.0]

    asyncio.run(main())
    assert_nothing_is_left(echo)


def test_a_program_that_is_killed_leaves_nothing(echo: EchoRun) -> None:
    """Its questions were asked and not answered."""
    runs.create_groups(echo.client, SQUARES, echo.names)
    words = [sys.executable, "-c", PROGRAM, echo.names.run, echo.url]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        process.kill()
    for name in SQUARES.components:
        echo.start(component(name))
    assert_nothing_is_left(echo)


def test_the_server_starts_again_while_questions_wait(
    own_echo: EchoRun, own_server: OwnServer
) -> None:
    runs.create_groups(own_echo.client, SQUARES, own_echo.names)

    async def main() -> None:
        async with rooms_of(own_echo) as rooms:
            asked = [rooms.ask("a", [n], answer="c", timeout_s=LIMIT_S) for n in range(5)]
            tasks = [asyncio.create_task(each) for each in asked]
            while [bool(each.entry) for each in rooms._asked.values()] != [True] * 5:
                await asyncio.sleep(0.01)
            own_echo.client.waitaof(1, 0, 30_000)
            own_server.kill()
            await asyncio.to_thread(own_server.restart)
            for name in SQUARES.components:
                await asyncio.to_thread(own_echo.start, component(name))
            found = await asyncio.gather(*tasks)
            assert [each.array.tolist() for each in found] == [[n**4] for n in range(5)]

    asyncio.run(main())


def test_more_than_may_be_open_wait_for_their_turn(
    line: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the readers of a room may have few."""
    monkeypatch.setattr("roomgrad.redis.guest_client.MOST_ROOTS", 7)
    monkeypatch.setattr(of_client, "BACKLOG_LIMIT", 5)
    most = 0

    async def main() -> list[Message]:
        nonlocal most
        async with rooms_of(line) as rooms:
            prepare = rooms._guest.open_some

            def watched(openings: list) -> list[str]:  # type: ignore[type-arg]
                nonlocal most
                entries = prepare(openings)
                most = max(most, len(rooms._guest._open))
                return entries

            rooms._guest.open_some = watched  # type: ignore[method-assign,assignment]
            asked = (rooms.ask("a", [n], timeout_s=LIMIT_S) for n in range(60))
            return await asyncio.gather(*asked)

    found = asyncio.run(main())
    assert [each.array.tolist() for each in found] == [[n**4] for n in range(60)]
    assert 0 < most <= 7


def test_readers_that_take_no_question(echo: EchoRun, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.create_groups(echo.client, SQUARES, echo.names)
    monkeypatch.setattr(of_client, "BACKLOG_LIMIT", 2)

    async def main() -> list[Message | BaseException]:
        async with rooms_of(echo) as rooms:
            asked = (rooms.ask("a", [n], answer="c", timeout_s=0.5) for n in range(3))
            return await asyncio.gather(*asked, return_exceptions=True)

    *_, last = asyncio.run(main())
    assert isinstance(last, Overloaded | NoAnswer)


def test_an_answer_that_does_not_come_says_why(echo: EchoRun) -> None:
    for name in SQUARES.components:
        echo.start(component(name), max_deliveries=1)

    async def main() -> None:
        async with rooms_of(echo) as rooms:
            good, bad = await asyncio.gather(
                rooms.ask("a", [1.0], timeout_s=LIMIT_S),
                rooms.ask("a", [-1.0], timeout_s=LIMIT_S),
                return_exceptions=True,
            )
            assert isinstance(good, Message)
            assert isinstance(bad, NoAnswer)
            assert "first gave up a message: ValueError: negative numbers" in str(bad)

    asyncio.run(main())


def test_an_answer_that_is_late_says_where_the_question_is(echo: EchoRun) -> None:
    runs.create_groups(echo.client, SQUARES, echo.names)

    async def main() -> None:
        async with rooms_of(echo) as rooms:
            with pytest.raises(NoAnswer, match=r"no answer in room c .* within 0.2 s: .*first"):
                await rooms.ask("a", [1.0], answer="c", timeout_s=0.2)
            with pytest.raises(TimeoutError):  # the user's own limit
                await asyncio.wait_for(rooms.ask("a", [1.0], answer="c"), 0.1)
            while rooms._asked:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert lag(echo) == 0


async def asked(run: EchoRun, room: str, data: object, **options: str) -> Message:
    async with rooms_of(run) as rooms:
        return await rooms.ask(room, data, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("room", "data", "error", "says"),
    [
        ("x", [1.0], ContractError, "x"),
        ("a", [[1.0]], SchemaError, r"expected shape \(batch,\), got \(1, 1\)"),
        ("a", ["one"], SchemaError, "room a takes <f8"),
        ("a", np.array([True]), SchemaError, "room a takes <f8, got bool"),
        ("c", [1.0], ContractError, "in which room does the answer to c come.*name it by answer="),
    ],
)
def test_bad_questions(
    line: EchoRun, room: str, data: object, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        asyncio.run(asked(line, room, data))
    assert_nothing_is_left(line)


def test_a_client_that_is_not_open(line: EchoRun) -> None:
    async def kept() -> AsyncClient:
        client = rooms_of(line)
        with pytest.raises(RoomgradError, match="is not open: ask within `async with"):
            await client.ask("a", [1.0])
        await client.aclose()
        async with client as rooms:
            waiting = asyncio.create_task(rooms.ask("a", [1.0], answer="a"))
            while not rooms._asked:
                await asyncio.sleep(0.01)
        with pytest.raises(RoomgradError, match="was closed"):
            await waiting
        with pytest.raises(RoomgradError, match="is not open"):
            await client.ask("a", [1.0])
        return client

    asyncio.run(kept())
    with pytest.raises(SettingsError, match="expected the name of a run"):
        AsyncClient()


def test_a_client_of_another_loop(line: EchoRun) -> None:
    async def open_() -> AsyncClient:
        return await rooms_of(line).__aenter__()

    def in_new_loop(call: Callable[[], object]) -> None:
        with asyncio.Runner() as runner:
            runner.run(call())  # type: ignore[arg-type]

    client = asyncio.run(open_())
    with pytest.raises(RoomgradError, match="was opened in another event loop"):
        in_new_loop(lambda: client.ask("a", [1.0]))
    in_new_loop(client.aclose)
    assert_nothing_is_left(line)


def test_a_loop_that_ends_ends_the_client(line: EchoRun) -> None:
    """Though the program never closes it."""

    async def open_() -> AsyncClient:
        rooms = await rooms_of(line).__aenter__()
        assert (await rooms.ask("a", [1.0], timeout_s=LIMIT_S)).array.tolist() == [1.0]
        return rooms

    client = asyncio.run(open_())
    client._in_loop(print)  # as a thread does with an answer that comes now
    assert_nothing_is_left(line)


def test_a_server_that_is_not_there() -> None:
    async def main() -> None:
        rooms = AsyncClient(SQUARES, "r", "redis://127.0.0.1:1/0")
        with pytest.raises(NoServer, match="no server answers at"):
            await rooms.__aenter__()
        await rooms.aclose()

    asyncio.run(main())
