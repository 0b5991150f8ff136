"""`roomgrad runs` and `roomgrad runs delete`, `--version`, and completion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from importlib import metadata
from pathlib import Path

import pytest

from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.testing import throwaway_server
from tests.integration.conftest import EchoRun
from tests.integration.echo import echo_component
from tests.roomgrad_command import roomgrad
from tests.waiting import until


class Runs:
    """A server with the runs `alive`, `ended` and `empty`, and a state folder."""

    def __init__(self, url: str, state: Path, stack: ExitStack) -> None:
        self.client = stack.enter_context(closing(connect(url)))
        self.environ = {"REDIS_URL": url, "ROOMGRAD_STATE": str(state)}
        self.state = state
        for name in ("alive", "ended"):
            run = EchoRun(url, self.client, Names(name), stack)
            replica = run.start(echo_component())
            run.wait_reply(run.send(1))
            if name == "ended":
                run.stop(replica)
            (state / name).mkdir(parents=True)
            (state / name / "echo-0.log").write_text("x" * 2048)
        self.client.hset(Names("empty").run_info(), "token", "none")

    def call(self, *words: str, typed: str = "") -> tuple[int, str, str]:
        done = roomgrad("runs", *words, environ=self.environ, typed=typed)
        return done.returncode, done.stdout, done.stderr

    def names(self) -> list[str]:
        code, stdout, _ = self.call("--json")
        assert code == 0
        return [each["run"] for each in json.loads(stdout)["runs"]]


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    with throwaway_server() as server, ExitStack() as stack:
        yield Runs(server.url, tmp_path, stack)


def test_runs_are_listed_with_their_sizes_the_newest_first(runs: Runs) -> None:
    code, stdout, _ = runs.call("--json")
    found = json.loads(stdout)
    ended, alive, empty = found["runs"]
    assert code == 0
    assert [(each["run"], each["alive"]) for each in (ended, alive, empty)] == [
        ("ended", 0),
        ("alive", 1),
        ("empty", 0),
    ]
    assert ended["logs"] == 2048
    assert ended["bytes"] > empty["bytes"] > 0
    assert 0 <= ended["still_s"] <= alive["still_s"] < 600
    assert empty["still_s"] is None
    assert found["memory"] > ended["bytes"]
    text = runs.call()[1]
    assert "3 runs; the server uses" in text
    assert "2.0 KiB" in text


def test_a_deleted_run_leaves_no_key_and_no_log(runs: Runs) -> None:
    code, stdout, _ = runs.call("delete", "ended", "--yes")
    assert (code, stdout) == (0, "ended deleted.\n")
    assert list(runs.client.scan_iter(match=Names("ended").everything())) == []
    assert not (runs.state / "ended").exists()
    assert sorted(runs.names()) == ["alive", "empty"]


def test_a_run_that_lives_is_not_deleted(runs: Runs) -> None:
    code, _, stderr = runs.call("delete", "ended", "alive", "--yes")
    assert code == 2
    assert "run alive lives" in stderr
    assert len(runs.names()) == 3
    assert runs.call("delete", "--stopped", "--yes")[1] == "ended, empty deleted.\n"
    assert runs.names() == ["alive"]


def test_runs_are_chosen_by_the_time_since_their_last_message(runs: Runs) -> None:
    assert runs.call("delete", "--older", "1h", "--yes")[1] == "empty deleted.\n"
    until(lambda: runs.call("delete", "--older", "1s", "--yes")[1] == "ended deleted.\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ended"], "add --yes"),
        ([], "which runs?"),
        (["ended", "--stopped", "--yes"], "which runs?"),
        (["endet", "--yes"], "did you mean ended?"),
        (["--older", "soon", "--yes"], "expected a duration like 90m, 12h, or 7d"),
        (["--older", "١d", "--yes"], "expected a duration"),
    ],
)
def test_what_is_not_clear_is_refused_and_nothing_deleted(
    runs: Runs, words: list[str], says: str
) -> None:
    code, _, stderr = runs.call("delete", *words)
    assert code == 2
    assert says in stderr
    assert len(runs.names()) == 3


def test_the_embedded_server_is_started_for_it_and_its_file_shrinks(tmp_path: Path) -> None:
    """The data of a run that was stopped is on the disk of this machine alone."""
    server = EmbeddedServer.start(tmp_path / "server")
    names = Names("large")
    with closing(connect(server.url)) as client:
        client.hset(names.run_info(), "token", "none")
        client.hset(names.table("t"), mapping={str(n): "x" * 1000 for n in range(2000)})
        client.waitaof(1, 0, 60_000)
    server.stop()
    environ = {"ROOMGRAD_STATE": str(tmp_path), "REDIS_URL": None, "ROOMGRAD_REDIS_URL": None}
    found = json.loads(roomgrad("runs", "--json", environ=environ).stdout)
    assert [each["run"] for each in found["runs"]] == ["large"]
    assert found["disk"] > 2_000_000
    assert roomgrad("runs", "delete", "large", "--yes", environ=environ).returncode == 0
    assert json.loads(roomgrad("runs", "--json", environ=environ).stdout)["disk"] < 100_000
    assert EmbeddedServer.running(tmp_path / "server") is None


def test_the_version_is_that_of_the_package() -> None:
    assert roomgrad("--version").stdout == f"roomgrad {metadata.version('roomgrad')}\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("roomgrad do", {"down", "doctor"}), ("roomgrad lag --r", {"--run", "--redis"})],
)
def test_a_shell_completes_commands_and_options(typed: str, offered: set[str]) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = roomgrad(environ={"_ROOMGRAD_COMPLETE": "complete_bash", **words})
    assert set(done.stdout.split()) == offered
