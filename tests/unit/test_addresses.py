"""What an address says, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from roomgrad.errors import NoServer, ServerError
from roomgrad.names import Names
from roomgrad.redis.addresses import (
    for_run,
    options_of,
    publish_command,
    redis_cli,
    resolve,
    resolver_of,
    without_password,
)
from roomgrad.redis.cluster import SLOTS, Cluster, slot_of
from roomgrad.redis.sentinels import Sentinels

CLUSTER = "redis+cluster://me:s%40cret@one:7000,two,[::1]:7"
SENTINELS = "redis+sentinel://me:s%40cret@one:26380,two,[::1]:7/rooms/3"


def test_an_address_of_sentinels_says_who_is_asked_and_for_what() -> None:
    """Hosts with and without ports, the master's name, and what the server behind wants."""
    found = resolver_of(SENTINELS)
    assert isinstance(found, Sentinels)
    assert found.name == "rooms"
    assert found.addresses == [("one", 26380), ("two", 26379), ("::1", 7)]
    assert options_of(SENTINELS) == {"username": "me", "password": "s@cret", "db": 3}


def test_the_master_of_an_address_keeps_user_and_database() -> None:
    """For what knows no Sentinel."""
    assert resolve(SENTINELS, ("10.0.0.1", 6379)) == "redis://me:s%40cret@10.0.0.1:6379/3"
    assert resolve(SENTINELS, ("fe80::1", 6379)) == "redis://me:s%40cret@[fe80::1]:6379/3"
    secure = "rediss+sentinel://one/rooms?ssl_ca_certs=ca.pem"
    assert resolve(secure, ("a", 1)) == "rediss://a:1/0?ssl_ca_certs=ca.pem"
    assert resolve("redis://a:1/2") == "redis://a:1/2"


def test_an_address_is_shown_without_its_password() -> None:
    """Also where it names several hosts."""
    assert without_password(SENTINELS) == "redis+sentinel://me:***@one:26380,two,[::1]:7/rooms/3"


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
        "redis+cluster://",
        "redis+cluster://one:port",
        "redis+cluster://one,,two",
        "redis+cluster://one:7000/1",
        "redis+cluster://one:7000/rooms",
        "localhost:6379",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    """In one sentence, with the value."""
    with pytest.raises(ServerError, match=r"is not a server address: .*redis\+sentinel://"):
        options_of(url)


def test_an_address_of_a_cluster_says_which_nodes_are_asked_for_which_run() -> None:
    """Hosts with and without ports, what nodes want, and the run that is looked for."""
    found = resolver_of(for_run(CLUSTER, "a run/2"))
    assert isinstance(found, Cluster)
    assert found.name == "a run/2"
    assert found.addresses == [("one", 7000), ("two", 6379), ("::1", 7)]
    assert options_of(CLUSTER) == {"username": "me", "password": "s@cret"}
    assert options_of(CLUSTER + "/0") == options_of(CLUSTER)


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_run_binds_the_address_of_a_cluster_and_no_other(run: str, other: str) -> None:
    """Whatever the run is called; the last one counts."""
    bound = for_run(for_run(CLUSTER, other), run)
    found = resolver_of(bound)
    assert isinstance(found, Cluster)
    assert found.name == run
    assert for_run(bound, "") == CLUSTER
    assert for_run(SENTINELS, run) == SENTINELS
    assert for_run("redis://a:1/2", run) == "redis://a:1/2"


@given(st.text(min_size=1, max_size=30))
def test_all_keys_of_a_run_are_in_its_slot(run: str) -> None:
    """Also where its name holds braces, which would be a hash tag of their own."""
    names = Names(run)
    keys = [names.run_info(), names.stream("input", "DATA/FORWARD"), names.memory("trainer")]
    assert {slot_of(run)} == {key_slot(key.encode()) for key in keys}
    assert 0 <= slot_of(run) < SLOTS


def test_a_node_of_a_cluster_has_an_address_without_a_run() -> None:
    """For what knows no cluster; people see no run in it, and no password."""
    bound = for_run(CLUSTER, "night")
    assert resolve(bound, ("10.0.0.1", 7000)) == "redis://me:s%40cret@10.0.0.1:7000/0"
    assert without_password(bound) == "redis+cluster://me:***@one:7000,two,[::1]:7"
    assert (publish_command(bound), publish_command(SENTINELS)) == (b"SPUBLISH", b"PUBLISH")


def test_no_node_answers() -> None:
    """A sentence with those that were asked; redis-cli is shown the nodes then."""
    url = "redis+cluster://127.0.0.1:1,127.0.0.1:2"
    with pytest.raises(NoServer, match=r"no node .* answers; .*127\.0\.0\.1:1 .*127\.0\.0\.1:2"):
        resolve(for_run(url, "night"))
    assert redis_cli(url, "night") == f"redis-cli -c -u {url}"
