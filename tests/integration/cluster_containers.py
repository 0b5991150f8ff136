"""A Redis Cluster in containers, also one that has users and speaks nothing but TLS."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import subprocess
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis

from tests.integration.clusters import MASTERS, Cluster, lines_of
from tests.integration.sentinels import AWAY, _free_ports
from tests.integration.tls_server import make_certificates
from tests.waiting import until

Place = tuple[str, int]


class ContainerCluster(Cluster):
    """Six containers of redis:8 on the network of this machine."""

    mounts: tuple[str, ...] = ()

    def __init__(self) -> None:
        ports, buses = _free_ports(2 * MASTERS), _free_ports(2 * MASTERS)
        super().__init__([("127.0.0.1", port) for port in ports])
        self.buses = dict(zip(self.places, buses, strict=True))
        self._name = f"roomgrad-cluster-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> ContainerCluster:
        try:
            for place in self.places:
                self._start(place)
            until(lambda: all(map(self._answers, self.places)))
            self.build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lines(self, place: Place) -> list[str]:
        """Return the configuration of a node."""
        return lines_of(place[1], self.buses[place])

    def kill_master(self, run: str) -> Place:
        """Kill the container of the master of a run."""
        return self.upset(run, lambda place: docker("kill", self._container(place)))

    def close(self) -> None:
        for place in self.places:
            with contextlib.suppress(subprocess.CalledProcessError):
                docker("rm", "--force", "--volumes", self._container(place))

    def _start(self, place: Place) -> None:
        words = [word for line in self.lines(place) for word in f"--{line}".split(" ", 1)]
        command = ["redis:8", "redis-server", *[word.strip('"') for word in words]]
        name = f"--name={self._container(place)}"
        docker("run", "--detach", "--rm", "--network=host", name, *self.mounts, *command)

    def _container(self, place: Place) -> str:
        return f"{self._name}-{place[1]}"

    def _answers(self, place: Place) -> bool:
        with contextlib.suppress(*AWAY):
            return bool(self.ask(place, "PING"))
        return False


def docker(*words: str) -> None:
    subprocess.run(["docker", *words], check=True, capture_output=True, timeout=60)


class SecureCluster(ContainerCluster):
    """TLS between all, with users of an ACL file, each with a password of its own."""

    def __init__(self, folder: Path, users: Iterable[str]) -> None:
        """users: the lines that `roomgrad acl` prints."""
        super().__init__()
        self.folder = folder
        self.passwords: dict[str, str] = {}
        make_certificates(folder)
        (folder / "users.acl").write_text("".join(map(self._with_password, users)))
        self.mounts = (f"--volume={folder}:/tls:ro",)
        self.login = ("AUTH2", "default", self.passwords["default"])

    def _with_password(self, line: str) -> str:
        word, user, rules = line.split(" ", 2)
        self.passwords[user] = secrets.token_hex(8)
        digest = hashlib.sha256(self.passwords[user].encode()).hexdigest()
        return f"{word} {user} #{digest} {rules}\n"

    def lines(self, place: Place) -> list[str]:
        return [
            *(line for line in super().lines(place) if not line.startswith("port ")),
            *("port 0", f"tls-port {place[1]}", "tls-cluster yes", "tls-replication yes"),
            *("tls-auth-clients no", "tls-ca-cert-file /tls/ca.crt"),
            *("tls-cert-file /tls/good.crt", "tls-key-file /tls/good.key"),
            *("aclfile /tls/users.acl", "masteruser default"),
            f"masterauth {self.passwords['default']}",
        ]

    def node(self, place: Place) -> redis.Redis:
        return redis.Redis(
            host=place[0],
            port=place[1],
            username="default",
            password=self.passwords["default"],
            ssl=True,
            ssl_cert_reqs="none",  # a test may have given it a certificate that is wrong
            ssl_check_hostname=False,
            protocol=2,
            socket_timeout=5.0,
            socket_connect_timeout=2.0,
            retry=None,
        )

    def url_of(self, user: str, *, password: str = "", ca: str = "ca.crt") -> str:
        """Return the address for a user, with its own password unless another one is given."""
        login = f"{user}:{password or self.passwords[user]}"
        hosts = self.url.partition("://")[2]
        return f"rediss+cluster://{login}@{hosts}?ssl_ca_certs={self.folder / ca}"

    def show(self, place: Place, name: str) -> None:
        """Let a node show this certificate from now on, to open connections too."""
        files = ("tls-cert-file", f"/tls/{name}.crt", "tls-key-file", f"/tls/{name}.key")
        self.ask(place, "CONFIG", "SET", *files)
        self.ask(place, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")

    def refused(self) -> list[str]:
        """Return what the nodes refused, and to whom."""
        found = [each for place in self._living() for each in self._log(place)]
        fields = (b"username", b"reason", b"object")
        return [" ".join(each[field].decode() for field in fields) for each in found]

    def forget_refused(self) -> None:
        for place in self._living():
            self.ask(place, "ACL", "LOG", "RESET")

    def _living(self) -> list[Place]:
        return [place for place in self.places if self._answers(place)]

    def _log(self, place: Place) -> list[dict[bytes, Any]]:
        said = self.ask(place, "ACL", "LOG")
        return [dict(zip(each[::2], each[1::2], strict=True)) for each in said]
