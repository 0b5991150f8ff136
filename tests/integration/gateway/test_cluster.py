"""The gateway on a Redis Cluster: it hears by shards, and goes where its slot goes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from roomgrad.names import Names
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import connect
from tests.integration.clusters import ClusterSet
from tests.integration.gateway.gateway_process import GatewayProcess, busy
from tests.waiting import until


@pytest.mark.timeout(120)
def test_clients_go_on_where_the_slot_has_moved_to(tmp_path: Path) -> None:
    """They stay connected and hear each other; who listens in the room of logs hears all rooms."""
    with ClusterSet(tmp_path) as servers, contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(connect(for_run(servers.url, "hall"))))
        gateway = GatewayProcess(servers.url, client, Names("hall"), stack).open()
        ann, bob = (gateway.peer(name, "cave") for name in ("ann", "bob"))
        log = gateway.peer("log", "_logging")
        for peer in (ann, bob, log):
            peer.socket.settimeout(60)
        busy([ann, bob], "cave", 3)
        assert log.receive()["MESSAGE"]["TO_ROOM"] == "cave"
        servers.move("hall")
        until(lambda: gateway.logged("another master") or gateway.logged("lost the server"))
        busy([ann, bob], "cave", 3)
        servers.kill_master("hall")
        servers.wait_elected("hall")
        busy([ann, bob], "cave", 3)
