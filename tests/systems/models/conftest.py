"""A server for the tests of a file, and runs on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from roomgrad.runtime.model import log
from roomgrad.testing import throwaway_server
from tests.systems.models.rooms import Rooms


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with throwaway_server() as server:
        yield server.url


@pytest.fixture
def rooms(url: str) -> Iterator[Callable[..., Rooms]]:
    """Yield a function that makes a run for the case of a name."""
    with contextlib.ExitStack() as stack:

        def make(name: str, records: str = log.GRADIENT) -> Rooms:
            return stack.enter_context(contextlib.closing(Rooms(name, url, records)))

        yield make
