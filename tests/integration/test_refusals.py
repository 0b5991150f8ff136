"""A server that answers and refuses: what goes on, what waits, what is said, how it recovers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from roomgrad import codec
from roomgrad.errors import NoServer, ServerError
from roomgrad.messages import Message
from roomgrad.redis.server import connect
from roomgrad.runtime import health
from roomgrad.testing import running
from tests.integration.conftest import EchoRun
from tests.integration.echo import INPUT, REPLIES, REQUESTS, echo_component, later, numbers
from tests.waiting import until


def fail_to_save(run: EchoRun) -> Callable[[], None]:
    """Let the server fail to write to its disk, so that it refuses every write (MISCONF)."""
    config = run.client.config_get("dir", "dbfilename")
    in_the_way = Path(config["dir"]) / config["dbfilename"]
    in_the_way.unlink(missing_ok=True)
    in_the_way.mkdir()
    run.client.config_set("stop-writes-on-bgsave-error", "yes")
    run.client.config_set("save", "3600 1")
    run.client.bgsave()
    until(lambda: run.client.info("persistence")["rdb_last_bgsave_status"] == "err")

    def mend() -> None:
        in_the_way.rmdir()
        run.client.bgsave()

    return mend


def demote(run: EchoRun) -> Callable[[], None]:
    """Make the server a replica of one that is away (READONLY)."""
    run.client.replicaof("127.0.0.1", 1)
    return lambda: run.client.replicaof("NO", "ONE")


@pytest.mark.parametrize("refuse", [fail_to_save, demote])
def test_a_server_that_takes_no_writes_is_waited_for(
    own_echo: EchoRun,
    monkeypatch: pytest.MonkeyPatch,
    refuse: Callable[[EchoRun], Callable[[], None]],
) -> None:
    """No heartbeat can be stored; to start the component again would help nothing."""
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    run = own_echo.names.run
    replicas = [own_echo.start(echo_component()) for _ in range(2)]
    own_echo.wait_reply(own_echo.send(1))
    mend = refuse(own_echo)
    with pytest.raises(ServerError, match="refused"):
        own_echo.send(2)
    alive = [own_echo.names.alive(replica.consumer) for replica in replicas]
    until(lambda: not own_echo.client.exists(*alive))
    with pytest.raises(NoServer, match="refuses to write"):
        health.check("echo", run, own_echo.url)
    assert "waits for its server" in health.check("echo", run, own_echo.url, patient=True)
    mend()
    until(lambda: own_echo.client.exists(*alive) == len(alive))
    assert own_echo.wait_reply(own_echo.send(3)).array.tolist() == [6.0]
    assert (own_echo.counter("received"), own_echo.dead_letters()) == (2, [])


def test_a_heartbeat_that_is_refused_keeps_nothing_else_waiting(own_echo: EchoRun) -> None:
    """A permission is missing: history is trimmed and delayed messages are sent, nevertheless."""
    user, run = f"user-{secrets.token_hex(4)}", f"{{{own_echo.names.run}}}"
    but_alive = ("run", "input:*", "output:*", "@*", "counters:*", "memory:*", "done:*", "later:*")
    but_alive += ("_logging:*", "errors:*", "guests")
    rules = ["on", ">secret", "+@all", "&*", f"~{run}:*"]
    own_echo.client.execute_command("ACL", "SETUSER", user, *rules)
    url = own_echo.url.replace("redis://", f"redis://{user}:secret@")
    replica = own_echo.start(echo_component(later), url=url, history_entries=5)
    alive = own_echo.names.alive(replica.consumer)
    with structlog.testing.capture_logs() as lines:
        keys = [f"~{run}:{name}" for name in but_alive]
        own_echo.client.execute_command("ACL", "SETUSER", user, "resetkeys", *keys)
        until(lambda: not own_echo.client.exists(alive))
        messages = [own_echo.send(0.5) for _ in range(40)]
        own_echo.wait_reply(messages[-1])
        until(lambda: own_echo.client.xlen(own_echo.names.stream(*REQUESTS.key)) <= 7)
    assert len([line for line in lines if "refuses housekeeping" in line["event"]]) == 1
    own_echo.client.execute_command("ACL", "SETUSER", user, f"~{run}:*")
    until(lambda: own_echo.client.exists(alive))


def test_a_refused_commit_is_no_handler_that_hangs(own_echo: EchoRun) -> None:
    """The process waits for longer than a handler may take, and says for what."""
    process = own_echo.spawn("repeat", handler_timeout_s=0.5)
    until(lambda: own_echo.client.keys(own_echo.names.alive("echo~*")))
    key = own_echo.names.stream(*REPLIES.key)
    own_echo.client.delete(key)
    own_echo.client.set(key, "another tenant's")
    message = own_echo.send(1)
    [alive] = own_echo.client.keys(own_echo.names.alive("echo~*"))
    until(lambda: b"is a string, expected a stream" in (own_echo.client.get(alive) or b""))
    time.sleep(2)  # four times the limit
    assert process.poll() is None
    own_echo.client.delete(key)
    assert own_echo.wait_reply(message).array.tolist() == [2.0]
    until(lambda: b'"waits":""' in (own_echo.client.get(alive) or b""))


def test_a_server_without_free_connections_is_waited_for(own_echo: EchoRun) -> None:
    """Connected replicas go on; a new one, and a command, say why they wait or end."""
    own_echo.client.ping()
    first = own_echo.start(echo_component())
    until(lambda: len(own_echo.client.client_list()) == 5)  # this one, and four of the replica
    own_echo.client.config_set("maxclients", 5)
    with pytest.raises(NoServer, match="maxclients"):
        connect(own_echo.url)
    with (
        structlog.testing.capture_logs() as lines,
        running(echo_component(), own_echo.make_settings(), own_echo.url) as second,
    ):
        until(lambda: any("max number of clients" in str(line) for line in lines))
        fields = codec.encode(Message.open(INPUT, numbers(1)), REQUESTS)
        own_echo.client.execute_command("XADD", own_echo.names.stream(*REQUESTS.key), "*", *fields)
        until(lambda: own_echo.reply_count() == 1)
        assert own_echo.client.exists(own_echo.names.alive(first.consumer))
        assert not own_echo.client.exists(own_echo.names.alive(second.consumer))
        own_echo.client.config_set("maxclients", 1000)
        until(lambda: own_echo.client.exists(own_echo.names.alive(second.consumer)))
