"""The embedded server: one per directory, and what it held is there again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from roomgrad import cli, state
from roomgrad.errors import NoServer, ServerError
from roomgrad.local.binaries import find_binary
from roomgrad.local.embedded import AOF_REWRITE_SIZE, EmbeddedServer
from roomgrad.redis import server
from roomgrad.redis.server import Version, connect
from tests.waiting import LIMIT_S, until

Start = Callable[..., EmbeddedServer]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Of servers; the one that is left is stopped."""
    yield tmp_path / "server"
    left = EmbeddedServer.running(tmp_path / "server")
    if left is not None:
        left.kill()


@pytest.fixture
def start(directory: Path) -> Start:
    """Starts servers on one directory."""
    return partial(EmbeddedServer.start, directory, die_with_parent=True)


def test_a_stopped_server_finds_its_data_and_its_address_again(start: Start) -> None:
    """Whoever was connected finds it where it was."""
    with start() as first, closing(connect(first.url)) as client:
        client.set("key", "value")
    with start() as second, closing(connect(second.url)) as client:
        assert second.url == first.url
        assert second.pid != first.pid
        assert client.get("key") == b"value"


def test_a_killed_server_finds_its_data_again(start: Start) -> None:
    """What a server has written to its append-only file outlives its process."""
    first = start()
    with closing(connect(first.url)) as client:
        client.set("key", "value")
    first.kill()
    assert not first.alive()
    with start() as second, closing(connect(second.url)) as client:
        assert client.get("key") == b"value"


def test_the_append_only_file_is_rewritten_seldom(start: Start) -> None:
    """Whichever way a server is started: each rewrite delays the messages behind it."""
    size = AOF_REWRITE_SIZE
    with start() as first, closing(connect(first.url)) as client:
        found = client.config_get("auto-aof-rewrite-min-size")
        assert list(found.values()) == [str(int(size.removesuffix("mb")) * 2**20)]
    project = Path(cli.__file__).parent / "templates/project/docker-compose.yml.txt"
    assert f"--auto-aof-rewrite-min-size, {size}," in project.read_text()
    deployed = Path(__file__).parents[2] / "deploy/redis/redis.conf"
    assert f"\nauto-aof-rewrite-min-size {size}\n" in deployed.read_text()


def test_a_running_server_is_used_again_and_left_running(start: Start) -> None:
    """The one who started it stops it."""
    with start() as first:
        with start() as second:
            assert (second.pid, second.url) == (first.pid, first.url)
            assert first.started
            assert not second.started
        assert first.alive()
    assert not first.alive()


def test_programs_on_its_machine_find_its_unix_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address they do; if the socket is gone, they find it by TCP."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    with (
        tempfile.TemporaryDirectory(prefix="a #1") as directory,
        EmbeddedServer.start(directory, aof=False, die_with_parent=True) as first,
    ):
        monkeypatch.setattr(state, "server_directory", lambda: first.directory)
        found = server.address()
        assert (found.kind, Path(found.path)) == ("socket", first.directory / "server.sock")
        with closing(connect(found)) as client:
            assert client.info("server")["process_id"] == first.pid
        Path(found.path).unlink()
        assert server.address().url == first.url


def test_commands_that_start_at_once_share_one_server(start: Start) -> None:
    """Two terminals, one directory, one server."""
    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(lambda _: start(), range(4)))
    assert len({each.pid for each in started}) == 1
    assert sum(each.started for each in started) == 1
    next(each for each in started if each.started).stop()


def test_two_servers_never_use_one_directory(start: Start, tmp_path: Path) -> None:
    """Even when the file that names the server is gone: two would destroy the data."""
    with start():
        kept = tmp_path / "server" / "server.json"
        text = kept.read_text()
        kept.unlink()
        with pytest.raises(ServerError, match="still uses"):
            start()
        kept.write_text(text)


def test_the_last_one_to_leave_stops_the_server(directory: Path) -> None:
    """A command that ends does not take the server away from a client."""
    with EmbeddedServer.shared(directory) as embedded:
        client = connect(embedded.url)
    assert embedded.alive()
    client.close()
    with EmbeddedServer.shared(directory) as again:
        assert again.pid == embedded.pid
    assert not embedded.alive()


def test_a_program_that_is_not_connected_keeps_its_server(directory: Path) -> None:
    """As one that has just found it, while the command that started it ends."""
    with contextlib.ExitStack() as other:
        with EmbeddedServer.shared(directory) as embedded:
            assert other.enter_context(EmbeddedServer.shared(directory)).pid == embedded.pid
        assert embedded.alive()
    assert not embedded.alive()


def test_a_program_that_was_killed_keeps_no_server(directory: Path) -> None:
    code = f"""if 1:
        from roomgrad.local.embedded import EmbeddedServer
        with EmbeddedServer.shared({str(directory)!r}):
            print("found", flush=True)
            input()
    """
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with (
        EmbeddedServer.shared(directory) as embedded,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as program,
    ):
        assert program.stdout is not None
        assert program.stdout.readline() == "found\n"
        program.kill()
    assert not embedded.alive()


def test_a_client_that_is_leaving_keeps_no_server(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process was killed, and the server has not noticed yet."""
    monkeypatch.setattr("roomgrad.local.embedded.NOTICED_S", LIMIT_S)
    with EmbeddedServer.shared(directory) as embedded:
        client = connect(embedded.url)
        leaves = threading.Timer(0.3, client.close)
        leaves.start()
    assert not embedded.alive()
    leaves.join()


def test_a_command_that_starts_while_the_server_stops_starts_another(start: Start) -> None:
    """It waits for the end of the first, whose data takes a moment to write."""
    first = start()
    os.kill(first.pid, signal.SIGSTOP)  # it takes as long to stop as this test wants
    with ThreadPoolExecutor(2) as pool:
        stopping = pool.submit(first.stop)
        until(lambda: _is_locked(first.directory / "start.lock"))
        starting = pool.submit(start)
        os.kill(first.pid, signal.SIGCONT)
        stopping.result()
        with starting.result() as second:
            assert second.pid != first.pid
            assert second.started


def _is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_port_that_is_taken_is_named(start: Start) -> None:
    """Whoever asks for a port gets that one or none."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NoServer, match=f"port {port} is taken"):
            start(port=port)


def test_a_server_is_new_enough_and_known_by_name(start: Start) -> None:
    """Reports name the server that was used."""
    with start() as embedded, closing(connect(embedded.url)) as client:
        found = server.version(client)
        assert found.new_enough
        assert found.name in ("redis", "valkey")
        assert str(found).startswith(f"{found.name} ")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        (Version("redis", (7, 0, 15)), False),
        (Version("redis", (7, 2, 0)), True),
        (Version("valkey", (7, 2, 5)), False),
        (Version("valkey", (8, 0, 0)), True),
    ],
)
def test_old_servers_are_told_from_new_ones(version: Version, enough: bool) -> None:
    """Only commands of Redis 7.2 are needed."""
    assert version.new_enough is enough


def test_an_old_server_on_the_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distributions ship servers that are too old; the one of the package is used then."""
    old = tmp_path / "redis-server"
    old.write_text(
        "#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc bits=64'\n"
    )
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + "/usr/bin:/bin")
    assert find_binary() != old


def test_a_wrong_password_is_an_error_and_a_password_file_helps(
    start: Start, tmp_path: Path
) -> None:
    """A password stands in a file, not in an address."""
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    with start() as embedded:
        with closing(connect(embedded.url)) as client:
            client.config_set("requirepass", "open sesame")
        with pytest.raises(ServerError, match="REDIS_PASSWORD_FILE"):
            connect(embedded.url)
        with closing(connect(embedded.url, str(secret))) as client:
            assert client.ping()
            client.config_set("requirepass", "")


def test_where_nothing_answers_it_says_how_to_start_one() -> None:
    """The sentence names the address and the ways to a server."""
    with pytest.raises(NoServer, match=r"127\.0\.0\.1:1.*roomgrad up SYSTEM.*REDIS_URL"):
        connect("redis://127.0.0.1:1/0")


def test_what_is_no_address_is_told_with_an_example() -> None:
    """A host name alone is not enough."""
    with pytest.raises(ServerError, match="redis://localhost:6379/0"):
        connect("localhost:6379")
