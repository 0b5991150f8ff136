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

from roomgrad import Component, Context, Message, RuntimeSettings, on, weights
from tests.integration.commands.command_line import COMMAND, call, environ, found, refused, shown
from tests.integration.conftest import EchoRun
from tests.integration.dead.dead_letters import make_dead_letter
from tests.integration.echo import ECHO, FORWARD, INPUT, OUTPUT, echo_component, listener, repeat
from tests.integration.test_model import Scale
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


def hear(message: Message, context: Context) -> None:
    context.counters.add("received")


def remember(message: Message, context: Context) -> Message:
    """A echo component that keeps in mind what it heard."""
    context.memory.put(message.root_id, received=message.array, words="hello")
    return repeat(message, context)


def heard(echo: EchoRun, count: int, component: str = "echo") -> None:
    until(lambda: echo.counter("received", component) == count)


def test_ps_shows_who_lives_and_who_does_not(echo: EchoRun) -> None:
    """Two replicas of one, none of the other."""
    echo.start(listener(hear)).stop()
    for _ in range(2):
        echo.start(echo_component())
    until(lambda: len(list(echo.client.scan_iter(match=echo.names.alive("*")))) == 2)
    rows = found(echo, "ps")["replicas"]
    assert [(row["component"], row["alive"]) for row in rows] == [
        ("echo", True),
        ("echo", True),
        ("listener", False),
    ]
    assert {row["pid"] for row in rows if row["alive"]} == {os.getpid()}
    text = shown(echo, "ps")
    assert re.search(r"listener +no replica", text)
    assert text.count("echo") == 2


def test_ps_shows_a_replica_that_is_long_in_a_handler(echo: EchoRun) -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait(message: Message, context: Context) -> Message:
        entered.set()
        leave.wait(60)
        return repeat(message, context)

    echo.start(echo_component(wait))
    echo.send(1)
    assert entered.wait(60)
    try:
        until(lambda: re.search(r"in one handler for \d", shown(echo, "ps")))
        (row,) = found(echo, "ps")["replicas"]
        assert row["pending"] == 1
    finally:
        leave.set()


def test_rooms_show_members_rates_and_what_waits(echo: EchoRun) -> None:
    """What is in nobody's hands waits for who is not there."""
    make_dead_letter(echo, 9)
    echo.start(echo_component())
    for number in range(3):
        echo.send(number)
    heard(echo, 3)
    rooms = {
        (each["room"], each["type"]): each
        for each in found(echo, "rooms", "--seconds", "0.1")["rooms"]
    }
    inputs, outputs = rooms["input", FORWARD.value], rooms["output", FORWARD.value]
    assert [(each["name"], each["replicas"]) for each in inputs["members"]] == [("echo", 1)]
    assert [(each["name"], each["replicas"]) for each in outputs["members"]] == [("listener", 0)]
    assert inputs["senders"] == ["echo"]
    assert (inputs["added"], inputs["dead"], inputs["lag"]) == (4, 1, 0)
    assert (outputs["added"], outputs["lag"]) == (3, 3)
    assert "listener x0" in shown(echo, "rooms", "--seconds", "0.1")


def test_rates_are_counted_not_guessed(echo: EchoRun) -> None:
    echo.start(echo_component())
    stop = threading.Event()

    def talk() -> None:
        while not stop.is_set():
            echo.send(1)

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        rooms = found(echo, "rooms", "--seconds", "1")["rooms"]
    finally:
        stop.set()
        talker.join()
    (rate,) = [each["rate"] for each in rooms if each["room"] == "input" and each["added"]]
    assert rate > 10


def test_info_shows_what_a_room_carries(echo: EchoRun) -> None:
    echo.start(echo_component())
    message = echo.send(1, 2.5)
    said = found(echo, "info", "input")
    assert said["carries"][0]["fields"]["DATA"] == "<f4 (n,)"
    assert said["carries"][0]["consumers"] == ["echo"]
    assert said["channel"] == echo.names.channel("input")
    assert said["subscribers"] == 1
    assert said["newest"][0]["fields"]["ID"] == message.id
    assert "[1.0,2.5]" in shown(echo, "info", "input")


def test_lag_shows_who_is_behind(echo: EchoRun) -> None:
    """Waiting for who is not there; nothing for whom all is done."""
    echo.start(echo_component())
    for number in range(2):
        echo.send(number)
    heard(echo, 2)
    rows = {(row["component"], row["room"]): row for row in found(echo, "lag")["groups"]}
    assert rows["listener", "output"]["waiting"] == 2
    assert rows["listener", "output"]["oldest_s"] > 0
    assert rows["echo", "input"]["waiting"] == rows["echo", "input"]["pending"] == 0
    assert rows["echo", "input"]["oldest_s"] is None
    assert "2 messages are not done yet." in shown(echo, "lag")


def test_memory_shows_records_and_one_of_them(echo: EchoRun) -> None:
    echo.start(echo_component(remember))
    messages = [echo.send(*range(20)), echo.send(1)]
    heard(echo, 2)
    all_ = found(echo, "memory", "echo")
    assert all_["total"] == 2
    one = found(echo, "memory", "echo", messages[0].root_id)["records"]
    assert one == {
        messages[0].root_id: {
            "ROOT_ID": f'"{messages[0].root_id}"',
            "received": "<f4 (20,): 0.0 1.0 2.0 3.0 4.0 5.0 …",
            "words": '"hello"',
        }
    }
    assert "remembers 2 records" in shown(echo, "memory", "echo")
    assert "remembers nothing of 'nobody'" in refused(echo, "memory", "echo", "nobody", code=1)


def test_a_record_that_cannot_be_read_is_shown_as_it_is(echo: EchoRun) -> None:
    echo.start(echo_component())
    echo.client.hset(echo.names.memory("echo"), "root", b"\xff\x1b[2J")
    text = shown(echo, "memory", "echo")
    assert "unreadable" in text
    assert "\x1b" not in text


class Stored(Scale):
    """The same model, kept as a safetensors file as torch's are."""

    def dump(self) -> memoryview:
        return memoryview(save({"weight": np.array([self.weight], dtype="<f4")}))

    def load(self, content: bytes | bytearray | memoryview) -> None:
        self.weight = float(load(bytes(content))["weight"][0])


def learner() -> Component:
    def scale(message: Message, context: Context) -> Message:
        return message.reply(OUTPUT, context.model.forward(message.arrays())["DATA"])

    handler = on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])(scale)
    return Component("echo", ECHO, RuntimeSettings, [handler], model=Stored)


def test_a_model_is_exported_and_imported(echo: EchoRun, tmp_path: Path) -> None:
    """The running component goes on with it."""
    replica = echo.start(learner())
    file = tmp_path / "weights.safetensors"
    before = found(echo, "model", "echo", "--export", str(file))
    stored = file.read_bytes()
    (tensor,) = weights.read(stored)
    assert np.frombuffer(tensor.data, "<f4").tolist() == [1.0]
    assert before["parameters"][0]["name"] == tensor.name
    assert "exists" in refused(echo, "model", "echo", "--export", str(file))
    shown(echo, "model", "echo", "--export", str(file), "--force")
    other = stored[: -len(tensor.data)] + bytes(len(tensor.data))  # all of it 0
    file.write_bytes(other)
    after = found(echo, "model", "echo", "--import", str(file))
    assert after["version"] != before["version"]
    assert after["step"] == before["step"]
    assert after["sha256"] != before["sha256"]
    assert echo.wait_reply(echo.send(7)).array.tolist() == [0.0]
    until(lambda: replica.status.version == after["version"])


def test_weights_that_do_not_fit_are_refused(echo: EchoRun, tmp_path: Path) -> None:
    echo.start(learner())
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"no weights")
    assert "not a safetensors file" in refused(echo, "model", "echo", "--import", str(file))
    before = found(echo, "model", "echo", "--export", str(file), "--force")
    stored = file.read_bytes()
    file.write_bytes(stored[:-4] + b"\x00\x00\xc0\x7f")
    assert "expected finite numbers" in refused(echo, "model", "echo", "--import", str(file))
    assert found(echo, "model", "echo") == before
    gone = str(tmp_path / "none")
    assert "cannot be read" in refused(echo, "model", "echo", "--import", gone)
    echo.start(listener(hear))
    assert "has no model" in refused(echo, "model", "listener", code=1)


def test_what_is_not_there_is_named_with_what_is(echo: EchoRun) -> None:
    echo.start(echo_component())
    assert "did you mean input?" in refused(echo, "info", "inpt")
    assert "there are @echo, @listener, _logging, errors, input, output" in refused(
        echo, "info", "zzz"
    )
    assert "did you mean echo?" in refused(echo, "memory", "eco")
    assert "there is no run 'nowhere'" in refused(echo, "ps", "--run", "nowhere")
    away = "redis://127.0.0.1:1"
    assert "no server answers at redis://127.0.0.1:1" in refused(
        echo, "ps", "--redis", away, code=1
    )


READS = "on >secret allkeys allchannels +@read +@connection +@pubsub +info +time +@scripting"


def allow(echo: EchoRun, rules: str) -> None:
    echo.client.execute_command("ACL", "SETUSER", *rules.split())


def test_who_may_not_look_is_told_so(own_echo: EchoRun) -> None:
    """And what to do about it; who may only read may look at everything."""
    echo = own_echo
    make_dead_letter(echo, 9)
    echo.start(echo_component(remember))
    echo.send(1)
    heard(echo, 1)
    echo.client.execute_command(
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
    allow(echo, f"reader {READS} -@write")
    allow(echo, "nobody on >secret +@connection +info")
    address = echo.url.replace("redis://", "redis://{}:secret@")
    reader = address.format("reader")
    for command in ("ps", "rooms", "lag", "info input", "memory echo", "dead list", "trace"):
        ended = call(echo, *command.split(), "--redis", reader)
        assert ended.returncode == 0, (command, ended.stderr)
    for command in ("ps", "rooms", "lag"):
        assert "does not allow it" in refused(
            echo, command, "--redis", address.format("nobody"), code=1
        )


def test_top_draws_again_until_ctrl_c(echo: EchoRun) -> None:
    """On a terminal; elsewhere it shows one look and ends."""
    echo.start(echo_component())
    assert "1 replicas" in shown(echo, "top", "--seconds", "0.1")
    assert found(echo, "top", "--seconds", "0.1")["replicas"][0]["component"] == "echo"
    main, side = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "top", "--seconds", "0.1"],
        env={**environ(echo), "TERM": "xterm", "COLUMNS": "160", "LINES": "40"},
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
    assert process.wait(60) == 0
    os.close(main)


def test_any_reader_that_doctor_names_can_be_forgotten(echo: EchoRun) -> None:
    """Also a group that the contract does not have, and in a run whose contract is unknown."""
    echo.start(echo_component())
    echo.send(1)
    key = echo.names.stream(str(INPUT), FORWARD)
    until(lambda: echo.client.exists(key))
    for contract in ("known", "unknown"):
        if contract == "unknown":
            echo.client.hdel(echo.names.run_info(), "contract")
        echo.client.xgroup_create(key, "stranger", "0")
        text = shown(echo, "forget", "stranger", "--run", echo.names.run)
        assert "stranger is forgotten" in text
        assert "1 groups removed" in text
        assert "stranger" not in {g["name"].decode() for g in echo.client.xinfo_groups(key)}
    said = refused(echo, "forget", "strangr", "--run", echo.names.run)
    assert "has no component 'strangr'" in said
