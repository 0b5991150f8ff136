"""The checks of a cluster: whether it serves all slots, and each of its masters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import redis

from roomgrad.inspect.doctor import server
from roomgrad.inspect.doctor.findings import Finding, ok, problem, warning
from roomgrad.redis.addresses import redis_cli, resolve
from roomgrad.redis.cluster import SLOTS, address_of, each_master
from roomgrad.redis.server_address import ServerAddress


def findings(client: redis.Redis, url: ServerAddress) -> list[Finding]:
    """Return what all checks find; findings about a master begin with its address."""
    try:
        found = list(whole(client))
    except redis.ResponseError as error:
        do = f"{redis_cli(url, '')} ACL SETUSER NAME +cluster|info"
        found = [warning("cluster", f"unknown: {error}", "an answer to CLUSTER INFO", do)]
    for master in each_master(client):
        host, port = address_of(master)
        asked = server.Server.ask(master, resolve(url, (host, port)))
        where = f"{host}:{port}"
        found += [replace(each, about=f"{where} {each.about}") for each in server.findings(asked)]
    return found


def whole(client: redis.Redis) -> Iterator[Finding]:
    """Check that all slots are served; otherwise a cluster refuses all commands by default."""
    info: Any = client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
    lines = (line.split(":", 1) for line in info.decode().split("\r\n") if ":" in line)
    state = dict(lines)
    served = f"{state['cluster_slots_ok']} of {SLOTS} slots served"
    if state["cluster_state"] == "ok" and int(state["cluster_slots_ok"]) == SLOTS:
        yield ok("cluster", served)
    else:
        host, port = address_of(client)
        do = f"see redis-cli --cluster check {host}:{port}; --cluster fix repairs what it can"
        yield problem("cluster", f"{state['cluster_state']}, {served}", "all of them", do)
