"""TLS: who speaks it is checked, always and by everything that connects, and told in a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import redis
import structlog

from roomgrad.errors import NoServer, TLSError
from roomgrad.names import Names
from roomgrad.redis.connection import Connection
from roomgrad.redis.server import connect, explain_tls
from roomgrad.redis.server_address import parse
from roomgrad_swergio.gateway.client import RedisClient
from roomgrad_swergio.gateway.process import serve
from roomgrad_swergio.gateway.settings import GatewaySettings
from tests.integration.conftest import ROOT, EchoRun, make_echo_run
from tests.integration.echo import echo_component
from tests.integration.tls_server import TlsServer, start_tls_server
from tests.waiting import until

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """One server for all tests, which tell it what to show."""
    yield from start_tls_server(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def as_it_was(server: TlsServer) -> Iterator[None]:
    """Each test finds a server whose certificate is good."""
    yield
    server.set("tls-auth-clients", "no")
    server.show("good")


@pytest.fixture
def echo(server: TlsServer) -> Iterator[EchoRun]:
    """A run over TLS."""
    yield from make_echo_run(server.url())


def by_wire(url: str) -> None:
    """What a component sends and receives by."""
    wire = Connection(url)
    with contextlib.closing(wire):
        wire.connect()
        assert wire.call([b"PING"]) == b"PONG"


def by_client(url: str) -> None:
    """What commands and pages use."""
    with contextlib.closing(connect(url)) as client:
        assert client.ping()


def by_gateway(url: str) -> None:
    """A gateway from its start; None of its clients matters here."""

    async def some_time() -> None:
        redis_client = RedisClient(url, "", "any")
        client = await redis_client.client()
        try:
            assert await client.ping()
        except Exception as error:
            raise explain_tls(error, parse(url)) or error from error
        finally:
            await redis_client.close()

    asyncio.run(some_time())


WAYS = [by_wire, by_client, by_gateway]
WRONG = {
    "expired": r"has expired, and it is \d{4}-\d\d-\d\d \d\d:\d\d UTC here: make a new one",
    "early": r"is not valid yet, and it is \d{4}-.*: set the clocks",
    "elsewhere": r"is not valid for localhost: write a name that it holds",
    "foreign": r"is not signed by the CA in \S+/ca\.crt: .*REDIS_CA_FILE",
}


@pytest.mark.parametrize("connects", WAYS)
def test_a_server_that_proves_who_it_is_is_spoken_to(
    server: TlsServer, connects: Callable[[str], None]
) -> None:
    """By the name that is in its certificate, and by the address that is."""
    connects(server.url())
    connects(server.url().replace("localhost", "127.0.0.1"))


@pytest.mark.parametrize("shown", WRONG)
@pytest.mark.parametrize("connects", WAYS)
def test_a_wrong_certificate_is_told_in_a_sentence_and_nothing_is_sent(
    server: TlsServer, connects: Callable[[str], None], shown: str
) -> None:
    """Ended, not begun, for another host, signed by another CA: what it is, and what to do."""
    server.show(shown)
    server.forget()
    with pytest.raises(TLSError, match=WRONG[shown]):
        connects(server.url().replace("//", "//:secret@"))
    assert server.asked() <= {"config|resetstat", "info", "client|setinfo"}  # no AUTH, nothing


@pytest.mark.parametrize("connects", WAYS)
def test_who_names_a_ca_trusts_no_other_one(
    server: TlsServer, connects: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even those that this machine trusts, which count only where none is named."""
    server.show("foreign")
    monkeypatch.setenv("SSL_CERT_FILE", server.file("other.crt"))
    with pytest.raises(TLSError, match="not signed by the CA in"):
        connects(server.url())
    connects(server.url().partition("?")[0])


@pytest.mark.parametrize("connects", WAYS)
def test_a_server_without_tls_is_told_from_one_that_is_away(
    server: TlsServer, connects: Callable[[str], None]
) -> None:
    """It would wait for the end of a line for ever."""
    url = server.url().replace(str(server.port), str(server.plain_port))
    with pytest.raises(TLSError, match=rf"localhost:{server.plain_port} does not speak TLS"):
        connects(url)
    with pytest.raises((NoServer, OSError, redis.ConnectionError)) as away:
        connects(server.url().replace(str(server.port), "1"))
    assert not isinstance(away.value, TLSError)


@pytest.mark.parametrize("connects", WAYS)
def test_a_server_with_tls_says_so_to_who_speaks_none(
    server: TlsServer, connects: Callable[[str], None]
) -> None:
    """It only hangs up, so the client finds out what it speaks."""
    with pytest.raises(TLSError, match=rf"localhost:{server.port} speaks TLS: write rediss://"):
        connects(f"redis://localhost:{server.port}/0")


@pytest.mark.parametrize("connects", WAYS)
def test_a_server_may_want_a_certificate_too(
    server: TlsServer, connects: Callable[[str], None]
) -> None:
    """The address names it."""
    server.set("tls-auth-clients", "yes")
    with pytest.raises(TLSError, match=r"wants a client certificate.*ssl_certfile"):
        connects(server.url())
    own = f"&ssl_certfile={server.file('good.crt')}&ssl_keyfile={server.file('good.key')}"
    connects(server.url(more=own))


@pytest.mark.parametrize("connects", WAYS)
def test_a_file_that_is_no_ca_is_told(server: TlsServer, connects: Callable[[str], None]) -> None:
    """Missing, or something else."""
    for name, reason in (("gone.crt", "No such file"), ("good.key", "no certificate in PEM")):
        with pytest.raises(TLSError, match=rf"the CA \S+{name} cannot be used \({reason}"):
            connects(server.url(ca=name))


def test_a_chain_over_tls_counts_exactly(server: TlsServer, echo: EchoRun) -> None:
    """In a process that knows the CA by its setting, through a certificate that ends meanwhile."""
    plain = EchoRun(echo.url.partition("?")[0], echo.client, echo.names, echo.stack)
    process = plain.spawn("repeat", redis_ca_file=server.file("ca.crt"))
    first = [echo.send(value) for value in range(50)]
    echo.wait_reply(first[-1])
    server.show("expired")
    beats = echo.names.alive("*")
    with make_plain(server) as watching:
        until(lambda: not watching.client.keys(beats))
        server.show("good")
    second = [echo.send(value) for value in range(50)]
    echo.wait_reply(second[-1])
    until(lambda: echo.reply_count() == echo.counter("received") == 100)
    assert echo.pending() == 0
    assert echo.dead_letters() == []
    process.terminate()
    assert process.wait(60) == 0


@contextlib.contextmanager
def make_plain(server: TlsServer) -> Iterator[EchoRun]:
    """Looks on without TLS."""
    yield from make_echo_run(server.plain_url)


def test_a_replica_that_serves_waits_for_a_good_certificate(
    server: TlsServer, echo: EchoRun
) -> None:
    """It says why it does not serve, also if all it knew at first was that the server hung up."""
    events = ("lost the server, trying again", "housekeeping lost the server, trying again")
    with structlog.testing.capture_logs() as logs:
        echo.start(echo_component())
        server.show("elsewhere")
        for event in events:
            until(lambda said=event: told(logs, said, "not valid for localhost"))
        server.show("good")
        echo.wait_reply(echo.send(1))
    assert told(logs, events[0], "") <= 2  # hung up, and then not trusted
    assert told(logs, events[1], "") <= 4  # on two connections


def told(logs: Sequence[Mapping[str, Any]], event: str, reason: str) -> int:
    """Return how often an event was logged for a reason that contains this text."""
    return sum(each["event"] == event and reason in str(each["reason"]) for each in logs)


def test_processes_that_begin_end_with_the_sentence(server: TlsServer) -> None:
    """A component, the gateway and a command: exit code 1, one sentence, no traceback."""
    server.show("expired")
    run = Names("test-tls").run
    paths = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    environ = {
        **os.environ,
        "PYTHONPATH": paths,
        "RUN": run,
        "REDIS_URL": server.url().partition("?")[0],
        "REDIS_CA_FILE": server.file("ca.crt"),
    }
    programs = [
        ["tests.integration.echo", "repeat"],
        ["roomgrad_swergio.gateway", "--port=0"],
        ["roomgrad", "ps"],
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True
        )
        for words in programs
    ]
    for process in processes:
        said = " ".join(process.communicate(timeout=30)[1].split())
        assert process.returncode == 1, said
        assert "has expired" in said
        assert "Traceback" not in said


def test_a_gateway_ends_where_it_begins_untrusted(server: TlsServer) -> None:
    """It raises before it listens."""
    server.show("foreign")
    settings = GatewaySettings(run="test-tls", system="")
    with pytest.raises(TLSError, match="not signed by the CA in"):
        asyncio.run(serve(settings, server.url()))
