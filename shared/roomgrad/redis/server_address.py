"""What an address says of a server: a type that does not print its password.

An address names a server, `redis://host:6379/0`; or sentinels, which know which of several servers
is the master, `redis+sentinel://host1:26379,host2:26379/NAME/0`; or nodes of a cluster, each of
which knows the node that serves a run, `redis+cluster://host1:7000,host2:7001`; or a socket of this
machine, `unix:///run/redis.sock?db=0`. `rediss` instead of `redis` asks for TLS, and `valkey` is
read as `redis`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote

from roomgrad.errors import ServerError, SettingsError
from roomgrad.redis import tls
from roomgrad.redis.sentinels import Address

Kind = Literal["server", "socket", "sentinel", "cluster"]

PORTS: Mapping[Kind, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
LARGEST_PORT = 65535
MAX_PARSED = 1000  # addresses that one process remembers

READ = ("db", "username", "password")
# Options of other clients that only say how they connect, wait or decode; roomgrad decides that.
# fmt: off
HARMLESS = {
    "client_name", "decode_responses", "encoding", "encoding_errors", "health_check_interval",
    "legacy_responses", "max_connections", "protocol", "retry_on_error", "retry_on_timeout",
    "single_connection_client", "socket_connect_timeout", "socket_keepalive",
    "socket_read_size", "socket_timeout", "timeout",
}
# fmt: on

EXPECTED = (
    "expected redis://localhost:6379/0, redis+sentinel://host1:26379,host2:26379/NAME/0 for "
    "sentinels, or redis+cluster://host1:6379,host2:6379 for a cluster"
)
ENCODE = (
    "in a password, write @ / ? # as %40 %2F %3F %23, or store it in a file that "
    "REDIS_PASSWORD_FILE names"
)

_SCHEME = re.compile(r"(?P<socket>unix)|(redis|valkey)(?P<tls>s?)(\+(?P<kind>sentinel|cluster))?")
_PARTS = re.compile(
    r"(?P<scheme>[^:/?#@]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(\?(?P<query>[^#]*))?", re.S
)
_HOST = re.compile(r"(\[(?P<six>[^][\s]+)\]|(?P<host>[^][:\s]*))(:(?P<port>\d+))?")


@dataclass(frozen=True)
class ServerAddress:
    """An address, parsed. `str` and `repr` do not contain its password; `url` does."""

    kind: Kind
    hosts: tuple[Address, ...] = ()
    """The server, or the sentinels or nodes to ask; empty for a socket."""

    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    master: str = ""
    """What the sentinels call the master."""

    path: str = ""
    """Of a socket."""

    files: tuple[tuple[str, str], ...] = ()
    """Files for TLS, by the options of redis-py."""

    run: str = ""
    """On a cluster: the run whose node is meant; empty for any."""

    def __str__(self) -> str:
        return self._text("***")

    @property
    def url(self) -> str:
        """The address with its password, for the environment of a process; not for people."""
        return self._text(quote(self.password, safe=""))

    @property
    def ca_file(self) -> str:
        return dict(self.files).get(tls.CA, "")

    def for_run(self, run: str) -> ServerAddress:
        """Return the address of a cluster, bound to the node that serves a run; others unchanged.

        An empty run removes the binding.
        """
        return replace(self, run=run) if self.kind == "cluster" else self

    def at(self, server: Address) -> ServerAddress:
        """Return the address of one of the servers behind sentinels or of a cluster."""
        return replace(self, kind="server", hosts=(server,), master="", run="")

    def without_files(self) -> ServerAddress:
        """Return the address without its files for TLS, for programs with other options."""
        return replace(self, files=())

    def with_ca(self, file: str) -> ServerAddress:
        """Return the address with the file of its CA, unless it names one or needs none.

        Raises SettingsError if it leaves this machine without TLS, which naming a CA implies.
        """
        if self.tls and file and not self.ca_file:
            return replace(self, files=(*self.files, (tls.CA, file)))
        if self.tls or not file or all(_is_local(host) for host, _ in self.hosts):
            return self
        scheme = self._scheme()
        raise SettingsError(
            f"REDIS_CA_FILE is {file}, but the address of the server begins with {scheme}://, "
            f"which is without TLS: write {scheme.replace('redis', 'rediss', 1)}://"
        )

    def options(self) -> dict[str, Any]:
        """Return what redis-py needs: login, database, files, and where a single server is."""
        given = {
            "username": self.user,
            "password": self.password,
            "db": self.database,
            "path": self.path,
            **dict(self.files),
        }
        found: dict[str, Any] = {name: value for name, value in given.items() if value}
        if self.kind == "server":
            found["host"], found["port"] = self.hosts[0]
        return found

    def _scheme(self) -> str:
        if self.kind == "socket":
            return "unix"
        scheme = "rediss" if self.tls else "redis"
        return scheme if self.kind == "server" else f"{scheme}+{self.kind}"

    def _text(self, password: str) -> str:
        login = quote(self.user, safe="") + (f":{password}" if self.password else "")
        where = ",".join(map(_host_text, self.hosts)) + quote(self.path)
        options = [f"{name}={quote(value)}" for name, value in self.files]
        if self.kind == "socket" and self.database:
            options.append(f"db={self.database}")
        elif self.kind in ("server", "sentinel"):
            where += f"/{quote(self.master, safe='')}" * bool(self.master) + f"/{self.database}"
        question = f"?{'&'.join(options)}" if options else ""
        return f"{self._scheme()}://{login}{'@' * bool(login)}{where}{question}"


AnyAddress = str | ServerAddress


def parse(address: AnyAddress) -> ServerAddress:
    """Return what an address says; an option that only concerns other clients is ignored.

    Raises ServerError if it is not an address, has an unknown option, or would trust any server.
    """
    return address if isinstance(address, ServerAddress) else _parse(address)


@lru_cache(MAX_PARSED)
def _parse(text: str) -> ServerAddress:
    text = text.strip()
    try:
        found = _PARTS.fullmatch(text)
        if found is None:
            raise ValueError("it has no ://, or a # in it")
        scheme = _SCHEME.fullmatch(found["scheme"].lower())
        if scheme is None:
            raise ValueError("it begins with an unknown scheme")
        return _parsed(scheme, found)
    except ValueError as error:
        reason = f"{error}; {ENCODE}" if "@" in text else str(error)
        # `from None`: a traceback would show the parts of a password that was taken for a host.
        raise ServerError(
            f"{_redacted(text)!r} is not a server address: {reason}; {EXPECTED}"
        ) from None


def _parsed(scheme: re.Match[str], found: re.Match[str]) -> ServerAddress:
    """Raise ValueError with a reason that contains no part of the address."""
    kind: Kind = "socket" if scheme["socket"] else scheme["kind"] or "server"  # type: ignore[assignment]
    login, _, hosts = found["authority"].rpartition("@")
    user, _, password = login.partition(":")
    path = unquote(found["path"])
    is_socket = kind == "socket"
    if is_socket and (hosts or not path):
        raise ValueError("a socket is written as unix:///PATH")
    master, databases = ("", "") if is_socket else _path(kind, path)
    options = _options(found["query"] or "", secure=bool(scheme["tls"]))
    return ServerAddress(
        kind=kind,
        hosts=() if is_socket else _hosts(kind, hosts),
        tls=bool(scheme["tls"]),
        user=unquote(user) or options.pop("username", ""),
        password=unquote(password) or options.pop("password", ""),
        database=_database(kind, databases, options.pop("db", "")),
        master=master,
        path=path if is_socket else "",
        files=tuple(
            (name, options[name]) for name in (tls.CA, tls.CERT, tls.KEY) if name in options
        ),
    )


def _hosts(kind: Kind, text: str) -> tuple[Address, ...]:
    hosts = text.split(",")
    if kind == "server" and len(hosts) > 1:
        raise ValueError("it names several hosts: begin with redis+cluster:// or redis+sentinel://")
    return tuple(_host(kind, each) for each in hosts)


def _host(kind: Kind, text: str) -> Address:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError(
            "a host is written as HOST or HOST:PORT, with a whole number, and an IPv6 address in []"
        )
    host = unquote(found["six"] or found["host"])
    if not host and kind != "server":
        raise ValueError("it names no host")
    port = int(found["port"] or PORTS[kind])
    if not 0 < port <= LARGEST_PORT:
        raise ValueError(f"a port is a number from 1 to {LARGEST_PORT}")
    return host or "localhost", port


def _path(kind: Kind, path: str) -> tuple[str, str]:
    """Return the name of a master, and the text that names a database."""
    path = path.strip("/")
    if kind != "sentinel":
        return "", path
    name, _, database = path.partition("/")
    if not name:
        raise ValueError("it names no master")
    return name, database


def _database(kind: Kind, path: str, option: str) -> int:
    for text in (path or "0", option or "0"):
        if not (text.isascii() and text.isdigit()):
            raise ValueError("a database is a whole number, as in redis://localhost:6379/0")
    database = int(option or path or 0)  # the option comes first, as in redis-py
    if database and kind == "cluster":
        raise ValueError("a cluster has no other database than 0")
    return database


def _options(query: str, *, secure: bool) -> dict[str, str]:
    """Return the options that count.

    Raises ValueError for one that is unknown, ServerError for one that is unsafe.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    tls.check(pairs, secure=secure)
    known = (*READ, *tls.FILES)
    ignored = {name for name, _ in pairs if name in HARMLESS}
    for name, _ in pairs:
        if name not in (*known, *tls.IMPLIED, *ignored):
            named = "an option" if "@" in query else f"its option {name}"  # it may be a password
            raise ValueError(f"{named} is unknown, known are {', '.join(known)}")
    if ignored:
        _warn(sorted(ignored))
    return {name: value for name, value in pairs if name in known}


def _warn(ignored: list[str]) -> None:
    import structlog  # slow to import, and health checks seldom need it

    structlog.get_logger().warning("ignoring options of the server's address", options=ignored)


def _redacted(text: str) -> str:
    """Return a text that is no address without what may be a password.

    Left out are all before the last @, what follows a colon and is no port, and values of options.
    """
    scheme, separator, rest = text.rpartition("://")
    _, at, rest = rest.rpartition("@")
    rest = re.sub(r"=[^&]*", "=***", rest)
    brackets_or_colon = r"(\[[0-9a-fA-F:.]*\])|:(?!\d{1,5}(?:[,/?]|$)).*"
    rest = re.sub(brackets_or_colon, lambda match: match[1] or ":***", rest, flags=re.S)
    return f"{scheme}{separator}{'***@' if at else ''}{rest}"


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_text(address: Address) -> str:
    host, port = address[0].replace("%", "%25"), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
