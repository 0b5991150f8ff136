"""What an address says, without a server."""

from __future__ import annotations

import pytest

from roomgrad.addresses import located, options_of, sentinels_of, shown
from roomgrad.errors import ServerError

SENTINELS = "redis+sentinel://me:s%40cret@one:26380,two,[::1]:7/rooms/3"


def test_an_address_of_sentinels_says_who_is_asked_and_for_what() -> None:
    """Hosts with and without ports, the master's name, and what the server behind wants."""
    found = sentinels_of(SENTINELS)
    assert found is not None
    assert found.name == "rooms"
    assert found.places == [("one", 26380), ("two", 26379), ("::1", 7)]
    assert options_of(SENTINELS) == {"username": "me", "password": "s@cret", "db": 3}


def test_the_master_of_an_address_keeps_user_and_database() -> None:
    """For what knows no Sentinel."""
    assert located(SENTINELS, ("10.0.0.1", 6379)) == "redis://me:s%40cret@10.0.0.1:6379/3"
    assert located(SENTINELS, ("fe80::1", 6379)) == "redis://me:s%40cret@[fe80::1]:6379/3"
    secure = "rediss+sentinel://one/rooms?ssl_ca_certs=ca.pem"
    assert located(secure, ("a", 1)) == "rediss://a:1/0?ssl_ca_certs=ca.pem"
    assert located("redis://a:1/2") == "redis://a:1/2"


def test_an_address_is_shown_without_its_password() -> None:
    """Also where it names several hosts."""
    assert shown(SENTINELS) == "redis+sentinel://me:***@one:26380,two,[::1]:7/rooms/3"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one:26379",
        "redis+sentinel://one:26379/",
        "redis+sentinel:///rooms",
        "redis+sentinel://one:port/rooms",
        "redis+sentinel://one,,two/rooms",
        "redis+sentinel://one/rooms/first",
        "sentinel://one/rooms",
        "localhost:6379",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    """In one sentence, with the value."""
    with pytest.raises(ServerError, match=r"is no address of a server: .*redis\+sentinel://"):
        options_of(url)
