"""What is told of an outage."""

from __future__ import annotations

import hiredis
import pytest
import redis

from roomgrad.errors import ConnectionLost, NoServer, TLSError
from roomgrad.redis.outage import Outage

CLOSED = [
    ConnectionLost("the server closed the connection"),
    ConnectionRefusedError("refused"),
    TimeoutError("timed out"),
    NoServer("no server answers"),
    redis.ConnectionError("closed"),
    redis.TimeoutError("late"),
]
TO_MEND = [
    TLSError("the certificate has expired"),
    hiredis.ReplyError("WRONGPASS invalid username-password pair"),
    hiredis.ReplyError("LOADING the dataset"),
    redis.AuthenticationError("invalid username-password pair"),
]


def test_connections_that_are_lost_in_many_ways_are_told_once() -> None:
    """Closed, refused, silent: to a reader of the log it is one thing."""
    outage = Outage()
    assert [outage.is_news(each) for each in CLOSED] == [True] + [False] * 5


@pytest.mark.parametrize("error", TO_MEND, ids=str)
def test_what_an_operator_can_mend_is_told_however_the_outage_began(error: Exception) -> None:
    """Once in each outage."""
    outage = Outage()
    assert not outage
    outage.is_news(CLOSED[0])
    assert [outage.is_news(error), outage.is_news(error)] == [True, False]
    assert outage
    outage.end()
    assert not outage
    assert outage.is_news(error)
