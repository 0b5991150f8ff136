"""One gateway that tests share, each with rooms and names of its own; and gateways of their own."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator

import pytest

from roomgrad.names import Names
from roomgrad.redis.server import connect
from tests.integration.conftest import OwnServer
from tests.integration.gateway.door import Door

MakeDoor = Callable[..., Door]


def doors(url: str) -> Iterator[MakeDoor]:
    with contextlib.closing(connect(url)) as client, contextlib.ExitStack() as stack:

        def make(run: str = "", **flags: object) -> Door:
            names = Names(run or f"test-{secrets.token_hex(6)}")
            return Door(url, client, names, stack).open(**flags)

        yield make


@pytest.fixture(scope="session")
def shared_door(embedded_url: str) -> Iterator[Door]:
    for make in doors(embedded_url):
        yield make(system="trebuchet")


@pytest.fixture
def door(shared_door: Door) -> Iterator[Door]:
    """The shared gateway, in the rooms of system trebuchet and in free ones."""
    with contextlib.ExitStack() as stack:
        stack, shared_door.stack = shared_door.stack, stack
        try:
            yield shared_door
        finally:
            shared_door.stack.close()
            shared_door.stack = stack


@pytest.fixture
def make_door(embedded_url: str) -> Iterator[MakeDoor]:
    """Makes gateways of runs of the test's own."""
    yield from doors(embedded_url)


@pytest.fixture
def own_door(own_server: OwnServer) -> Iterator[MakeDoor]:
    """The same on a server of the test's own."""
    yield from doors(own_server.url)


@pytest.fixture
def room() -> str:
    return f"room-{secrets.token_hex(4)}"
