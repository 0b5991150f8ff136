"""A guest on every kind of server: with users, over TLS, under Sentinel, on a Cluster."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import redis
import torch
from numpy.typing import NDArray

from roomgrad import AsyncClient, Message
from roomgrad.cli import doctor
from roomgrad.component import Component
from roomgrad.errors import NoAnswer, RoomgradError, ServerError
from roomgrad.names import Names
from roomgrad.ops import acl
from roomgrad.ops.acl import Grants
from roomgrad.redis.addresses import for_run
from roomgrad.redis.client import Client
from roomgrad.redis.guest_client import GuestClient
from roomgrad.redis.server import connect
from roomgrad.redis.server_address import parse
from roomgrad.rooms import System
from roomgrad.schema import Declaration
from roomgrad.serving.serve import Offer, component_of
from roomgrad.torch import Through
from tests.integration.clusters import ClusterSet
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.guests.squares import SQUARES, A, C, component, opened
from tests.integration.guests.test_guest_client import (
    QUICK_LEASE_S,
    assert_nothing_is_left,
    left_of,
    memories,
    round_trip,
)
from tests.integration.sentinels import SentinelSet
from tests.integration.tls_server import start_tls_server
from tests.waiting import LIMIT_S, until

pytestmark = pytest.mark.timeout(180)

LOST = (RoomgradError, redis.RedisError)  # of a root whose message may be lost with its master


def serve(run: EchoRun) -> None:
    for name in SQUARES.components:
        run.start(component(name), max_deliveries=2)


# users


class Users:
    """The users of a run, each with the rights that `roomgrad acl` gives."""

    def __init__(self, run: EchoRun) -> None:
        self._run = run
        self.make(SQUARES, {name: component(name) for name in SQUARES.components})
        run.client.execute_command("ACL", "LOG", "RESET")

    def make(self, system: System, components: Mapping[str, Component]) -> None:
        for name, each in components.items():
            grants = acl.of_component(system, name, Declaration.of(each), self._run.names)
            self._make(name, grants)
        self._make("guest", acl.of_any_client(system, self._run.names))

    def _make(self, name: str, grants: Grants) -> None:
        rules = re.findall(r"\([^)]*\)|\S+", grants.rules())
        self._run.client.execute_command("ACL", "SETUSER", name, "on", ">secret", *rules)

    def url(self, name: str) -> str:
        return self._run.url.replace("redis://", f"redis://{name}:secret@")

    def refused(self) -> list[bytes]:
        return [entry[7] for entry in self._run.client.execute_command("ACL", "LOG")]


@pytest.fixture
def users(own_echo: EchoRun) -> Users:
    made = Users(own_echo)
    for name in SQUARES.components:
        own_echo.start(component(name), url=made.url(name), max_deliveries=2)
    return made


def test_the_user_guest_has_the_rights_that_it_needs(own_echo: EchoRun, users: Users) -> None:
    """Also if its root is given up, nothing answers, or it dies: nothing is refused."""
    run, url = own_echo.names.run, users.url("guest")
    through = Through(SQUARES, "a", "c", run=run, redis_url=url, timeout_s=LIMIT_S)
    x = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    through(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [32.0]
    with pytest.raises(NoAnswer, match="negative numbers are not squared here"):
        through(torch.tensor([-1.0]))
    through(torch.ones(1))  # is given up
    through.close()
    with Client(SQUARES, run, url) as client:
        guest = GuestClient(client, "short", lease_s=QUICK_LEASE_S)
        guest.open(root := opened(2.0), C)
        guest.wait(root.root_id, timeout_s=LIMIT_S)
        with pytest.raises(NoAnswer, match="lead no further"):
            guest.wait(root.root_id, timeout_s=0.1)
        guest.open(opened(3.0), C)
        guest._closed.set()  # it hangs
        until(lambda: not left_of(own_echo, "short"))
    until(lambda: memories(own_echo) == 0)
    assert users.refused() == []


def cube(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x**3


def test_rules_that_were_made_before_a_component_joined_are_found(
    own_echo: EchoRun, users: Users
) -> None:
    """By `serve`, by `doctor`, and by the guest whose message is refused."""
    client, names = own_echo.client, own_echo.names
    said: list[str] = []
    offer = Offer(cube, "c", "d", {"check": False})
    joined = component_of(client, names, offer, said.append)
    assert said[1] == (
        "warning: the users first, guest, second may not write to cube: if a component has joined "
        f"since the server's users were made, `roomgrad acl --run {names.run}` makes their rules "
        "anew, once this one has started"
    )
    own_echo.start(joined)
    found = doctor.examine(client, parse(own_echo.url), names.run)
    (finding,) = [each for each in found if each.about == "users"]
    assert finding.found.startswith("first, guest, second may not write to cube")
    assert finding.do.startswith(f"roomgrad acl --run {names.run} prints them")
    through = Through(names.run, "a", "d", redis_url=users.url("guest"), timeout_s=LIMIT_S)
    x = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    with pytest.raises(ServerError, match=f"`roomgrad acl --run {names.run}` makes their rules"):
        through(x).sum().backward()
    users.make(joined.system, {name: component(name) for name in SQUARES.components})
    assert not [
        each
        for each in doctor.examine(client, parse(own_echo.url), names.run)
        if each.about == "users"
    ]
    through(x).sum().backward()
    through.close()


FORBIDDEN = [
    ["HGETALL", "memory:first"],
    ["HSET", "run", "token", "x"],
    ["XREADGROUP", "GROUP", "first", "x", "STREAMS", "a:DATA/FORWARD", ">"],
    ["XRANGE", "dead", "-", "+"],
    ["XADD", "dead", "*", "m", "{}"],
    ["DEL", "a:DATA/FORWARD"],
    ["SUBSCRIBE", "a"],
    ["DEL", "alive:first~1"],
    ["FLUSHALL"],
    ["KEYS", "*"],
]


@pytest.mark.parametrize("command", FORBIDDEN, ids=lambda each: " ".join(each)[:40])
def test_the_user_guest_has_no_other_rights(
    own_echo: EchoRun, users: Users, command: list[str]
) -> None:
    streams = {"a", "dead", "run"} | {each.split(":")[0] for each in ("memory:", "alive:")}
    words = [
        own_echo.names.prefix() + word if re.split(r"[:~]", word)[0] in streams else word
        for word in command
    ]
    refused = pytest.raises(redis.exceptions.NoPermissionError)
    with contextlib.closing(connect(users.url("guest"))) as client, refused:
        client.execute_command(*words)


# TLS


@pytest.mark.docker
def test_over_tls(tmp_path: Path) -> None:
    for server in start_tls_server(tmp_path):
        for run in make_echo_run(server.url()):
            serve(run)
            with Client(SQUARES, run.names.run, run.url) as client, GuestClient(client) as guest:
                assert round_trip(guest, 1.0, 2.0).array.tolist() == [4.0, 32.0]
            assert_nothing_is_left(run, guest.name)


# masters that die


def train_through(run: EchoRun, upset: Callable[[], None], elected: Callable[[], object]) -> None:
    """Train while the master is replaced: roots may be lost with it, and the guest goes on."""
    with Client(SQUARES, run.names.run, run.url) as client, GuestClient(client) as guest:
        for _ in range(5):
            round_trip(guest, 2.0)
        roots = [opened(float(n)) for n in range(20)]
        for root in roots:
            guest.open(root, C)
        upset()
        for number, root in enumerate(roots):
            with contextlib.suppress(*LOST):
                answer = guest.wait(root.root_id, timeout_s=5.0)
                assert answer.array.tolist() == [float(number) ** 4]
        elected()

        def works() -> bool:
            with contextlib.suppress(*LOST):
                return round_trip(guest, 3.0).array.tolist() == [108.0]
            return False

        until(works)
        for _ in range(5):
            round_trip(guest, 2.0)


def assert_quiet(run: EchoRun, client: redis.Redis) -> None:
    """Assert that no component remembers anything. client: of the new master."""
    run.client = client
    until(lambda: memories(run) == 0)
    assert run.dead_letters() == []


def test_under_sentinel_it_goes_on_at_the_next_master(tmp_path: Path) -> None:
    with SentinelSet(tmp_path) as servers:
        for run in make_echo_run(servers.url):
            serve(run)
            train_through(run, servers.kill_master, servers.wait_elected)
            with contextlib.closing(servers.client()) as client:
                assert_quiet(run, client)


@pytest.fixture
def cluster_run(tmp_path: Path) -> Iterator[tuple[ClusterSet, EchoRun]]:
    with ClusterSet(tmp_path) as servers, contextlib.ExitStack() as stack:
        run = f"squares-{secrets.token_hex(4)}"
        client = stack.enter_context(contextlib.closing(connect(for_run(servers.url, run))))
        yield servers, EchoRun(servers.url, client, Names(run), stack)


@pytest.mark.slow
def test_on_a_cluster_it_goes_on_at_the_next_master(
    cluster_run: tuple[ClusterSet, EchoRun],
) -> None:
    servers, run = cluster_run
    name = run.names.run
    serve(run)
    train_through(run, lambda: servers.kill_master(name), lambda: servers.wait_elected(name))
    with contextlib.closing(servers.client(name)) as client:
        assert_quiet(run, client)


def test_on_a_cluster_its_slot_may_move(cluster_run: tuple[ClusterSet, EchoRun]) -> None:
    servers, run = cluster_run
    serve(run)
    with Client(SQUARES, run.names.run, run.url) as client, GuestClient(client) as guest:
        guest.open(root := opened(2.0), C)
        servers.move(run.names.run)
        assert guest.wait(root.root_id, timeout_s=LIMIT_S).array.tolist() == [16.0]
        assert round_trip(guest, 1.0, 2.0).array.tolist() == [4.0, 32.0]

    async def ask() -> list[Message]:
        async with AsyncClient(SQUARES, run.names.run, run.url) as rooms:
            asked = (rooms.ask(A, [n], answer=C, timeout_s=LIMIT_S) for n in range(50))
            moved = asyncio.to_thread(servers.move, run.names.run)
            _, *found = await asyncio.gather(moved, *asked)
        return found

    assert [each.array.item() for each in asyncio.run(ask())] == [n**4 for n in range(50)]
