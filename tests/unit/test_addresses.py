"""What an address says, without a server."""

from __future__ import annotations

import re
import traceback
from urllib.parse import quote

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from roomgrad.errors import NoServer, ServerError
from roomgrad.names import Names
from roomgrad.redis.addresses import (
    for_run,
    publish_command,
    redis_cli,
    resolve,
    resolver_of,
)
from roomgrad.redis.cluster import SLOTS, Cluster, slot_of
from roomgrad.redis.sentinels import Sentinels
from roomgrad.redis.server_address import ServerAddress, parse

CLUSTER = "redis+cluster://me:s%40cret@one:7000,two:6379,[::1]:7"
SENTINELS = "redis+sentinel://me:s%40cret@one:26380,two,[::1]:7/rooms/3"


def test_an_address_of_sentinels_says_who_is_asked_and_for_what() -> None:
    """Hosts with and without ports, the master's name, and what the server behind wants."""
    found = resolver_of(SENTINELS)
    assert isinstance(found, Sentinels)
    assert found.name == "rooms"
    assert found.addresses == [("one", 26380), ("two", 26379), ("::1", 7)]
    assert parse(SENTINELS).options() == {"username": "me", "password": "s@cret", "db": 3}


def test_the_master_of_an_address_keeps_user_and_database() -> None:
    """For what knows no Sentinel."""
    assert resolve(SENTINELS, ("10.0.0.1", 6379)).url == "redis://me:s%40cret@10.0.0.1:6379/3"
    assert resolve(SENTINELS, ("fe80::1", 6379)).url == "redis://me:s%40cret@[fe80::1]:6379/3"
    secure = "rediss+sentinel://one/rooms?ssl_ca_certs=ca.pem"
    assert resolve(secure, ("a", 1)).url == "rediss://a:1/0?ssl_ca_certs=ca.pem"
    assert resolve("redis://a:1/2").url == "redis://a:1/2"


def test_an_address_is_shown_without_its_password() -> None:
    """Also where it names several hosts."""
    shown = "redis+sentinel://me:***@one:26380,two:26379,[::1]:7/rooms/3"
    assert str(parse(SENTINELS)) == shown


PASSWORDS = [
    "plain",
    "pa@ss",
    "pa:ss",
    "pa%ss",
    "pa ss",
    "pa[ss",
    "sJ3R+hpI=",
    "pä€ss",
    "two@signs@in",
]
ENCODED_ONLY = ["Qj4/Zx9", "Qj#Zx9", "Qj?Zx9", "Qj@Zx/Vb#Wk?e:f%g", "1234/Zx", "Qj?db=Zx"]


@pytest.mark.parametrize("password", [*PASSWORDS, *ENCODED_ONLY])
@pytest.mark.parametrize(
    "form",
    [
        "redis://:{}@localhost:6399/0",
        "rediss://anna:{}@localhost:6399/0",
        "redis+sentinel://:{}@one,two/rooms",
        "redis+cluster://anna:{}@one:1,two:2",
        "redis://localhost:6399/0?password={}",
        "redis+sentinel://one,two/rooms?username=anna&password={}",
        "unix://:{}@/run/redis.sock?db=3",
    ],
)
def test_an_encoded_password_is_read_and_shown_nowhere(form: str, password: str) -> None:
    """In the text of the address and of its object; `url` has it, and is read as the same."""
    found = parse(form.format(quote(password, safe="")))
    assert found.password == password
    assert parse(found.url) == found
    for shown in (str(found), repr(found), f"{found}", f"{[found]}"):
        assert password not in shown
        assert quote(password, safe="") not in shown
    assert ":***@" in str(found)


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_that_is_not_encoded_is_read_if_it_is_unambiguous(password: str) -> None:
    """The last @ ends it, as other clients read it."""
    found = parse(f"redis://:{password}@localhost:6399/0")
    assert (found.password, found.hosts) == (password, (("localhost", 6399),))


@pytest.mark.parametrize("password", ENCODED_ONLY)
@pytest.mark.parametrize("login", [":{}@", "anna:{}@"])
def test_an_ambiguous_password_is_refused_and_not_shown(login: str, password: str) -> None:
    """The error and the errors behind it say how to write it."""
    with pytest.raises(ServerError, match=r"%2F.*REDIS_PASSWORD_FILE") as caught:
        parse(f"redis://{login.format(password)}localhost:6399/0")
    said = "".join(traceback.format_exception_only(caught.value))
    assert not [part for part in re.split(r"\W", password) if len(part) > 1 and part in said]
    assert caught.value.__suppress_context__
    assert "localhost:6399" in said


@pytest.mark.parametrize(
    ("url", "meaning"),
    [
        ("redis://one", "redis://one:6379/0"),
        ("redis://", "redis://localhost:6379/0"),
        ("redis://:7/2", "redis://localhost:7/2"),
        ("valkey://one:1/2", "redis://one:1/2"),
        ("valkeys://one", "rediss://one:6379/0"),
        ("valkey+sentinel://one/rooms", "redis+sentinel://one:26379/rooms/0"),
        ("valkeys+cluster://one", "rediss+cluster://one:6379"),
        ("REDIS://one:1/0", "redis://one:1/0"),
        (" redis://one:1/0\n", "redis://one:1/0"),
        ("redis://one/3/", "redis://one:6379/3"),
        ("redis://one?db=3", "redis://one:6379/3"),
        ("redis://one/0?db=3", "redis://one:6379/3"),
        ("redis://[::1]", "redis://[::1]:6379/0"),
        ("redis://[fe80::1%25eth0]:1", "redis://[fe80::1%25eth0]:1/0"),
        ("redis://on%65/%33", "redis://one:6379/3"),
        ("unix:///run/a%20b.sock", "unix:///run/a%20b.sock"),
        ("unix:///run/a.sock?db=2", "unix:///run/a.sock?db=2"),
        ("redis://one?timeout=5&protocol=3&decode_responses=True", "redis://one:6379/0"),
    ],
)
def test_an_address_is_read_as_other_clients_read_it(url: str, meaning: str) -> None:
    """Defaults are filled in, and options that only concern another client are left out."""
    assert parse(url).url == meaning


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://one/abc", "a database is a whole number"),
        ("redis://one/O", "a database is a whole number"),
        ("redis://one/1/2", "a database is a whole number"),
        ("redis://one/-1", "a database is a whole number"),
        ("redis://one/²", "a database is a whole number"),
        ("redis://one?db=x", "a database is a whole number"),
        ("redis://one/x?db=2", "a database is a whole number"),
        ("redis://one:0", "a port is a number from 1 to 65535"),
        ("redis://one:65536", "a port is a number from 1 to 65535"),
        ("redis://one:-1", "a host is written as"),
        ("redis://::1:6379", "an IPv6 address in "),
        ("redis://o ne", "a host is written as"),
        ("redis://one,two", "several hosts: begin with redis"),
        ("redis://one#x", "a # in it"),
        ("unix://run/redis.sock", "unix:///PATH"),
        ("unix://", "unix:///PATH"),
        ("'redis://one'", "unknown scheme"),
        ('"redis://one"', "unknown scheme"),
        ("http://one", "unknown scheme"),
        ("redis:one", "it has no ://"),
        ("redis://one?virtual_host=x", "its option virtual_host is unknown, known are db, "),
        ("redis://one?timeut=5", "its option timeut is unknown"),
        ("redis://one?db=1&x@y=2", "an option is unknown"),
    ],
)
def test_an_address_that_means_nothing_is_refused_with_the_reason(url: str, reason: str) -> None:
    """The sentence names what is wrong, not only that something is."""
    with pytest.raises(ServerError, match=f"is not a server address: .*{re.escape(reason)}"):
        parse(url)


def test_ignored_options_are_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A person sees that they have no effect."""
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            parse("redis://named-once?protocol=3&timeout=5")
    assert [line["options"] for line in lines] == [["protocol", "timeout"]]


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Whatever it is, the error is ours, and what was read is read again from its text."""
    for url in (text, f"redis://{text}", f"redis+sentinel://{text}", f"unix:///{text}"):
        try:
            found = parse(url)
        except ServerError:
            continue
        assert isinstance(found, ServerAddress)
        assert parse(found.url) == found


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
        parse(url)


def test_an_address_of_a_cluster_says_which_nodes_are_asked_for_which_run() -> None:
    """Hosts with and without ports, what nodes want, and the run that is looked for."""
    found = resolver_of(for_run(CLUSTER, "a run/2"))
    assert isinstance(found, Cluster)
    assert found.name == "a run/2"
    assert found.addresses == [("one", 7000), ("two", 6379), ("::1", 7)]
    assert parse(CLUSTER).options() == {"username": "me", "password": "s@cret"}
    assert parse(CLUSTER + "/0") == parse(CLUSTER)


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_run_binds_the_address_of_a_cluster_and_no_other(run: str, other: str) -> None:
    """Whatever the run is called; the last one counts."""
    bound = for_run(for_run(CLUSTER, other), run)
    found = resolver_of(bound)
    assert isinstance(found, Cluster)
    assert found.name == run
    assert for_run(bound, "") == parse(CLUSTER)
    assert for_run(SENTINELS, run) == parse(SENTINELS)
    assert for_run("redis://a:1/2", run) == parse("redis://a:1/2")


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
    assert resolve(bound, ("10.0.0.1", 7000)).url == "redis://me:s%40cret@10.0.0.1:7000/0"
    assert str(bound) == "redis+cluster://me:***@one:7000,two:6379,[::1]:7"
    assert (publish_command(bound), publish_command(SENTINELS)) == (b"SPUBLISH", b"PUBLISH")


def test_no_node_answers() -> None:
    """A sentence with those that were asked; redis-cli is shown the nodes then."""
    url = "redis+cluster://127.0.0.1:1,127.0.0.1:2"
    with pytest.raises(NoServer, match=r"no node .* answers; .*127\.0\.0\.1:1 .*127\.0\.0\.1:2"):
        resolve(for_run(url, "night"))
    assert redis_cli(url, "night") == f"redis-cli -c -u {url}"


def test_redis_cli_is_told_a_socket_by_an_option() -> None:
    """It knows no addresses that begin with unix://."""
    assert redis_cli("unix:///tmp/a%20b.sock?db=2", "") == "redis-cli -s '/tmp/a b.sock' -n 2"
    assert redis_cli("unix://me:secret@/a.sock", "") == "redis-cli -s /a.sock -n 0 --user me"
