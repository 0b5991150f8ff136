"""deploy/compose.tls.yml: the trebuchet in containers that connect to Redis by TLS.

The tests build on each other, from top to bottom.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.systems.project import Project, removed_afterwards
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

SCALES = {"trainer": 1, "controlmodel": 1, "simulator": 2}
STEPS = 1_000_000
"""More than the trebuchet finishes on any machine while these tests run."""
MORE = 20
FILES = ("docker-compose.yml", "deploy/compose.tls.yml")


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """The trebuchet while it trains."""
    with removed_afterwards(Project(SCALES, STEPS, FILES)) as project:
        project.compose("build", *SCALES)
        project.start()
        yield project


def serial(project: Project) -> str:
    """Return the serial number of the certificate of Redis; empty while Redis starts."""
    shown = "openssl s_client -connect redis:6379 -CAfile /run/ca/ca.crt -verify_return_error"
    done = project.inside("redis", f"{shown} </dev/null | openssl x509 -noout -serial")
    return done.stdout.strip()


def test_a_certificate_that_expires_soon_is_renewed_while_the_system_runs(project: Project) -> None:
    """`up` makes the next one, which Redis uses after a restart; a fresh one is kept."""
    before = serial(project)
    project.compose("run", "--rm", "certificates")
    project.compose("restart", "redis")
    assert until(lambda: serial(project)) == before
    project.compose("run", "--rm", "certificates", "398")
    project.compose("restart", "redis")
    assert until(lambda: serial(project)) != before


def test_the_training_continues_and_counts_exactly(project: Project) -> None:
    """No batch was given up or trained twice: while the simulators are paused, one is open."""
    before = project.counters().get("finished", 0)
    until(lambda: project.counters().get("finished", 0) >= before + MORE)
    project.compose("pause", "simulator")

    def is_exact() -> bool:
        counted = project.counters()
        applied = counted["applied"]
        return counted["distinct"] == counted["finished"] == applied == counted["sent"] - 1

    until(is_exact)
    project.compose("unpause", "simulator")


def test_redis_accepts_only_tls(project: Project) -> None:
    """A client without TLS gets no reply."""
    plain = project.inside("redis", "/usr/local/bin/redis-cli ping || /usr/bin/redis-cli ping")
    assert "PONG" not in plain.stdout
    assert project.redis("PING") == ["PONG"]


def test_keys_are_where_they_are_needed(project: Project) -> None:
    """A component has no private key, and Redis has only its own."""
    for service in SCALES:
        found = project.inside(service, "ls /run/ca; ls /run/tls /authority 2>/dev/null; true")
        assert found.stdout.split() == ["ca.crt"]
    keys = project.inside("redis", "find / -name '*.key' -not -path '/proc/*' 2>/dev/null; true")
    assert keys.stdout.split() == ["/run/tls/redis.key"]
    mode = project.inside("redis", "stat -c '%a %U' /run/tls/redis.key").stdout
    assert mode.split() == ["600", "redis"]


def test_a_component_without_the_ca_ends_with_the_reason(project: Project) -> None:
    """It trusts only the CAs of its image, which have not signed the certificate."""
    flags = ("--rm", "--no-deps", "-e", "ROOMGRAD_REDIS_CA_FILE=")
    done = project.run("run", *flags, "trainer")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    sentence = r"server at redis:6379 is not signed by a CA that .* trusts: .*REDIS_CA_FILE"
    assert re.search(sentence, said)
