"""Which versions of servers are accepted; the tests of `url` use the oldest ones, too."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from roomgrad.errors import ServerError
from roomgrad.redis.server import Version, connect, version
from tests.integration.old_servers import unpacked
from tests.integration.sentinels import Process, _answers, _free_ports
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

VERSIONS = {
    "redis72": Version("redis", (7, 2, 4)),
    "valkey8": Version("valkey", (8, 1, 8)),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_the_oldest_servers_are_what_they_say(name: str, request: pytest.FixtureRequest) -> None:
    with contextlib.closing(connect(request.getfixturevalue(f"{name}_url"))) as client:
        assert version(client) == VERSIONS[name]


def test_a_server_that_is_too_old_is_told_in_a_sentence(tmp_path: Path) -> None:
    """Before anything is written to it."""
    (port,) = _free_ports(1)
    process = Process(port, [str(unpacked("redis62", tmp_path)), f"--port {port}"], tmp_path)
    process.start()
    try:
        until(lambda: _answers(process, "PING"))
        sentence = r"the server is redis 6\.2\.5, expected redis 7\.2 or newer: update it, or name"
        with pytest.raises(ServerError, match=sentence):
            connect(f"redis://127.0.0.1:{port}/0")
        assert process.ask("DBSIZE") == 0
    finally:
        process.kill()
