"""One gateway that tests share, in rooms of their own; and gateways for one test each."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator

import pytest

from roomgrad.names import Names
from roomgrad.redis.server import connect
from tests.integration.conftest import OwnServer
from tests.integration.gateway.gateway_process import GatewayProcess

MakeGateway = Callable[..., GatewayProcess]


def gateways(url: str) -> Iterator[MakeGateway]:
    with contextlib.closing(connect(url)) as client, contextlib.ExitStack() as stack:

        def make(run: str = "", **flags: object) -> GatewayProcess:
            names = Names(run or f"test-{secrets.token_hex(6)}")
            return GatewayProcess(url, client, names, stack).open(**flags)

        yield make


@pytest.fixture(scope="session")
def shared_gateway(embedded_url: str) -> Iterator[GatewayProcess]:
    for make in gateways(embedded_url):
        yield make(system="trebuchet")


@pytest.fixture
def gateway(shared_gateway: GatewayProcess) -> Iterator[GatewayProcess]:
    """Yield the shared gateway, in the rooms of system trebuchet and in free ones."""
    with contextlib.ExitStack() as stack:
        stack, shared_gateway.stack = shared_gateway.stack, stack
        try:
            yield shared_gateway
        finally:
            shared_gateway.stack.close()
            shared_gateway.stack = stack


@pytest.fixture
def make_gateway(embedded_url: str) -> Iterator[MakeGateway]:
    """Yield a function that starts gateways, each for a run of its own."""
    yield from gateways(embedded_url)


@pytest.fixture
def own_gateway(own_server: OwnServer) -> Iterator[MakeGateway]:
    """Yield the same for a server that no other test uses."""
    yield from gateways(own_server.url)


@pytest.fixture
def room() -> str:
    return f"room-{secrets.token_hex(4)}"
