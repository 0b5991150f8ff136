"""A server that speaks TLS, with valid and invalid certificates."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import trustme

from roomgrad.redis.server import connect
from tests.waiting import until

HERE = ("localhost", "127.0.0.1")
PLAIN, SECURE = 6379, 6380  # ports in the container


def make_certificates(folder: Path) -> None:
    """Create `ca.crt` and what it has signed, and `other.crt`, which has signed `foreign`."""
    ca, other = (trustme.CA(organization_name=name) for name in ("ours", "theirs"))
    ca.cert_pem.write_to_path(folder / "ca.crt")
    other.cert_pem.write_to_path(folder / "other.crt")
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    made = {
        "good": ca.issue_cert(*HERE),
        "expired": ca.issue_cert(*HERE, not_before=now - 9 * day, not_after=now - day),
        "early": ca.issue_cert(*HERE, not_before=now + day, not_after=now + 9 * day),
        "elsewhere": ca.issue_cert("elsewhere.example"),
        "foreign": other.issue_cert(*HERE),
    }
    for name, each in made.items():
        each.private_key_pem.write_to_path(folder / f"{name}.key")
        each.cert_chain_pems[0].write_to_path(folder / f"{name}.crt")
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


@dataclass
class TlsServer:
    """Redis at two ports: one for TLS, and one for the test to configure it."""

    folder: Path
    host: str
    plain_port: int
    port: int

    def file(self, name: str) -> str:
        """Return the path of a certificate or key."""
        return str(self.folder / name)

    def url(self, ca: str = "ca.crt", more: str = "") -> str:
        """Return the address for a client that trusts this CA."""
        return f"rediss://localhost:{self.port}/0?ssl_ca_certs={self.file(ca)}{more}"

    @property
    def plain_url(self) -> str:
        return f"redis://localhost:{self.plain_port}/0"

    def set(self, *words: str) -> None:
        """Run CONFIG SET for connections from now on."""
        with redis.Redis.from_url(self.plain_url) as client:
            client.execute_command("CONFIG", "SET", *words)  # type: ignore[no-untyped-call]

    def show(self, name: str) -> None:
        """Present this certificate from now on, to open connections too."""
        with redis.Redis.from_url(self.plain_url) as client:
            files = ("tls-cert-file", f"/tls/{name}.crt", "tls-key-file", f"/tls/{name}.key")
            client.execute_command("CONFIG", "SET", *files)  # type: ignore[no-untyped-call]
            client.client_kill_filter(_type="normal", skipme=True)

    def asked(self) -> set[str]:
        """Return the commands that clients sent since `forget`."""
        with redis.Redis.from_url(self.plain_url, protocol=2) as client:
            return {name.removeprefix("cmdstat_") for name in client.info("commandstats")}

    def forget(self) -> None:
        with redis.Redis.from_url(self.plain_url, protocol=2) as client:
            client.config_resetstat()


def start_tls_server(folder: Path) -> Iterator[TlsServer]:
    """Start redis:8 in a container. Without Docker the test is skipped here, and fails in CI."""
    from testcontainers.core.container import DockerContainer

    make_certificates(folder)
    command = (
        f"redis-server --port {PLAIN} --tls-port {SECURE} --tls-auth-clients no "
        "--tls-ca-cert-file /tls/ca.crt --tls-cert-file /tls/good.crt --tls-key-file /tls/good.key"
    )
    container = DockerContainer("redis:8").with_exposed_ports(PLAIN, SECURE).with_command(command)
    container.with_volume_mapping(str(folder), "/tls", "ro")
    try:
        container.start()
    except Exception as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no container engine: {error}")
    try:
        host = container.get_container_host_ip()
        ports = [int(container.get_exposed_port(port)) for port in (PLAIN, SECURE)]
        server = TlsServer(folder, host, *ports)
        until(lambda: _answers(server.plain_url))
        connect(server.url()).close()
        yield server
    finally:
        container.stop()


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False
