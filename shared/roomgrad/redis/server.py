"""Servers: find the one to use, connect to it, and check its version."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from roomgrad import state, variables
from roomgrad.errors import NoServer, ServerError, TLSError
from roomgrad.redis import tls
from roomgrad.redis.addresses import resolve, resolver_of
from roomgrad.redis.cluster import Cluster, ClusterPool
from roomgrad.redis.passwords import with_password_file
from roomgrad.redis.sentinels import MasterPool, Sentinels
from roomgrad.redis.server_address import AnyAddress, ServerAddress, parse

OLDEST = {"redis": (7, 2), "valkey": (8, 0)}  # 7.2 is the first with WAITAOF
HOW_TO_START = (
    "start one with `roomgrad up SYSTEM` or `docker compose up`, or name one in REDIS_URL"
)


@dataclass(frozen=True)
class Version:
    """Which server it is, and which version."""

    name: str
    number: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.number))}"

    @property
    def new_enough(self) -> bool:
        return self.number[:2] >= OLDEST[self.name]


LOADING_S = 120.0  # a large append-only file takes its time
CONNECT_TIMEOUT_S = 1.0
ANSWER_S = 30.0  # a large commit takes a server some seconds
MASTER_ANSWER_S = 6.0  # under Sentinel or in a cluster, where another one may be master by then


def connect(url: AnyAddress, password_file: str = "", answer_s: float = ANSWER_S) -> redis.Redis:
    """Return a checked connection for commands and pages.

    answer_s: a reply that takes longer counts as a lost connection; no command may block longer.

    Raises NoServer if nothing answers, TLSError if the server cannot be verified, and ServerError
    if it cannot be used.
    """
    url = parse(url)
    # Sentinels give the best reason for a failure, so ask them first.
    resolve(url, password_file=password_file)
    client = open_client(url, password_file, answer_s)
    try:
        _wait_loaded(client)
        check(client)
    except redis.AuthenticationError as error:
        raise ServerError(
            f"the server at {url} refuses the password ({error}): "
            "put it into the file that REDIS_PASSWORD_FILE names"
        ) from error
    except redis.BusyLoadingError as error:
        raise ServerError(f"the server at {url} is still loading its data: {error}") from error
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        if reason := explain_tls(error, url):
            raise reason from error
        if "max number of clients" in str(error):
            raise NoServer(
                f"the server at {url} takes no more connections ({error}): end some that are not "
                f"needed, or raise maxclients"
            ) from error
        raise NoServer(f"no server answers at {url} ({error}): {HOW_TO_START}") from error
    return client


def explain_tls(error: BaseException, address: ServerAddress) -> TLSError | None:
    """Return why a connection to this address failed, if TLS is the reason, and None otherwise."""
    server = address.hosts[0] if address.kind == "server" else None
    return tls.explain(error, server, dict(address.files), tls=address.tls)


def _wait_loaded(client: redis.Redis) -> None:
    """Wait until a server that has just started has loaded its data."""
    until = time.monotonic() + LOADING_S
    while True:
        try:
            client.ping()
        except redis.BusyLoadingError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        except redis.ResponseError:
            return  # it answers: a user without PING, or a full disk, may allow other commands
        else:
            return


def check(client: redis.Redis) -> Version | None:
    """Return the version of a server, or None if it may not be asked.

    Raises ServerError if it is too old.
    """
    try:
        found = version(client)
    except redis.ResponseError:
        return None
    if not found.new_enough:
        oldest = ".".join(map(str, OLDEST[found.name]))
        raise ServerError(
            f"the server is {found}, expected {found.name} {oldest} or newer: update it, or name "
            f"another one in REDIS_URL"
        )
    return found


def explain_refusal(error: redis.ResponseError, client: redis.Redis) -> str:
    """Return why the server refuses a command, and what helps if its memory is full."""
    if not isinstance(error, redis.exceptions.OutOfMemoryError):
        return str(error)
    try:
        memory = client.info("memory")
        used = f": {memory['used_memory']:,} of {memory['maxmemory']:,} bytes"
    except redis.RedisError:
        used = ""
    return (
        f"its memory is full{used}; nothing new is begun until some is free: delete runs that are "
        f"not needed, or raise maxmemory"
    )


def version(client: redis.Redis) -> Version:
    """Return what the server says that it is."""
    return version_in(client.info("server"))


def version_in(info: Mapping[str, Any]) -> Version:
    """Return what a server is, by its INFO."""
    name = str(info.get("server_name") or "redis")
    name = name if name in OLDEST else "redis"
    text = str(info.get(f"{name}_version") or info["redis_version"])
    return Version(name, numbers(text))


def address(given: AnyAddress = "", ca_file: str = "") -> ServerAddress:
    """Return the address to use: the given one, REDIS_URL, or the running embedded server.

    ca_file: the CA of a server that speaks TLS; REDIS_CA_FILE if empty. Raises NoServer.
    """
    if url := configured_address(given, ca_file):
        return url
    directory = state.server_directory()
    found = embedded_url(directory)
    if found is None:
        raise NoServer(
            f"no server: REDIS_URL is not set and none runs in {directory}; {HOW_TO_START}"
        )
    return parse(found)


def embedded_url(directory: Path) -> str | None:
    """Return the address of the embedded server that runs in a directory, or None.

    That is its unix socket if this program may use it: a message costs a tenth less than by TCP.
    """
    stored = read_server_file(directory)
    urls = (stored.get("local_url"), f"redis://127.0.0.1:{stored.get('port')}/0")
    # Another server may use the port by now, so the server itself has to confirm it.
    confirmed = (str(url) for url in urls if url and process_id(str(url)) == stored.get("pid"))
    return next(confirmed, None) if stored.get("pid") else None


def process_id(url: str) -> int | None:
    """Return the process that answers at an address on this machine, or None."""
    try:
        with contextlib.closing(open_client(url)) as client:
            return int(client.info("server")["process_id"])
    except redis.RedisError:
        return None


def read_server_file(directory: Path) -> dict[str, int | str | None]:
    """Return what `server.json` says of the embedded server of a directory."""
    try:
        stored: dict[str, int | str | None] = json.loads((directory / "server.json").read_text())
    except (OSError, ValueError):
        return {}
    return stored


def configured_address(given: AnyAddress = "", ca_file: str = "") -> ServerAddress | None:
    """Return the given address or REDIS_URL, with the file of its CA; None if there is none."""
    url = given or variables.get("redis_url")
    return parse(url).with_ca(ca_file or variables.get("redis_ca_file")) if url else None


def open_client(
    url: AnyAddress, password_file: str = "", answer_s: float = ANSWER_S
) -> redis.Redis:
    """Return a connection that is not checked; it connects with its first command."""
    address = parse(url)
    resolver = resolver_of(address, password_file)
    options: dict[str, Any] = {
        **address.options(),
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": answer_s if resolver is None else min(answer_s, MASTER_ANSWER_S),
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.tls:
        watched = isinstance(resolver, Sentinels)
        options["connection_class"] = (
            tls.VerifiedMasterConnection if watched else tls.VerifiedConnection
        )
    elif address.kind == "socket":
        options["connection_class"] = redis.UnixDomainSocketConnection
    options = with_password_file(options, password_file)
    if isinstance(resolver, Cluster):
        return _Redis.from_pool(ClusterPool(resolver, **options))
    if resolver is not None:
        return _Redis.from_pool(MasterPool(resolver, **options))
    return _Redis.from_pool(redis.ConnectionPool(**options))


class _Redis(redis.Redis):
    """redis-py without its retries and measurements, which take longer than the server.

    A connection that fails closes itself.
    """

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """Send a command, and return its parsed reply."""
        if self.connection is not None:
            return super().execute_command(*words, **options)  # type: ignore[no-untyped-call]
        pool: Any = self.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*words, **options)
            return self.parse_response(connection, words[0], **options)  # type: ignore[no-untyped-call]
        finally:
            pool.release(connection)


def numbers(text: str) -> tuple[int, ...]:
    """Return `7.2.5` as numbers that compare."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
