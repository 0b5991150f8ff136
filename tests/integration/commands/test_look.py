"""The commands that look into a run, with real servers."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from roomgrad import Component, Context, Message, RuntimeSettings, on
from roomgrad.inspect import weights
from roomgrad.models import ModelState
from tests.integration.commands.calling import COMMAND, call, environ, found, refused, shown
from tests.integration.conftest import Cage
from tests.integration.dead.letters import bury
from tests.integration.parrots import CAGE, FORWARD, PARROTS, PERCH, listener, parrot, repeat
from tests.integration.test_model import Scale
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


def hear(message: Message, context: Context) -> None:
    context.counters.add("heard")


def remember(message: Message, context: Context) -> Message:
    """A parrot that keeps in mind what it heard."""
    context.memory.put(message.root_id, heard=message.array, words="hello")
    return repeat(message, context)


def heard(cage: Cage, count: int, component: str = "parrot") -> None:
    until(lambda: cage.counter("heard", component) == count)


def test_ps_shows_who_lives_and_who_does_not(cage: Cage) -> None:
    """Two replicas of one, none of the other."""
    cage.start(listener(hear)).stop()
    for _ in range(2):
        cage.start(parrot())
    until(lambda: len(list(cage.client.scan_iter(match=cage.names.alive("*")))) == 2)
    rows = found(cage, "ps")["replicas"]
    assert [(row["component"], row["alive"]) for row in rows] == [
        ("listener", False),
        ("parrot", True),
        ("parrot", True),
    ]
    assert {row["pid"] for row in rows if row["alive"]} == {os.getpid()}
    text = shown(cage, "ps")
    assert re.search(r"listener +none lives", text)
    assert text.count("parrot") == 2


def test_ps_shows_a_replica_that_is_long_in_a_handler(cage: Cage) -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait(message: Message, context: Context) -> Message:
        entered.set()
        leave.wait(60)
        return repeat(message, context)

    cage.start(parrot(wait))
    cage.say(1)
    assert entered.wait(10)
    try:
        until(lambda: re.search(r"in one handler for \d", shown(cage, "ps")))
        (row,) = found(cage, "ps")["replicas"]
        assert row["pending"] == 1
    finally:
        leave.set()


def test_rooms_show_members_rates_and_what_waits(cage: Cage) -> None:
    """What is in nobody's hands waits for who is not there."""
    bury(cage, 9)
    cage.start(parrot())
    for number in range(3):
        cage.say(number)
    heard(cage, 3)
    rooms = {
        (each["room"], each["type"]): each
        for each in found(cage, "rooms", "--seconds", "0.1")["rooms"]
    }
    cages, perch = rooms["cage", FORWARD.value], rooms["perch", FORWARD.value]
    assert [(each["name"], each["replicas"]) for each in cages["members"]] == [("parrot", 1)]
    assert [(each["name"], each["replicas"]) for each in perch["members"]] == [("listener", 0)]
    assert cages["senders"] == ["parrot"]
    assert (cages["added"], cages["dead"], cages["lag"]) == (4, 1, 0)
    assert (perch["added"], perch["lag"]) == (3, 3)
    assert "listener x0" in shown(cage, "rooms", "--seconds", "0.1")


def test_rates_are_counted_not_guessed(cage: Cage) -> None:
    cage.start(parrot())
    stop = threading.Event()

    def talk() -> None:
        while not stop.is_set():
            cage.say(1)

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        rooms = found(cage, "rooms", "--seconds", "1")["rooms"]
    finally:
        stop.set()
        talker.join()
    (rate,) = [each["rate"] for each in rooms if each["room"] == "cage" and each["added"]]
    assert rate > 10


def test_info_shows_what_a_room_carries(cage: Cage) -> None:
    cage.start(parrot())
    message = cage.say(1, 2.5)
    said = found(cage, "info", "cage")
    assert said["carries"][0]["fields"]["DATA"] == "<f4 (n,)"
    assert said["carries"][0]["consumers"] == ["parrot"]
    assert said["channel"] == cage.names.channel("cage")
    assert said["subscribers"] == 1
    assert said["newest"][0]["fields"]["ID"] == message.id
    assert "[1.0,2.5]" in shown(cage, "info", "cage")


def test_lag_shows_who_is_behind(cage: Cage) -> None:
    """Waiting for who is not there; nothing for whom all is done."""
    cage.start(parrot())
    for number in range(2):
        cage.say(number)
    heard(cage, 2)
    rows = {(row["component"], row["room"]): row for row in found(cage, "lag")["groups"]}
    assert rows["listener", "perch"]["waiting"] == 2
    assert rows["listener", "perch"]["oldest_s"] > 0
    assert rows["parrot", "cage"]["waiting"] == rows["parrot", "cage"]["pending"] == 0
    assert rows["parrot", "cage"]["oldest_s"] is None
    assert "2 messages are not done yet." in shown(cage, "lag")


def test_memory_shows_records_and_one_of_them(cage: Cage) -> None:
    cage.start(parrot(remember))
    messages = [cage.say(*range(20)), cage.say(1)]
    heard(cage, 2)
    all_ = found(cage, "memory", "parrot")
    assert all_["total"] == 2
    one = found(cage, "memory", "parrot", messages[0].root_id)["records"]
    assert one == {
        messages[0].root_id: {
            "ROOT_ID": f'"{messages[0].root_id}"',
            "heard": "<f4 (20,): 0.0 1.0 2.0 3.0 4.0 5.0 …",
            "words": '"hello"',
        }
    }
    assert "remembers 2 records" in shown(cage, "memory", "parrot")
    assert "remembers nothing of 'nobody'" in refused(cage, "memory", "parrot", "nobody", code=1)


def test_a_record_that_cannot_be_read_is_shown_as_it_is(cage: Cage) -> None:
    cage.start(parrot())
    cage.client.hset(cage.names.memory("parrot"), "root", b"\xff\x1b[2J")
    text = shown(cage, "memory", "parrot")
    assert "unreadable" in text
    assert "\x1b" not in text


class Stored(Scale):
    """The same model, kept as a safetensors file as torch's are."""

    def initial(self) -> tuple[bytes, bytes]:
        return save({"weight": np.array([1.0], dtype="<f4")}), b"0"

    def load(self, state: ModelState) -> None:
        self.weight = float(load(state.weights)["weight"][0])


def learner() -> Component:
    def scale(message: Message, context: Context) -> Message:
        return message.reply(PERCH, context.model.forward(message.array))

    handler = on(CAGE, FORWARD, replies=[(PERCH, FORWARD)])(scale)
    return Component("parrot", PARROTS, RuntimeSettings, [handler], model=Stored)


def test_a_model_is_exported_and_imported(cage: Cage, tmp_path: Path) -> None:
    """The running component goes on with it."""
    replica = cage.start(learner())
    file = tmp_path / "weights.safetensors"
    before = found(cage, "model", "parrot", "--export", str(file))
    stored = cage.client.hget(cage.names.model("parrot"), "weights")
    assert file.read_bytes() == stored
    (tensor,) = weights.read(stored)
    assert before["parameters"][0]["name"] == tensor.name
    other = stored[: -len(tensor.data)] + bytes(len(tensor.data))  # all of it 0
    file.write_bytes(other)
    after = found(cage, "model", "parrot", "--import", str(file))
    assert after["version"] != before["version"]
    assert after["step"] == before["step"]
    assert after["sha256"] != before["sha256"]
    assert cage.heard(cage.say(7)).array.tolist() == [0.0]
    until(lambda: replica.status.version == after["version"])


def test_weights_that_do_not_fit_are_refused(cage: Cage, tmp_path: Path) -> None:
    cage.start(learner())
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"no weights")
    assert "not a safetensors file" in refused(cage, "model", "parrot", "--import", str(file))
    stored = cage.client.hget(cage.names.model("parrot"), "weights")
    file.write_bytes(stored[:-4] + b"\x00\x00\xc0\x7f")
    assert "expected finite numbers" in refused(cage, "model", "parrot", "--import", str(file))
    assert cage.client.hget(cage.names.model("parrot"), "weights") == stored
    gone = str(tmp_path / "none")
    assert "cannot be read" in refused(cage, "model", "parrot", "--import", gone)
    cage.start(listener(hear))
    assert "has no model" in refused(cage, "model", "listener", code=1)


def test_what_is_not_there_is_named_with_what_is(cage: Cage) -> None:
    cage.start(parrot())
    assert "did you mean cage?" in refused(cage, "info", "cge")
    assert "there are @listener, @parrot, _logging, cage, errors, perch" in refused(
        cage, "info", "zzz"
    )
    assert "did you mean parrot?" in refused(cage, "memory", "parot")
    assert "there is no run 'nowhere'" in refused(cage, "ps", "--run", "nowhere")
    away = "redis://127.0.0.1:1"
    assert "no server answers at redis://127.0.0.1:1" in refused(
        cage, "ps", "--redis", away, code=1
    )


READS = "on >secret allkeys allchannels +@read +@connection +@pubsub +info +time +@scripting"


def allow(cage: Cage, rules: str) -> None:
    cage.client.execute_command("ACL", "SETUSER", *rules.split())


def test_who_may_not_look_is_told_so(own_cage: Cage) -> None:
    """And what to do about it; who may only read may look at everything."""
    cage = own_cage
    bury(cage, 9)
    cage.start(parrot(remember))
    cage.say(1)
    heard(cage, 1)
    cage.client.execute_command(
        *[
            "ACL",
            "SETUSER",
            "reader",
            "on",
            ">secret",
            "allkeys",
            "allchannels",
            "+@read",
            "+@connection",
            "+@pubsub",
        ],
        *["+info", "+time", "+evalsha_ro", "+eval_ro", "-@write"],
    )
    allow(cage, f"reader {READS} -@write")
    allow(cage, "nobody on >secret +@connection +info")
    address = cage.url.replace("redis://", "redis://{}:secret@")
    reader = address.format("reader")
    for command in ("ps", "rooms", "lag", "info cage", "memory parrot", "dead list", "trace"):
        ended = call(cage, *command.split(), "--redis", reader)
        assert ended.returncode == 0, (command, ended.stderr)
    for command in ("ps", "rooms", "lag"):
        assert "does not allow it" in refused(
            cage, command, "--redis", address.format("nobody"), code=1
        )


def test_top_draws_again_until_ctrl_c(cage: Cage) -> None:
    """On a terminal; elsewhere it shows one look and ends."""
    cage.start(parrot())
    assert "1 replicas" in shown(cage, "top", "--seconds", "0.1")
    assert found(cage, "top", "--seconds", "0.1")["replicas"][0]["component"] == "parrot"
    main, side = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "top", "--seconds", "0.1"],
        env={**environ(cage), "TERM": "xterm", "COLUMNS": "160", "LINES": "40"},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    seen = b""
    while seen.count(b"messages/s") < 3:
        seen += os.read(main, 4096)
    process.terminate()
    assert process.wait(10) == 0
    os.close(main)
