"""A follower of a room misses neither the first message of a TYPE nor what follows an outage."""

from __future__ import annotations

import pytest

from roomgrad.inspect.follow import follow
from tests.integration.conftest import EchoRun, OwnServer
from tests.integration.echo import REQUESTS
from tests.waiting import until


def test_a_type_that_appears_later_is_followed_from_its_first_message(echo: EchoRun) -> None:
    found = follow(echo.client, echo.names, REQUESTS.room.name, warn=pytest.fail)
    assert next(found) is None
    message = echo.send(1)
    assert until(lambda: next(found)).body()["ID"] == message.id


def test_an_emptied_server_is_followed_from_its_beginning(
    own_echo: EchoRun, own_server: OwnServer
) -> None:
    """Its entries may have lower IDs than those before: its clock counts anew."""
    echo, said = own_echo, []
    echo.client.xadd(echo.names.stream(*REQUESTS.key), {"m": "{}"}, id="99999999999999-0")
    found = follow(echo.client, echo.names, REQUESTS.room.name, warn=said.append)
    assert next(found) is None
    own_server.kill()
    assert next(found) is None
    own_server.restart()
    echo.client.flushall()
    message = echo.send(1)
    assert until(lambda: next(found)).body()["ID"] == message.id
    assert len(said) == 2
