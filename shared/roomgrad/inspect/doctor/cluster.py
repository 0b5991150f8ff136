"""What is looked at on a cluster: whether it serves all slots, and each of its masters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import redis

from roomgrad.inspect.doctor import server
from roomgrad.inspect.doctor.findings import Finding, ok, problem
from roomgrad.redis.addresses import located
from roomgrad.redis.cluster import SLOTS, address_of, each_master


def findings(client: redis.Redis, url: str) -> list[Finding]:
    """What all checks have found; those of a master begin with where it is."""
    found = list(whole(client, url))
    for master in each_master(client):
        place = address_of(master)
        asked = server.Server.ask(master, located(url, place))
        where = f"{place[0]}:{place[1]}"
        found += [replace(each, about=f"{where} {each.about}") for each in server.findings(asked)]
    return found


def whole(client: redis.Redis, url: str) -> Iterator[Finding]:
    """A cluster that lacks a slot refuses everything, unless it is told otherwise."""
    info: Any = client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
    lines = (line.split(":", 1) for line in info.decode().split("\r\n") if ":" in line)
    said = dict(lines)
    served = f"{said['cluster_slots_ok']} of {SLOTS} slots served"
    if said["cluster_state"] == "ok" and int(said["cluster_slots_ok"]) == SLOTS:
        yield ok("cluster", served)
    else:
        host, port = address_of(client)
        do = f"see redis-cli --cluster check {host}:{port}; --cluster fix mends what it can"
        yield problem("cluster", f"{said['cluster_state']}, {served}", "all of them", do)
