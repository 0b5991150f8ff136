"""What an address says of TLS, without a server."""

from __future__ import annotations

import gc
import socket
import struct
import warnings
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from roomgrad.errors import ServerError, SettingsError
from roomgrad.redis import tls
from roomgrad.redis.addresses import redis_cli
from roomgrad.redis.server import address
from roomgrad.redis.server_address import parse
from tests.waiting import until

ROOT = Path(__file__).parents[2]
SECURE = "rediss://me:s%40cret@redis:6379/0"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("ssl_cert_reqs=none", r"ssl_cert_reqs=none, but the certificate .* is always verified"),
        ("ssl_cert_reqs=optional", r"ssl_cert_reqs=optional, but the certificate"),
        ("ssl_cert_reqs=", r"ssl_cert_reqs=, but the certificate"),
        ("ssl_check_hostname=false", r"ssl_check_hostname=false, but the certificate"),
        ("ssl_check_hostname=0", r"ssl_check_hostname=0, but the certificate"),
        ("ssl_check_hostname=true&ssl_check_hostname=no", r"ssl_check_hostname=no, but the cert"),
        ("ssl_exclude_verify_flags=VERIFY_X509_STRICT", r"unknown, known are .*ssl_ca_certs, "),
        ("ssl_ca_path=/etc/ssl", r"ssl_ca_path is unknown"),
    ],
)
@pytest.mark.parametrize("url", ["rediss://redis", "rediss+sentinel://one/rooms"])
def test_an_address_cannot_turn_the_check_off(url: str, said: str, sentence: str) -> None:
    """It is refused, not heeded and not passed over."""
    with pytest.raises(ServerError, match=sentence):
        parse(f"{url}?{said}")


def test_what_is_meant_anyway_may_be_said() -> None:
    """Addresses of other programs often say it."""
    said = "ssl_cert_reqs=required&ssl_check_hostname=True&ssl_ca_certs=/a/ca.crt"
    assert parse(f"rediss://redis?{said}").ca_file == "/a/ca.crt"


def test_a_ca_without_tls_is_refused() -> None:
    """Whoever names one means TLS; only what does not leave this machine goes without."""
    with pytest.raises(ServerError, match=r"ssl_ca_certs has no effect.*write rediss://"):
        parse("redis://redis?ssl_ca_certs=/a/ca.crt")
    for url in ("redis://redis:6379/0", "redis://me@10.0.0.1", "redis+sentinel://one/rooms"):
        with pytest.raises(SettingsError, match=r"REDIS_CA_FILE is /a/ca.crt.* write rediss"):
            parse(url).with_ca("/a/ca.crt")
    for url in ("redis://127.0.0.1:6379/0", "redis://localhost", "redis://[::1]:7", "unix:///a.s"):
        assert parse(url).with_ca("/a/ca.crt") == parse(url)


def test_the_setting_names_the_ca_of_an_address_that_names_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a flag, or by the variable; what the address says comes first."""
    monkeypatch.setenv("REDIS_URL", SECURE)
    monkeypatch.setenv("REDIS_CA_FILE", "/by/variable")
    assert address().url == f"{SECURE}?ssl_ca_certs=/by/variable"
    assert address(ca_file="/by/flag").url == f"{SECURE}?ssl_ca_certs=/by/flag"
    said = f"{SECURE}?ssl_ca_certs=/by/address"
    assert address(said, "/by/flag").url == said


def test_redis_cli_is_told_the_ca_in_a_word_of_its_own() -> None:
    """It passes over what an address says of TLS."""
    url = parse(SECURE).with_ca("/a b/ca.crt")
    assert redis_cli(url, "") == "redis-cli -u rediss://me:***@redis:6379/0 --cacert '/a b/ca.crt'"


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_any_name_of_a_file_goes_into_an_address_and_out_again(file: str) -> None:
    """Whatever stands in it."""
    found = parse(SECURE).with_ca(file)
    assert found.options()["ssl_ca_certs"] == file
    assert parse(found.url) == found
    assert found.with_ca("/another") == found
    assert found.without_files().url == SECURE


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_:/?&=%#@.[]1", max_size=60))
def test_whatever_an_address_says_it_is_refused_or_checked(text: str) -> None:
    """No words make an address that trusts more than its CA."""
    url = f"rediss://redis/0?{text}"
    try:
        options = parse(url).options()
    except ServerError:
        return
    said = {name for name, _ in parse_qsl(urlsplit(url).query) if name.startswith("ssl")}
    assert said <= {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", *tls.IMPLIED}
    assert options.get("ssl_cert_reqs", "required") == "required"
    assert options.get("ssl_check_hostname", True) is True


def test_a_connection_that_is_reset_before_the_handshake_is_closed() -> None:
    """The server may end between `connect` and TLS; `ssl` by itself leaves the socket open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted = server.accept()[0]
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()  # lingers for 0 s, which sends a reset
    until(lambda: _is_reset(client))
    with warnings.catch_warnings(record=True) as unclosed:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(ConnectionResetError, match="before the handshake"):
            tls.context({}).wrap_socket(client, server_hostname="localhost")
        gc.collect()
    assert [str(each.message) for each in unclosed] == []


def _is_reset(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return True
    return False


def test_the_profile_in_containers_leaves_nobody_without_tls() -> None:
    """Whoever is given the address of Redis is given the same one with TLS, and the CA."""
    plain, secure = (
        yaml.safe_load((ROOT / name).read_text())["services"]
        for name in ("docker-compose.yml", "deploy/compose.tls.yml")
    )
    given = {
        name: each.get("environment", {}).get("ROOMGRAD_REDIS_URL") for name, each in plain.items()
    }
    wanted = {name: url.replace("redis:", "rediss:", 1) for name, url in given.items() if url}
    assert wanted
    for name, url in wanted.items():
        environment = {"ROOMGRAD_REDIS_URL": url, "ROOMGRAD_REDIS_CA_FILE": "/run/ca/ca.crt"}
        assert secure[name] == {"environment": environment, "volumes": ["ca:/run/ca:ro"]}
