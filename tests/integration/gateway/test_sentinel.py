"""The gateway behind sentinels: it finds the next master, and its clients need not know."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from roomgrad.names import Names
from roomgrad.redis.server import connect
from tests.integration.gateway.gateway_process import GatewayProcess, busy
from tests.integration.sentinels import SentinelSet
from tests.waiting import until


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[SentinelSet]:
    with SentinelSet(tmp_path) as found:
        yield found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("upset", ["kill_master", "freeze_master", "failover"])
def test_clients_go_on_at_the_next_master(servers: SentinelSet, upset: str) -> None:
    """They stay connected, hear each other, and what waits for one who is away waits there."""
    with contextlib.closing(connect(servers.url)) as client, contextlib.ExitStack() as stack:
        gateway = GatewayProcess(servers.url, client, Names("hall"), stack).open()
        ann, bob, cat = (gateway.peer(name, "cave") for name in ("ann", "bob", "cat"))
        for peer in (ann, bob, cat):
            peer.socket.settimeout(60)
        busy([ann, bob], "cave", 3)
        cat.close()
        gateway.left("cat")
        servers.wait_replicas(2)
        old = getattr(servers, upset)()
        servers.wait_elected()
        until(lambda: gateway.logged("another master") or gateway.logged("lost the server"))
        busy([ann, bob], "cave", 3)
        cat = gateway.peer("cat", "cave")
        assert len(cat.data(12)) == 12
        if upset == "freeze_master":
            servers.thaw(old)
            busy([ann, bob], "cave", 3)
