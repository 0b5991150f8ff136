"""`roomgrad acl`: both systems work as users who may do what they declare, and nothing else."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from roomgrad.cli.acl import declarations, users
from roomgrad.inspect.models import stored
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.runtime import runs
from roomgrad.schema import contract_to_json
from roomgrad.snapshots.pointers import FIELD, from_json
from roomgrad.systems import installed
from roomgrad.testing import running
from roomgrad_melody import questions
from roomgrad_melody.contract import COMMAND, CONTROL, MELODY
from roomgrad_melody.evalnet.handlers import component as evalnet
from roomgrad_melody.evalnet.settings import EvalnetSettings
from roomgrad_melody.evolution.handlers import component as evolution
from roomgrad_melody.evolution.settings import EvolutionSettings
from roomgrad_melody.labelling.handlers import component as labelling
from roomgrad_melody.labelling.settings import LabellingSettings
from roomgrad_melody.learner.handlers import component as learner
from roomgrad_melody.learner.settings import LearnerSettings
from roomgrad_melody.rater.handlers import component as rater
from roomgrad_melody.rater.settings import RaterSettings
from roomgrad_melody.snapshot import SnapshotReader, Sound
from roomgrad_trebuchet.contract import FORWARD, INPUT, OUTPUT, TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.simulator.settings import SimulatorSettings
from roomgrad_trebuchet.trainer.handlers import component as trainer
from roomgrad_trebuchet.trainer.settings import TrainerSettings
from tests.integration.conftest import start_redis
from tests.waiting import until

pytestmark = pytest.mark.docker
STEPS = 20
ROOT = Path(__file__).parents[2]


@dataclass
class Guarded:
    """A server with the users of both systems."""

    url: str
    client: redis.Redis
    passwords: dict[str, str]
    runs: dict[str, Names]

    def url_of(self, user: str) -> str:
        return self.url.replace("redis://", f"redis://{user}:{self.passwords[user]}@")

    @contextlib.contextmanager
    def logged_in(self, user: str) -> Iterator[redis.Redis]:
        """A connection as this user."""
        with contextlib.closing(connect(self.url_of(user))) as client:
            yield client

    def refused(self) -> list[str]:
        """What was forbidden to whom."""
        found = self.client.execute_command("ACL", "LOG")
        entries = [dict(zip(each[::2], each[1::2], strict=True)) for each in found]
        return [
            f"{each[b'username'].decode()}: {each[b'reason'].decode()} {each[b'object'].decode()}"
            for each in entries
        ]

    def require_newest_snapshot(self, run: str, component: str) -> None:
        """The last replica has stored the state with which it stopped, and trimmed the log."""
        key = self.runs[run].model(component)
        newest, *_ = from_json(self.client.hget(key, FIELD))
        assert newest.version.encode() == self.client.hget(key, "version")
        assert newest.step == int(self.client.hget(key, "step")) > 0
        with self.logged_in("dashboard") as client:
            assert stored(client, self.runs[run], component, wait_s=0).behind == 0
        assert not self.client.exists(self.runs[run].snapshot_lease(component))


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    """A real redis:8 with one user for each component."""
    with (
        contextlib.contextmanager(start_redis)() as url,
        contextlib.closing(connect(url)) as client,
    ):
        runs = {"trebuchet": Names("trebuchet"), "melody": Names("melody")}
        systems = (TREBUCHET, MELODY)
        served = [(each, runs[each.name], declarations(installed()[each.name])) for each in systems]
        passwords = {}
        for line in users(served):
            _, user, *rules = line.split(" ")
            if user != "default":
                passwords[user] = secrets.token_hex(8)
                rules = _joined(rules)
                client.execute_command("ACL", "SETUSER", user, f">{passwords[user]}", *rules)
        client.execute_command("ACL", "LOG", "RESET")
        yield Guarded(url, client, passwords, runs)


def _joined(rules: list[str]) -> list[str]:
    """A selector is one word of ACL SETUSER."""
    found: list[str] = []
    for word in rules:
        inside = found and found[-1].startswith("(") and not found[-1].endswith(")")
        if inside:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def test_the_trebuchet_learns_as_its_users(guarded: Guarded) -> None:
    """Nothing that it does is forbidden, and each batch is counted once."""
    more = {"run": "trebuchet", "heartbeat_interval_s": 0.2, "history_entries": 5}
    with (
        running(trainer, TrainerSettings(train_steps=STEPS, **more), guarded.url_of("trainer")),
        running(
            controlmodel,
            ControlModelSettings(train_steps=STEPS, **more),
            guarded.url_of("controlmodel"),
        ),
        running(simulator, SimulatorSettings(**more), guarded.url_of("simulator")),
    ):
        counters = guarded.runs["trebuchet"].counters("trainer")
        until(lambda: guarded.client.hget(counters, "finished") == b"%d" % STEPS)
        with Client(
            TREBUCHET, "trebuchet", guarded.url_of("inference"), name="inference"
        ) as client:
            asked = np.array([[3.0, 60.0]], np.float32)
            answer = client.ask(INPUT, FORWARD, asked, answer=(OUTPUT, FORWARD))
            assert np.isfinite(answer.array).all()
    learned = guarded.client.hgetall(guarded.runs["trebuchet"].counters("controlmodel"))
    assert learned[b"applied"] == learned[b"distinct"] == b"%d" % STEPS
    guarded.require_newest_snapshot("trebuchet", "controlmodel")
    assert guarded.refused() == []


def test_the_melody_maker_breeds_and_learns_as_its_users(guarded: Guarded) -> None:
    """With labels by a rater that only listens, and a page that only looks."""
    more = {"run": "melody", "heartbeat_interval_s": 0.2, "history_entries": 5}
    names = guarded.runs["melody"]
    with (
        running(evolution, EvolutionSettings(pause_s=0, **more), guarded.url_of("evolution")),
        running(evalnet, EvalnetSettings(**more), guarded.url_of("evalnet")),
        running(learner, LearnerSettings(**more), guarded.url_of("learner")),
        running(labelling(lambda: None), LabellingSettings(**more), guarded.url_of("labelling")),
        running(rater, RaterSettings(replica="one", **more), guarded.url_of("rater")),
    ):
        until(lambda: guarded.client.hlen(names.table("labels")) >= 5)
        until(lambda: int(guarded.client.hget(names.counters("evalnet"), "applied") or 0) >= 10)
        with guarded.logged_in("labelling") as client:
            assert SnapshotReader(names, Sound()).read(client)["learning"]["labels"] >= 5
    guarded.require_newest_snapshot("melody", "evalnet")
    assert guarded.refused() == []


def test_a_person_rates_as_the_user_of_the_page(guarded: Guarded) -> None:
    """Questions are taken, answered, taken back and given back."""
    names = Names("melody")
    learning = LearnerSettings(run="melody", heartbeat_interval_s=0.2, history_entries=5)
    with (
        running(learner, learning, guarded.url_of("learner")),
        running(evolution, EvolutionSettings(run="melody", pause_s=0), guarded.url_of("evolution")),
        running(evalnet, EvalnetSettings(run="melody"), guarded.url_of("evalnet")),
        Client(MELODY, "melody", guarded.url_of("labelling"), name="labelling") as client,
    ):
        client.send(Message.open(CONTROL, type=COMMAND, CMD="ASK"))
        label = names.table("labels")

        def unrated() -> Any:  # what was answered at the end of another test may still be asked
            asked = questions.lease(client, "Ada", 2)
            return next((q for q in asked if not guarded.client.hexists(label, q.melody)), None)

        first = until(unrated)
        questions.answer(client, "Ada", first.melody, 4, first.root)
        until(lambda: guarded.client.hexists(label, first.melody))
        questions.answer(client, "Ada", first.melody, None, first.root)
        until(lambda: not guarded.client.hexists(label, first.melody))
        questions.recent(client, "Ada")
        questions.release(client, "Ada")
    assert guarded.refused() == []


FORBIDDEN = [
    ("labelling", ["XADD", "{melody}:trainoutput:DATA/GRADIENT", "*", "m", "{}"]),
    ("labelling", ["HGET", "{melody}:model:evalnet", "version"]),
    ("labelling", ["HSET", "{melody}:labels", "0" * 128, "{}"]),
    ("labelling", ["XADD", "{melody}:labels:log", "*", "m", "{}"]),
    ("labelling", ["HGETALL", "{trebuchet}:run"]),
    ("labelling", ["SUBSCRIBE", "{trebuchet}:input"]),
    ("simulator", ["HGETALL", "{trebuchet}:memory:trainer"]),
    ("simulator", ["HGET", "{trebuchet}:model:controlmodel", "version"]),
    ("simulator", ["XADD", "{trebuchet}:input:DATA/GRADIENT", "*", "m", "{}"]),
    (
        "simulator",
        ["XREADGROUP", "GROUP", "trainer", "x", "STREAMS", "{trebuchet}:output:DATA/FORWARD", ">"],
    ),
    ("simulator", ["PUBLISH", "{trebuchet}:alive:trainer~1", "x"]),
    ("simulator", ["DEL", "{trebuchet}:alive:trainer~1"]),
    ("trainer", ["HGETALL", "{melody}:labels"]),
    ("trainer", ["KEYS", "*"]),
    ("trainer", ["FLUSHALL"]),
    ("trainer", ["CONFIG", "GET", "*"]),
    ("trainer", ["ACL", "LIST"]),
    ("trainer", ["FUNCTION", "LIST"]),
    ("trainer", ["MONITOR"]),
    ("inference", ["XADD", "{trebuchet}:output:DATA/GRADIENT", "*", "m", "{}"]),
    ("gateway", ["HGET", "{trebuchet}:model:controlmodel", "version"]),
    ("gateway", ["HGETALL", "{melody}:labels"]),
    ("labelling", ["XRANGE", "{melody}:model:evalnet:steps", "-", "+"]),
    ("labelling", ["GET", "{melody}:model:evalnet:snapshot:1:0"]),
    ("learner", ["XADD", "{melody}:model:evalnet:steps", "*", "m", "x"]),
    ("evalnet", ["DEL", "{melody}:model:evalnet:steps"]),
    ("evalnet", ["DEL", "{melody}:model:evalnet"]),
    ("simulator", ["XRANGE", "{trebuchet}:model:controlmodel:steps", "-", "+"]),
    ("simulator", ["SET", "{trebuchet}:model:controlmodel:snapshotter", "x"]),
    ("simulator", ["UNLINK", "{trebuchet}:model:controlmodel:snapshotter"]),
    ("controlmodel", ["SET", "{melody}:model:evalnet:snapshotter", "x"]),
    ("inference", ["GET", "{trebuchet}:model:controlmodel:snapshot:1:0"]),
    ("gateway", ["GET", "{trebuchet}:model:controlmodel:snapshot:1:0"]),
    ("rater", ["HSET", "{melody}:questions", "x", "{}"]),
]


@pytest.mark.parametrize(("user", "command"), FORBIDDEN, ids=lambda each: " ".join(each)[:60])
def test_what_a_user_does_not_need_is_forbidden(
    guarded: Guarded, user: str, command: list[str]
) -> None:
    """By itself, and from inside a script, which has no rights of its own."""
    words = ", ".join(f"ARGV[{number + 1}]" for number in range(len(command)))
    script = f"return redis.call({words})"
    with guarded.logged_in(user) as client:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)
        if command[0] not in ("MONITOR", "SUBSCRIBE"):
            with pytest.raises(redis.ResponseError, match=r"permission|not allowed"):
                client.eval(script, 0, *command)


WRITES = [
    ["XADD", "{run}:errors:LOG/ERROR", "*", "m", "{}"],
    ["HSET", "{run}:run", "token", "x"],
    ["SET", "{run}:x", "1"],
    ["DEL", "{run}:run"],
    ["PUBLISH", "{run}:input", "{}"],
    ["EVAL", "return 1", "1", "{run}:run"],
]


@pytest.mark.parametrize("run", ["trebuchet", "melody"])
@pytest.mark.parametrize("command", WRITES, ids=lambda each: each[0])
def test_the_dashboard_cannot_write_anything(
    guarded: Guarded, run: str, command: list[str]
) -> None:
    """It looks on."""
    words = [word.replace("{run}", f"{{{run}}}") for word in command]
    refused = pytest.raises(redis.exceptions.NoPermissionError)
    with guarded.logged_in("dashboard") as client, refused:
        client.execute_command(*words)


def test_no_write_command_of_the_server_is_open_to_the_dashboard(guarded: Guarded) -> None:
    """Of all that this server has; scripts that write are refused for what they call."""
    rights = dict(_pairs(guarded.client.execute_command("ACL", "GETUSER", "dashboard")))
    allowed = set(rights[b"commands"].decode().split())
    assert "-@all" in allowed
    assert not [each for each in allowed if each.startswith(("+@write", "+@all", "+@admin"))]
    writing = {name.decode() for name in guarded.client.execute_command("ACL", "CAT", "write")}
    assert not {f"+{name}" for name in writing} & allowed
    assert rights[b"selectors"] == []


def _pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def test_the_file_of_the_project_is_what_the_command_prints() -> None:
    """deploy/redis/users.acl is up to date: `roomgrad acl > deploy/redis/users.acl`."""
    printed = subprocess.run(
        [sys.executable, "-m", "roomgrad", "acl"], cwd=ROOT, capture_output=True, text=True
    )
    assert printed.returncode == 0, printed.stderr
    assert (ROOT / "deploy/redis/users.acl").read_text() == printed.stdout


def test_an_acl_of_a_run_is_made_from_what_its_components_said(guarded: Guarded) -> None:
    """So it serves systems that roomgrad does not know."""
    names, declared = Names("told"), declarations(installed()[TREBUCHET.name])
    for name, each in declared.items():
        said = {"contract": contract_to_json(TREBUCHET), f"declares:{name}": each.to_json()}
        runs.register(guarded.client, names, name, {}, said)
    command = [sys.executable, "-m", "roomgrad", "acl", "--run", "told", "--redis", guarded.url]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    lines = printed.stdout.splitlines()
    expected = list(users([(TREBUCHET, names, declared)]))
    assert [line for line in lines if line.startswith("user")] == expected
