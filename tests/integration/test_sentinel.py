"""Under Sentinel: masters that die, freeze and are replaced while messages are under way."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import structlog

from roomgrad import Context, Message
from roomgrad.errors import NoAnswer, NoServer, ServerError
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.testing import wait_for
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.echo import (
    ECHO,
    FORWARD,
    INPUT,
    OUTPUT,
    REPLIES,
    REQUESTS,
    echo_component,
    listener,
    numbers,
)
from tests.integration.sender import Sender
from tests.integration.sentinels import SentinelSet
from tests.waiting import until

FORGIVEN = (redis.RedisError, ServerError)  # of a message that may be lost with its master
BACK_S = 5.0  # from the election until a message is answered again; measured is some 0.3 s


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[SentinelSet]:
    with SentinelSet(tmp_path) as found:
        yield found


@pytest.fixture
def echo(servers: SentinelSet) -> Iterator[EchoRun]:
    """A run of the echo system that knows its servers by the sentinels alone."""
    yield from make_echo_run(servers.url)


def tally(message: Message, context: Context) -> Message:
    """Repeats, and counts in a table too, of which every replica caches what it wrote last."""
    table = context.table("tally")
    number = (table.get("received") or {"number": 0})["number"]
    table.put("received", number=number + 1)
    context.counters.add("received")
    return message.reply(OUTPUT, message.array * 2)


def roots(client: redis.Redis, key: str) -> list[str]:
    return [fields[b"ROOT_ID"].decode() for _, fields in client.xrange(key)]


def assert_once(echo: EchoRun, servers: SentinelSet, told: list[str]) -> int:
    """Every message that the new master holds has had each of its effects once.

    Answers how many it does not hold of those that the client was told to stand.
    """
    with contextlib.closing(servers.client()) as client:
        keys = [echo.names.stream(*stream.key) for stream in (REQUESTS, REPLIES)]
        heard = roots(client, keys[0])
        until(lambda: len(roots(client, keys[1])) >= len(heard))
        assert_counted(echo, client, len(heard))
        assert Counter(roots(client, keys[1])) == Counter(heard)
        lost = len(set(told) - set(heard))
        print(f"stored {len(told)}, lost by replication {lost}, lost by roomgrad 0")
    return lost


def assert_counted(echo: EchoRun, client: redis.Redis, count: int) -> None:
    """So many messages were handled, each once, and none is a dead letter."""
    key = echo.names.stream(*REQUESTS.key)
    until(lambda: client.xpending(key, "echo")["pending"] == 0)
    assert int(client.hget(echo.names.counters("echo"), "received") or 0) == count
    entry = client.hget(echo.names.table("tally"), "received") or b""
    assert b'"number":%d' % count in entry
    assert not client.exists(echo.names.dead())


def measured(echo: EchoRun, servers: SentinelSet) -> float:
    """Seconds from the election until a message that is sent then is answered by the new master.

    A sentinel that has not heard of it yet may send the first ones astray.
    """
    servers.wait_elected()
    elected = time.monotonic()
    with contextlib.closing(servers.client()) as client:
        until(lambda: answered(echo, client))
    return time.monotonic() - elected


def answered(echo: EchoRun, client: redis.Redis) -> bool:
    message = said(echo)
    with contextlib.suppress(NoAnswer):
        if message is not None:
            wait_for(client, echo.names, REPLIES, root_id=message.root_id, timeout_s=0.3)
            return True
    return False


def said(echo: EchoRun) -> Message | None:
    with contextlib.suppress(redis.RedisError, ServerError):
        return echo.send(1)
    return None


# Whoever turns a living master over by hand loses what that takes until it becomes a replica.
@pytest.mark.parametrize(
    ("upset", "may_lose"),
    [
        ("kill_master", 20),
        pytest.param("freeze_master", 20, marks=pytest.mark.slow),
        pytest.param("failover", 100_000, marks=pytest.mark.slow),
    ],
)
def test_a_failover_in_the_middle_of_work_does_everything_once(
    servers: SentinelSet, echo: EchoRun, upset: str, may_lose: int
) -> None:
    """Two replicas work, a client sends: what the new master holds takes effect exactly once."""
    for _ in range(2):
        echo.start(echo_component(tally), block_s=0.5)
    with Sender(echo, forgives=FORGIVEN) as sender:
        until(lambda: len(sender.told) > 300)
        old = getattr(servers, upset)()
        seconds = measured(echo, servers)
        print(f"{upset}: {seconds:.2f} s from the election to an answer")
        assert seconds < BACK_S
        before = len(sender.told)
        until(lambda: len(sender.told) > before + 20)
    if upset == "freeze_master":
        servers.thaw(old)
    assert assert_once(echo, servers, sender.told) <= may_lose
    with contextlib.closing(servers.client()) as client:  # its subscriptions have moved too
        channel = echo.names.channel("input")
        until(lambda: client.pubsub_numsub(channel)[0][1] == 2)


def test_a_master_that_comes_back_is_left_and_its_own_history_mixes_with_nothing(
    servers: SentinelSet, echo: EchoRun
) -> None:
    """Frozen, replaced, and thawed: for seconds there are two masters, and messages on both.

    Who is still connected to the old one works there at first. All of that is undone when it
    becomes a replica; what the new master holds must not have been touched by it.
    """
    heard_by_listener: list[float] = []

    def hear(message: Message, context: Context) -> None:
        heard_by_listener.append(float(message.array[0]))

    for _ in range(2):
        echo.start(echo_component(tally))
    echo.start(listener(hear, everyone=True), replica="ear")
    with Sender(echo, forgives=FORGIVEN) as sender:
        until(lambda: len(sender.told) > 300)
        old = servers.freeze_master()
        servers.wait_elected()
        servers.thaw(old)
        with Client(ECHO, echo.names.run, f"redis://127.0.0.1:{old}/0") as astray:
            strays = [Message.open(INPUT, numbers(-n)) for n in range(1, 40)]
            for message in strays:
                astray.send(message)
        before = len(sender.told)
        until(lambda: len(sender.told) > before + 100)
    assert_once(echo, servers, sender.told)
    with contextlib.closing(servers.client()) as client:
        stored = set(roots(client, echo.names.stream(*REQUESTS.key)))
    assert not stored & {message.root_id for message in strays}
    until(lambda: said(echo) and heard_by_listener[-1] == 2.0)


def test_a_replica_leaves_a_master_that_was_replaced_within_some_heartbeats(
    servers: SentinelSet, echo: EchoRun
) -> None:
    """The old master would take seconds to hear of it, and lose what it is told meanwhile."""
    replica = echo.start(echo_component())
    echo.wait_reply(echo.send(1))
    old = servers.freeze_master()
    servers.wait_elected()
    servers.thaw(old)
    began = time.monotonic()
    until(lambda: connections(servers, old, replica.consumer) == 0)
    with contextlib.closing(servers.client(old)) as client:
        assert client.info("replication")["role"] == "master"  # it does not know yet
    assert time.monotonic() - began < 3
    until(lambda: connections(servers, servers.master_port, replica.consumer) == 4)


def connections(servers: SentinelSet, port: int, consumer: str) -> int:
    with contextlib.closing(servers.client(port)) as client:
        names = [each["name"] for each in client.client_list()]
    return sum(name.startswith(consumer) for name in names)


def test_an_address_that_names_no_master_says_what_is_wrong(servers: SentinelSet) -> None:
    """In one sentence: what was asked, and what is known. One sentinel that answers will do."""
    with pytest.raises(ServerError, match=r"is not a server address: .* redis\+sentinel://"):
        connect("redis+sentinel://127.0.0.1:26379")
    with pytest.raises(NoServer, match=r"no sentinel answers; tried: 127.0.0.1:1 .*, localhost:2"):
        connect("redis+sentinel://127.0.0.1:1,localhost:2/rooms")
    with pytest.raises(NoServer, match=r"know no master 'attic': they know 'rooms'"):
        connect(servers.url.replace("/rooms", "/attic"))
    for sentinel in servers.sentinels[:2]:
        sentinel.kill()
    connect(servers.url).close()
    for server in servers.servers:
        server.kill()
    with pytest.raises(NoServer, match=r"no master of 'rooms' is elected now"):
        until(lambda: connected_to(servers.url))
    servers.sentinels[2].ask("ACL", "SETUSER", "default", ">secret")
    with pytest.raises(NoServer, match=r"sentinels refuse the password, .*Authentication required"):
        connect(servers.url)


def connected_to(url: str) -> bool:
    """False while the sentinels still think that the master is there."""
    try:
        connect(url).close()
    except NoServer as error:
        if "elected" in str(error):
            raise
    return False


def test_a_client_sends_and_asks_through_a_failover(servers: SentinelSet, echo: EchoRun) -> None:
    """The calls wait for the next master; what they answer stands, once."""
    echo.start(echo_component(tally))
    numbers_seen = []
    with Client(ECHO, echo.names.run, echo.url) as client:
        client.ask(INPUT, FORWARD, numbers(1), answer=(OUTPUT, FORWARD))
        servers.kill_master()
        for number in range(5):
            answer = client.ask(INPUT, FORWARD, numbers(number), answer=(OUTPUT, FORWARD))
            numbers_seen.append(float(answer.array[0]))
        entry = client.send(Message.open(INPUT, numbers(7)))
        assert client.redis.xrange(echo.names.stream(*REQUESTS.key), entry, entry)
    assert numbers_seen == [0.0, 2.0, 4.0, 6.0, 8.0]
    with contextlib.closing(servers.client()) as master:  # answers went to the guest alone
        assert_counted(echo, master, len(roots(master, echo.names.stream(*REQUESTS.key))))


def test_a_commit_whose_answer_was_lost_stands_once(servers: SentinelSet, echo: EchoRun) -> None:
    """The connection breaks between the commit and its answer, again and again: no double."""
    messages = [Message.open(INPUT, numbers(number)) for number in range(20)]
    with Client(ECHO, echo.names.run, echo.url) as client:
        client.redis.ping()
        with Breaker(client.redis) as breaker:
            entries = [client.send(message) for message in messages]
            client.commit(lambda context: context.counters.add("said"), durable=True)
    assert breaker.broken > 20
    with contextlib.closing(servers.client()) as direct:
        found = direct.xrange(echo.names.stream(*REQUESTS.key))
        assert [entry.decode() for entry, _ in found] == entries
        assert [fields[b"ID"].decode() for _, fields in found] == [each.id for each in messages]
        assert direct.hget(echo.names.counters("client"), "said") == b"1"


class Breaker:
    """Loses the answer of each commit's first attempt: the script has run, nobody hears of it."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._make = self._pool.get_connection
        self.broken = 0

    def __enter__(self) -> Breaker:
        self._pool.get_connection = self._get
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.get_connection = self._make

    def _get(self, *words: object, **options: object) -> redis.Connection:
        connection = self._make(*words, **options)
        send, breaker = type(connection).send_command, self

        def send_and_lose(*command: object, **how: object) -> None:
            send(connection, *command, **how)
            if command[0] == "EVALSHA" and breaker.broken % 2 == 0:
                breaker.broken += 1
                connection.read_response()
                raise redis.ConnectionError("the answer is lost")
            breaker.broken += command[0] == "EVALSHA"

        connection.send_command = send_and_lose
        return connection


def test_a_master_without_replicas_is_asked_again_on_new_connections(own_echo: EchoRun) -> None:
    """NOREPLICAS is what a master answers that was cut off: another one may be there by now."""
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        inside.set()
        assert release.wait(60)
        return tally(message, context)

    own_echo.start(echo_component(slow))
    message = own_echo.send(1)
    assert inside.wait(60)
    own_echo.client.config_set("min-replicas-to-write", "1")
    with structlog.testing.capture_logs() as lines:
        release.set()
        until(lambda: "lost the server, trying again" in [line["event"] for line in lines])
    own_echo.client.config_set("min-replicas-to-write", "0")
    own_echo.wait_reply(message)
    assert own_echo.counter("received") == own_echo.reply_count() == 1
