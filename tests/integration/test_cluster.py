"""On a Redis Cluster: slots that move and masters that die while messages are under way."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
import pytest
import redis
import structlog

from roomgrad import Context, Message
from roomgrad.codec import pack
from roomgrad.errors import NoServer
from roomgrad.inspect.keys import runs_on
from roomgrad.names import Names
from roomgrad.redis.addresses import for_run, resolve
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.runtime import runs
from roomgrad.web.dashboard.server import DashboardServer
from roomgrad.web.dashboard.settings import DashboardSettings
from tests.integration.clusters import ClusterSet, names_on, node_alone
from tests.integration.conftest import EchoRun
from tests.integration.echo import (
    ECHO,
    FORWARD,
    INPUT,
    OUTPUT,
    REPLIES,
    REQUESTS,
    echo_component,
    numbers,
)
from tests.integration.sender import Sender
from tests.pages.melody.labelling_run import free_port
from tests.roomgrad_command import roomgrad
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    with ClusterSet(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def echo(servers: ClusterSet) -> Iterator[EchoRun]:
    """Yield a run on a cluster, of which it knows only some nodes, and a client that follows it."""
    run = f"input-{secrets.token_hex(4)}"
    url = "redis+cluster://" + ",".join(f"{host}:{port}" for host, port in servers.places[:2])
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(connect(for_run(url, run))))
        yield EchoRun(url, client, Names(run), stack)


def tally(message: Message, context: Context) -> Message:
    """Repeats, counts, and moves one record: the hash is empty in the middle of each commit."""
    memory = context.memory
    context.counters.add("received")
    reply = message.reply(OUTPUT, message.array * 2)
    if before := context.table("tally").get("last"):
        memory.delete(str(before["id"]))
    memory.put(message.id, number=1)
    context.table("tally").put("last", id=message.id)
    return reply


def roots(echo: EchoRun, key: str) -> list[str]:
    return [fields[b"ROOT_ID"].decode() for _, fields in patient(lambda: echo.client.xrange(key))]


def patient(ask: Callable[[], Any]) -> Any:
    """An answer, however often the master is another one."""
    until_s = time.monotonic() + 20
    while True:
        try:
            return ask()
        except (redis.ConnectionError, redis.TimeoutError):
            if time.monotonic() > until_s:
                raise
            time.sleep(0.05)


def assert_once(echo: EchoRun, told: list[str]) -> int:
    """Every message that the cluster holds has had each of its effects once; how many it lacks."""
    heard_key, said_key = (echo.names.stream(*stream.key) for stream in (REQUESTS, REPLIES))
    heard = roots(echo, heard_key)
    until(lambda: len(roots(echo, said_key)) >= len(heard))
    until(lambda: patient(lambda: echo.pending()) == 0)
    assert Counter(roots(echo, said_key)) == Counter(heard)
    assert echo.counter("received") == len(heard) == len(set(heard))
    assert not echo.client.exists(echo.names.dead())
    assert echo.client.hlen(echo.names.memory("echo")) == 1
    return len(set(told) - set(heard))


def test_a_run_works_on_a_cluster_and_rings_on_its_shard(
    echo: EchoRun, servers: ClusterSet
) -> None:
    """SSUBSCRIBE hears each message, SUBSCRIBE none; the run is among those of all masters."""
    replica = echo.start(echo_component())
    channel = echo.names.channel("output")
    with servers.client(echo.names.run) as node, node.pubsub() as plain, node.pubsub() as sharded:
        plain.subscribe(channel)
        sharded.ssubscribe(channel)
        assert plain.get_message(timeout=5)["type"] == "subscribe"
        assert sharded.parse_response()[0] == b"ssubscribe"
        said = echo.wait_reply(echo.send(1, 2))
        assert said.array.tolist() == [2, 4]
        kind, where, ring = sharded.parse_response()
        assert (kind, where) == (b"smessage", channel.encode())
        assert orjson.loads(ring)["ID"] == said.id
        assert plain.get_message(timeout=0.2) is None
    assert echo.names.run in runs_on(echo.client)
    assert replica.status.commits == 1
    with Client(ECHO, echo.names.run, echo.url) as client:
        reply = client.ask(INPUT, FORWARD, numbers(3), answer=(OUTPUT, FORWARD))
        assert reply.array.tolist() == [6]
    assert runs.delete(echo.client, echo.names) > 5


def test_what_is_published_by_hand_is_taken_once(echo: EchoRun, servers: ClusterSet) -> None:
    """By SPUBLISH, heard by two replicas; what is no message is answered with the right command."""
    for _ in range(2):
        echo.start(echo_component())
    channel = echo.names.channel("input")
    body = {"ID": "my-1", "ROOT_ID": "my-1", "TYPE": "DATA/FORWARD", "MODEL_STATUS": 2}
    with servers.client(echo.names.run) as node:
        until(lambda: node.execute_command("PUBSUB", "SHARDNUMSUB", channel)[1] == 2)
        for _ in range(2):
            assert node.spublish(channel, orjson.dumps({**body, "DATA": [1.0]})) == 2
        node.spublish(channel, b"hello")
        errors = echo.names.stream("errors", "LOG/ERROR")
        until(lambda: echo.reply_count() == 1 and node.xlen(errors) == 1)
        assert f"SPUBLISH '{channel}'".encode() in node.xrange(errors)[0][1][b"m"]
        until(lambda: echo.counter("received") == 1)


def test_a_slot_that_moves_in_the_middle_of_work_loses_nothing(
    echo: EchoRun, servers: ClusterSet
) -> None:
    """Twice, the second time slowly: every message takes effect once, and nothing is half done."""
    for _ in range(2):
        echo.start(echo_component(tally))
    run = echo.names.run
    with Sender(echo, patience_s=30.0) as sender:
        sender.wait(100)
        for pause_s in (0.0, 1.0):
            before = servers.master_of(run)
            servers.move(run, pause_s=pause_s)
            assert servers.master_of(run) != before
            sender.wait(100)
    assert assert_once(echo, sender.told) == 0
    channel = echo.names.channel("input")
    with servers.client(run) as node:  # the subscriptions have moved, too
        until(lambda: node.execute_command("PUBSUB", "SHARDNUMSUB", channel)[1] == 2)


def test_a_commit_waits_while_its_slot_is_on_the_way(echo: EchoRun, servers: ClusterSet) -> None:
    """Scripts do not roll back: one that empties a key and fills it again must not begin then."""
    echo.start(echo_component(tally))
    echo.wait_reply(echo.send(1))
    with servers.half_moved(echo.names.run):
        message = Message.open(INPUT, numbers(2))
        with (
            Client(ECHO, echo.names.run, echo.url, patience_s=0.5) as client,
            pytest.raises(redis.ConnectionError, match="TRYAGAIN the slot of"),
        ):
            client.send(message)
        assert echo.counter("received") == echo.reply_count() == 1
    assert not echo.client.exists(echo.names.here())
    echo.wait_reply(echo.send(3))
    assert echo.counter("received") == echo.reply_count() == 2
    assert echo.client.hlen(echo.names.memory("echo")) == 1


def test_housekeeping_tells_once_that_its_slot_is_on_the_way(
    echo: EchoRun, servers: ClusterSet
) -> None:
    """However many heartbeats fail meanwhile."""
    replica = echo.start(echo_component())
    failed: set[float] = set()

    def several_failed() -> bool:
        if unsent := replica.status.unsent:
            failed.add(unsent.at)
        return len(failed) >= 4

    with structlog.testing.capture_logs() as logs, servers.half_moved(echo.names.run):
        echo.client.delete(echo.names.alive(replica.consumer))
        until(several_failed)
    told = [each["reason"] for each in logs if each["event"].startswith("housekeeping lost")]
    assert len(told) == len(set(told)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("upset", ["kill_master", "freeze_master"])
def test_a_master_that_dies_in_the_middle_of_work_is_replaced(tmp_path: Path, upset: str) -> None:
    """What its replica holds takes effect exactly once, and soon after it is promoted."""
    with ClusterSet(tmp_path) as servers, contextlib.ExitStack() as stack:
        run = "input"
        client = stack.enter_context(contextlib.closing(connect(for_run(servers.url, run))))
        echo = EchoRun(servers.url, client, Names(run), stack)
        for _ in range(2):
            echo.start(echo_component(tally), block_s=0.5)
        with Sender(echo, patience_s=30.0) as sender:
            sender.wait(200)
            old = getattr(servers, upset)(run)
            servers.wait_elected(run)
            elected = time.monotonic()
            sender.wait(1)
            seconds = time.monotonic() - elected
            print(f"{upset}: {seconds:.2f} s from the election until a message stands")
            assert seconds < 5
            sender.wait(50)
            if upset == "freeze_master":
                servers.thaw(old)
                sender.wait(50)
        lost = assert_once(echo, sender.told)
        print(f"stored {len(sender.told)}, lost by replication {lost}, lost by roomgrad 0")
        assert lost <= 20


def test_why_there_is_no_server_is_one_sentence(tmp_path: Path, embedded_url: str) -> None:
    """No cluster, and one that does not serve the slot."""
    host = embedded_url.partition("//")[2].partition("/")[0]
    with pytest.raises(NoServer, match="this is not a cluster: name such a server as redis://"):
        connect(f"redis+cluster://{host}")
    with node_alone(tmp_path) as place:
        url = for_run(f"redis+cluster://{place[0]}:{place[1]}", "night")
        with pytest.raises(NoServer, match=r"slot \d+ of run 'night' is served by no node"):
            resolve(url)
        with redis.Redis(port=place[1]) as node:
            node.config_set("requirepass", "secret")
        with pytest.raises(NoServer, match=r"refuse the password, .*Authentication required"):
            resolve(url)
        (tmp_path / "password").write_text("secret\n")
        with pytest.raises(NoServer, match=r"slot \d+ of run 'night' is served by no node"):
            connect(url, str(tmp_path / "password"))


def test_commands_find_runs_wherever_they_are(servers: ClusterSet) -> None:
    """Three runs on three masters: each command goes to the node of the run that it means."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(structlog.testing.capture_logs())  # they would stand in between
        stem, echoes, zeros = secrets.token_hex(4), [], {}
        for master in servers.masters():
            names = names_on(servers, master, 1, stem)[0]
            client = connect(for_run(servers.url, names.run))
            stack.enter_context(contextlib.closing(client))
            echoes.append(EchoRun(servers.url, client, names, stack))
        for echo in echoes:
            echo.start(echo_component(fail_at_zero), max_deliveries=1)
            echo.wait_reply(echo.send(1))
            zeros[echo.names.run] = echo.send(0).root_id
            until(lambda echo=echo: len(echo.dead_letters()) == 1)  # type: ignore[misc]
        for echo in echoes:
            run = echo.names.run
            replicas = said("ps", run, servers)["replicas"]
            assert "echo" in {each["component"] for each in replicas if each["alive"]}
            assert said("echo input --last 1 --count 1", run, servers)["DATA"] == [0]
            traced = said(f"trace {zeros[run]}", run, servers)
            assert traced["root_id"] == zeros[run]
        assert said("info input", run, servers)["subscribers"] == 1
        assert "input" in {each["room"] for each in said("lag", run, servers)["groups"]}
        assert len(said("dead list", run, servers)["letters"]) == 1
        assert run in {each["run"] for each in said("doctor", run, servers)["findings"]}
        before = echoes[-1].client.xrange(echoes[-1].names.dead())
        assert call("dead requeue --all", run, servers).returncode == 0
        until(lambda: len(echoes[-1].dead_letters()) == 1)  # and given up again
        assert echoes[-1].client.xrange(echoes[-1].names.dead()) != before
        which = call("ps", "", servers).stderr
        assert all(echo.names.run in which for echo in echoes)
        everywhere = json.loads(call("doctor --json", "", servers).stdout)["findings"]
        assert {echo.names.run for echo in echoes} <= {each["run"] for each in everywhere}
        assert "cluster" in {each["about"] for each in everywhere}


def test_the_dashboard_shows_runs_wherever_they_are(servers: ClusterSet) -> None:
    """All of them are in its list, and what is asked of one is asked of its node."""
    stem = secrets.token_hex(4)
    names = [names_on(servers, master, 1, stem)[0] for master in servers.masters()]
    for each in names:
        with servers.client(each.run) as node:
            runs.register(node, each, "trainer", {})
            node.hset(each.table("losses"), "0", pack({"step": 7, "loss": 5.0}))
    site = DashboardServer(DashboardSettings(port=free_port(), every_s=0.2), servers.url)
    thread = threading.Thread(target=site.serve, daemon=True)
    thread.start()
    try:
        until(lambda: site.is_serving)
        assert {each.run for each in names} <= set(fetched(site, "runs")["runs"])
        for each in names:
            (curve,) = fetched(site, f"training?run={each.run}")["curves"]
            assert curve["points"] == [[7, 5.0]]
    finally:
        site.stop()
        thread.join(60)


def fetched(site: DashboardServer, path: str) -> Any:
    with urlopen(f"{site.url.partition('?')[0]}api/{path}", timeout=10) as answer:
        return json.load(answer)


def fail_at_zero(message: Message, context: Context) -> Message:
    if not message.array[0]:
        raise ValueError("zero")
    return message.reply(OUTPUT, message.array)


def call(words: str, run: str, servers: ClusterSet) -> subprocess.CompletedProcess[str]:
    option = ["--run", run] if run else []
    return roomgrad(*words.split(), *option, "--redis", servers.url)


def said(words: str, run: str, servers: ClusterSet) -> Any:
    """What a command says as JSON."""
    result = call(f"{words} --json", run, servers)
    assert result.stdout, result.stderr
    return json.loads(result.stdout)
