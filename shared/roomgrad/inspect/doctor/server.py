"""The checks of a server, whatever runs it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from roomgrad.inspect.doctor import settings
from roomgrad.inspect.doctor.findings import Finding, ok, problem, warning
from roomgrad.redis.addresses import redis_cli
from roomgrad.redis.disk import answers_early, is_embedded
from roomgrad.redis.server import OLDEST
from roomgrad.redis.server import check as check_version
from roomgrad.redis.server_address import ServerAddress

FULL, ALMOST_FULL = 0.95, 0.8  # of maxmemory
CLOCK_S = 1.0
MORE_CONFIG = ("save", "stop-writes-on-bgsave-error", "min-replicas-to-write", "dir")
RIGHTS = {"INFO": "+info", "CONFIG GET": "+config|get"}


@dataclass(frozen=True)
class Server:
    """What a server tells about itself. What it does not tell is missing, and never assumed."""

    client: redis.Redis
    url: ServerAddress
    info: dict[str, Any]
    config: dict[str, str]
    """Its settings, by CONFIG GET or, where that is refused, by what INFO tells of them."""

    refused: dict[str, redis.ResponseError]
    """The commands that it refused, and why."""

    @classmethod
    def ask(cls, client: redis.Redis, url: ServerAddress) -> Server:
        """Read what the checks need; note what is refused."""
        refused: dict[str, redis.ResponseError] = {}

        def read(name: str, ask: Callable[[], Any]) -> dict[str, Any]:
            try:
                return dict(ask())
            except redis.ResponseError as error:  # forbidden, or a command that it does not have
                refused[name] = error
                return {}

        names = settings.NAMES + MORE_CONFIG
        info = read("INFO", client.info)
        config = read("CONFIG GET", lambda: client.config_get(*names))
        texts = {_text(name): _text(value) for name, value in config.items()}
        return cls(client, url, info, settings.by_info(info) | texts, refused)

    @property
    def command(self) -> str:
        """How to run a command on it; redis-cli takes a password from REDISCLI_AUTH."""
        return redis_cli(self.url, "")

    def set(self, name: str, value: object) -> str:
        """Return how to change a setting."""
        if "CONFIG GET" in self.refused:
            return f"set {name} to {value} where this server is configured; it refuses CONFIG"
        return f"{self.command} CONFIG SET {name} {value}"


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def version(server: Server) -> Iterator[Finding]:
    """Report the version; one that is too old was already refused on connecting."""
    oldest = " or ".join(f"{name} {'.'.join(map(str, least))}" for name, least in OLDEST.items())
    found = check_version(server.client)
    if found is None:
        do = "let this user run INFO, or check it yourself"
        yield warning("version", "INFO is not allowed", f"{oldest} or newer", do)
    else:
        yield ok("version", str(found))


def refusals(server: Server) -> Iterator[Finding]:
    """Report the commands that the server refused, so that their answers cannot be checked."""
    for name, error in server.refused.items():
        do = f"{server.command} ACL SETUSER NAME {RIGHTS[name]}; or connect as another user"
        if not isinstance(error, redis.exceptions.NoPermissionError):  # as managed servers do
            do = "compare its settings with deploy/redis/redis.conf where it is configured"
        found = f"it is refused ({error}): what it would tell is unknown"
        yield warning(name, found, "an answer", do)


def configuration(server: Server) -> Iterator[Finding]:
    """Check the settings that can lose data."""
    return settings.check(server.config, server.set)


def memory(server: Server) -> Iterator[Finding]:
    """Check the memory: a server that is full refuses all commits."""
    if not {"maxmemory", "used_memory"} <= server.info.keys():
        yield from unknown(server, "memory")
        return
    most, used = int(server.info["maxmemory"]), int(server.info["used_memory"])
    if not most:
        yield ok("memory", f"{used:,} bytes, without a limit")
        return
    full = "full: messages that open a root wait, begun work goes on; " if used >= most else ""
    found = f"{full}{used:,} of {most:,} bytes"
    do = f"{server.set('maxmemory', 2 * most)}; or delete runs that are not needed"
    if used >= ALMOST_FULL * most:
        level = problem if used >= FULL * most else warning
        yield level("memory", found, f"less than {ALMOST_FULL:.0%} of maxmemory", do)
    else:
        yield ok("memory", found)


def unknown(server: Server, about: str) -> Iterator[Finding]:
    """Report what INFO does not tell, unless INFO itself is refused, which is a finding already."""
    if server.info:
        yield warning(about, "unknown: INFO does not tell", "an answer", "ask who runs the server")


def disk(server: Server) -> Iterator[Finding]:
    """Check whether the last writes to the disk succeeded; a file that is off has no status."""
    stops = server.config.get("stop-writes-on-bgsave-error", "yes") == "yes"
    stops = stops and bool(server.config.get("save", "yes"))
    writes = server.config.get("appendonly") != "no"
    for field, about, written, level, do in (
        ("aof_last_write_status", "append-only file", writes, problem, "INFO persistence"),
        ("aof_last_bgrewrite_status", "rewriting the file", writes, warning, "BGREWRITEAOF"),
        ("rdb_last_bgsave_status", "snapshot", True, problem if stops else warning, "BGSAVE"),
    ):
        status = server.info.get(field)
        if status == "ok" and written:
            yield ok(about, "no write has failed")
        elif status not in ("ok", None):
            refuses = ", and it refuses all commits until one succeeds" if level is problem else ""
            yield level(
                about,
                f"the last write failed ({field} is {status}){refuses}",
                "ok",
                f"{server.command} {do}; but first repair its disk; its log says what is wrong",
            )


def cut_off(server: Server) -> Iterator[Finding]:
    """Report that an embedded server of this machine has cut damage off its file at its start."""
    directory, pid = Path(server.config.get("dir", "")), server.info.get("process_id")
    if not is_embedded(directory, pid):
        return
    with (directory / "server.log").open(errors="replace") as lines:
        found = [each for each in lines if each.startswith(f"{pid}:") and "Truncating" in each]
    for each in found:
        text = each.partition("#")[2].strip(" !\n")
        do = "nothing: what was cut off is done again; outside senders send again what they miss"
        yield warning("append-only file", f"its end was damaged: {text}", "a whole file", do)


def acknowledged(server: Server) -> Iterator[Finding]:
    """Check WAITAOF, which tells when labels and pointers to snapshots are on disk."""
    if server.info.get("role") == "slave":
        return  # a replica accepts no writes
    expected = "an answer, which tells when labels and pointers to snapshots are on disk"
    try:
        server.client.waitaof(1, 0, 1)
    except redis.exceptions.NoPermissionError as error:
        do = f"{server.command} ACL SETUSER NAME +waitaof"
        yield warning("WAITAOF", str(error), expected, do)
    except redis.ResponseError as error:
        if "appendonly" not in str(error):
            do = "labels and snapshots count before they are on disk: use a server that has it"
            yield warning("WAITAOF", str(error), expected, do)
        elif "appendonly" not in server.config:
            yield from settings.check({"appendonly": "no"}, server.set)
    else:
        yield _early(server, expected) or ok("WAITAOF", "allowed")


def _early(server: Server, expected: str) -> Finding | None:
    """Return a warning if the answer comes before the disk has what it is about."""
    found = check_version(server.client)
    directory, pid = Path(server.config.get("dir", "")), server.info.get("process_id")
    is_synced = server.config.get("appendfsync") == "always" or is_embedded(directory, pid)
    if found is None or not answers_early(found) or is_synced:
        return None
    do = f"{server.set('appendfsync', 'always')}; or use Redis 8, whose answer is right"
    text = f"{found} answers up to a second before labels and pointers are on disk"
    return warning("WAITAOF", text, expected, do)


def clock(server: Server, now: Callable[[], float] = time.time) -> Iterator[Finding]:  # noqa: TID251
    """Compare the clocks: a run uses the server's, log lines show this machine's."""
    before = now()
    try:
        seconds, micros = server.client.time()
    except redis.ResponseError as error:
        yield warning("clock", str(error), "TIME", f"{server.command} ACL SETUSER NAME +time")
        return
    after = now()
    ahead = int(seconds) + int(micros) / 1e6 - (before + after) / 2
    if abs(ahead) > CLOCK_S + (after - before) / 2:
        where = "ahead of" if ahead > 0 else "behind"
        yield warning(
            "clock",
            f"{abs(ahead):.1f} s {where} this machine's",
            f"{CLOCK_S:.0f} s at most",
            "set both machines by NTP: timedatectl set-ntp true",
        )
    else:
        yield ok("clock", "agrees with this machine's")


def replication(server: Server) -> Iterator[Finding]:
    """Check replication: a replica refuses commits; a failover loses unreplicated writes."""
    info = server.info
    if info.get("role") == "slave":
        master = f"redis://{info.get('master_host')}:{info.get('master_port')}"
        yield problem(
            "replication",
            f"it is a replica of {master}, and refuses all commits",
            "a master",
            f"connect to its master: REDIS_URL={master}/0",
        )
    elif "connected_slaves" not in info:
        yield from unknown(server, "replication")
    elif info["connected_slaves"] and server.config.get("min-replicas-to-write") == "0":
        yield warning(
            "replication",
            f"{info['connected_slaves']} replicas, and commits wait for none of them (min-replicas-"
            f"to-write is 0): a failover may lose what was acknowledged",
            "min-replicas-to-write 1 or more",
            server.set("min-replicas-to-write", 1),
        )
    else:
        yield ok("replication", f"{info['connected_slaves']} replicas")


CHECKS = (
    version,
    refusals,
    configuration,
    memory,
    disk,
    cut_off,
    acknowledged,
    clock,
    replication,
)


def findings(server: Server) -> list[Finding]:
    """Return what all checks find."""
    return [finding for check in CHECKS for finding in check(server)]
