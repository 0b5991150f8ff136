"""A guest beside components that are processes: killed, scaled, and asked ten thousand times."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from roomgrad.messages import Message
from roomgrad.redis.client import Client
from roomgrad.redis.guest_client import GuestClient
from tests.forked import Forked
from tests.integration.conftest import EchoRun
from tests.integration.guests.squares import GRADIENT, SQUARES, C, opened
from tests.integration.guests.test_guest_client import (
    assert_nothing_is_left,
    gradient,
    memories,
    round_trip,
)
from tests.waiting import LIMIT_S, until

pytestmark = pytest.mark.timeout(180)


class Processes:
    """Replicas of both components."""

    def __init__(self, run: EchoRun) -> None:
        self._run = run
        self._running: dict[str, list[Forked]] = {}

    def start(self, name: str, count: int = 1) -> None:
        for _ in range(count):
            process = self._run.spawn_module("tests.integration.guests.squares", name)
            self._running.setdefault(name, []).append(process)

    def kill(self, name: str) -> None:
        """End all replicas of a component, as a power cut does."""
        for process in self._running.pop(name):
            process.kill()

    def alive(self, name: str) -> int:
        pattern = self._run.names.alive(name) + "~*"
        return len(list(self._run.client.scan_iter(pattern, count=1000)))


@pytest.fixture
def processes(echo: EchoRun) -> Processes:
    made = Processes(echo)
    for name in SQUARES.components:
        made.start(name)
    return made


@pytest.fixture
def guest(echo: EchoRun) -> Iterator[GuestClient]:
    with Client(SQUARES, echo.names.run, echo.url) as client, GuestClient(client) as made:
        yield made


def test_components_are_killed_and_scaled_while_it_waits(
    echo: EchoRun, processes: Processes, guest: GuestClient
) -> None:
    """Each answer and each gradient comes once, and each is learned from once."""
    rounds, failures, stop = itertools.count(), [], threading.Event()
    done = 0

    def train() -> None:
        nonlocal done
        try:
            while not stop.is_set():
                number = next(rounds)
                assert round_trip(guest, float(number)).array.tolist() == [4.0 * number**3]
                done += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=train) for _ in range(3)]
    for each in threads:
        each.start()
    for name, count in (("first", 2), ("second", 1), ("first", 1), ("second", 3)):
        before = done
        until(lambda before=before: failures or done > before + 20)
        processes.kill(name)
        processes.start(name, count)
        until(lambda name=name, count=count: failures or processes.alive(name) == count)
    stop.set()
    for each in threads:
        each.join(LIMIT_S)
    assert failures == []
    assert echo.counter("learned", "first") == echo.counter("learned", "second") == next(rounds)
    guest.close()
    assert_nothing_is_left(echo, guest.name)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_thousand_roots_are_open_at_once(
    echo: EchoRun, processes: Processes, guest: GuestClient
) -> None:
    """All of them wait for their gradient when the last one is opened."""
    roots = [opened(float(n)) for n in range(10_000)]
    for root in roots:
        guest.open(root, C, timeout_s=LIMIT_S)
    assert echo.client.hlen(echo.names.guest_roots(guest.name)) == 10_000
    answers: list[Message] = [guest.wait(root.root_id, timeout_s=LIMIT_S) for root in roots]
    assert [each.array[0] for each in answers] == [
        float(n * n) * float(n * n) for n in range(10_000)
    ]
    for answer in answers[:8000]:
        guest.send(gradient(answer, 1.0))
    for number, root in enumerate(roots[:8000]):
        home = guest.wait(root.root_id, GRADIENT, timeout_s=LIMIT_S)
        assert home.array.tolist() == [4.0 * number**3]
    guest.close()
    until(lambda: memories(echo) == 0, timeout_s=2 * LIMIT_S)  # each end looks at all records
    assert_nothing_is_left(echo, guest.name)
